"""Other engines on torch: transformers' `generate` and its continuous batching, on the same weights."""

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.utils import logging

from bench.llm.case import Answers, Case
from bench.llm.workload import NEW, NUM_BLOCKS, OWN, REQUESTS, SHARED, STEP_TOKENS, instructions, prompts


def cases(folder: Path) -> Iterator[Case]:
    """`folder` is a checkpoint in Hugging Face's format."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # names that they are about to change
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    peer = _Peer(model)
    yield Case(engine="transformers generate, batched", sharing="off", setup=peer.batched)
    yield Case(engine="transformers generate, prefix computed once", sharing="cold", setup=peer.prefix_cold)
    yield Case(engine="transformers generate, prefix computed once", sharing="warm", setup=peer.prefix_warm)
    for sharing in ("off", "cold", "warm"):
        yield Case(
            engine="transformers continuous batching",
            sharing=sharing,
            setup=lambda sharing=sharing: peer.continuous(sharing),  # type: ignore[misc]
        )


class _Peer:
    def __init__(self, model: Any) -> None:
        self._model = model

    def batched(self) -> Callable[[], Answers]:
        return lambda: self._generate(None)

    def prefix_cold(self) -> Callable[[], Answers]:
        return lambda: self._generate(self._prefix())

    def prefix_warm(self) -> Callable[[], Answers]:
        prefix = self._prefix()
        return lambda: self._generate(copy.deepcopy(prefix))

    def continuous(self, sharing: str) -> Callable[[], Answers]:
        """A new manager, or for `warm` one that has answered others."""
        self._model.destroy_cached_continuous_batching_manager()
        if sharing == "warm":
            self._continue(prompts(others=True), sharing)
        return lambda: self._continue(prompts(), sharing)

    @torch.inference_mode()
    def _prefix(self) -> Any:
        cache = DynamicCache(config=self._model.config)
        self._model(torch.tensor([instructions()]), past_key_values=cache, logits_to_keep=1)
        return cache

    @torch.inference_mode()
    def _generate(self, cache: Any) -> Answers:
        asked = torch.tensor(prompts())
        settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        if cache is not None:
            cache.batch_repeat_interleave(REQUESTS)
            settings["past_key_values"] = cache
        said = self._model.generate(asked, attention_mask=torch.ones_like(asked), **settings)
        answers: Answers = said[:, SHARED + OWN :].tolist()
        return answers

    def _continue(self, asked: list[list[int]], sharing: str) -> Answers:
        found = self._model.generate_batch(
            asked,
            generation_config=GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=16,
                num_blocks=NUM_BLOCKS,
                max_batch_tokens=STEP_TOKENS,
                allow_block_sharing=sharing != "off",
            ),
            persistent_manager=sharing == "warm",
        )
        by_prompt = {tuple(one.prompt_ids): list(one.generated_tokens) for one in found.values()}
        return [by_prompt[tuple(prompt)] for prompt in asked]
