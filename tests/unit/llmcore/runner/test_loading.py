"""Checkpoints that are not there, not whole, or not for us: each is told in one sentence."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from support.models import CACHE, smollm2_folder, tiny_checkpoint

from llmcore.errors import ModelError
from llmcore.runner.loading.gguf import converted
from llmcore.runner.loading.locate import Shipped, locate
from llmcore.runner.model_runner import ModelRunner


def refused(source: str | Path) -> str:
    with pytest.raises(ModelError) as raised:
        ModelRunner.load(source, cache_folder=CACHE, num_blocks=4, device="cpu", attention="reference")
    return str(raised.value)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-llama"
    tiny_checkpoint(folder, "llama")
    return folder


def edited(folder: Path, **settings: Any) -> Path:
    """Its configuration says something else."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def test_an_unknown_path_suggests_what_is_near(checkpoint: Path) -> None:
    assert f"did you mean {checkpoint}?" in refused(checkpoint.parent / "tiny-lama")
    assert "did you mean smollm2?" in refused("smolm2")
    assert "name a folder, a GGUF file, or smollm2" in refused("nothing-like-it")


def test_a_shipped_model_that_is_not_installed_says_how_it_is() -> None:
    with pytest.raises(ModelError, match="the model other is not installed here: pip install other"):
        locate("other", {"other": Shipped("no_such_package", "x.gguf", "pip install other")})


def test_a_folder_or_file_that_is_no_model_says_so(tmp_path: Path) -> None:
    assert "neither a config.json nor a GGUF file" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "is no model" in refused(tmp_path / "notes.txt")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    assert "several models, name one: a.gguf, b.gguf" in refused(tmp_path)


def test_an_unsupported_architecture_is_named(checkpoint: Path) -> None:
    sentence = refused(edited(checkpoint, architectures=["MambaForCausalLM"], model_type="mamba"))

    assert "is a MambaForCausalLM, which is not supported; supported are LlamaForCausalLM," in sentence


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "'longrope'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "'dynamic'"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized with another tool"),
    ],
)
def test_what_the_decoder_does_not_do_is_named(checkpoint: Path, settings: dict[str, Any], said: str) -> None:
    assert said in refused(edited(checkpoint, **settings))


def test_a_missing_tensor_and_a_wrong_shape_are_named(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    whole = load_file(weights)
    name = "model.layers.1.mlp.down_proj.weight"

    save_file({key: value for key, value in whole.items() if key != name}, weights)
    assert f"has no tensor {name}" in refused(checkpoint)

    save_file(whole | {name: torch.zeros(3, 4)}, weights)
    assert re.search(rf"{re.escape(name)} has the shape \(3, 4\) where the configuration says", refused(checkpoint))


def test_a_file_that_is_cut_short_is_named(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    assert f"{weights} cannot be read" in refused(checkpoint)

    weights.unlink()
    assert "has no model.safetensors" in refused(checkpoint)


def test_a_missing_part_of_several_is_named(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}})
    )

    assert "model-00002-of-00002.safetensors is missing" in refused(checkpoint)


def test_a_configuration_that_is_no_json_is_named(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("{")

    assert f"{checkpoint / 'config.json'} cannot be read" in refused(checkpoint)


def test_a_chat_model_ends_with_the_tokens_of_both_files(checkpoint: Path) -> None:
    edited(checkpoint, eos_token_id=1)
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))

    assert ModelRunner.load(checkpoint, cache_folder=CACHE, num_blocks=4, device="cpu").shape.eos == {1, 2, 3}


def test_the_digest_is_of_weights_and_configuration(checkpoint: Path) -> None:
    def digest() -> str:
        return ModelRunner.load(checkpoint, cache_folder=CACHE, num_blocks=4, device="cpu").shape.digest

    first = digest()
    assert digest() == first
    edited(checkpoint, rms_norm_eps=1e-4)
    assert digest() != first


# ---- GGUF -----------------------------------------------------------------------------------------------------------


def _numbers(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


LAYER = {f"blk.0.{name}.weight": _numbers(4, 4) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
LAYER |= {f"blk.0.ffn_{name}.weight": _numbers(8, 4) for name in ("gate", "up")}
LAYER |= {"blk.0.ffn_down.weight": _numbers(4, 8), "output_norm.weight": _numbers(4)}
LAYER |= {f"blk.0.{name}_norm.weight": _numbers(4) for name in ("attn", "ffn")}


def gguf(
    path: Path, architecture: str = "llama", tensors: Mapping[str, Any] | None = None, *, merges_are_whole: bool = True
) -> Path:
    """A tiny file that is right, but for the tensors it lacks."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(16)
    writer.add_embedding_length(4)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "ab", "c"] if merges_are_whole else ["a", "b", "c", "d"])
    writer.add_token_merges(["a b"])
    for name, tensor in {"token_embd.weight": _numbers(4, 4), **(tensors or {})}.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_corrupt_gguf_file_is_named(tmp_path: Path) -> None:
    not_one = tmp_path / "text.gguf"
    not_one.write_text("once upon a time")
    assert "is no GGUF file" in refused(not_one)

    cut = tmp_path / "cut.gguf"
    cut.write_bytes(locate("smollm2").read_bytes()[:200_000])
    assert f"{cut} cannot be converted" in refused(cut)
    assert not list(CACHE.glob("cut-*part*"))


def test_a_gguf_file_of_another_architecture_is_named(tmp_path: Path) -> None:
    sentence = refused(gguf(tmp_path / "other.gguf", "rwkv6"))

    assert "rwkv6" in sentence
    assert "LlamaForCausalLM" in sentence


def test_a_gguf_file_without_all_tensors_is_not_filled_up_at_random(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "is not whole: it has no tensor for model.layers.0." in refused(gguf(tmp_path / "few.gguf"))
    assert capfd.readouterr() == ("", ""), "nor does transformers speak to whoever reads our output"


def test_a_conversion_is_done_once_and_found_by_what_is_in_the_file(tmp_path: Path) -> None:
    told: list[float] = []
    moved = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    shutil.copyfile(locate("smollm2"), moved)

    assert converted(moved, CACHE, lambda what, done: told.append(done)) == smollm2_folder()
    assert told == []


def test_a_tokenizer_that_panics_is_one_sentence(tmp_path: Path) -> None:
    assert "cannot be converted" in refused(gguf(tmp_path / "odd.gguf", tensors=LAYER, merges_are_whole=False))


def test_a_gguf_file_with_all_tensors_becomes_a_model_that_says_the_same(tmp_path: Path) -> None:
    """A tiny one from end to end, and again with frequencies that its conversion would lose."""
    whole = gguf(tmp_path / "whole.gguf", tensors=LAYER)

    runner = ModelRunner.load(whole, cache_folder=tmp_path / "cache", num_blocks=4, device="cpu", attention="reference")

    assert (runner.shape.layers, runner.shape.vocabulary, runner.shape.window) == (1, 4, 16)
    assert runner.model.layers[0].mlp.down.weight.tolist() == LAYER["blk.0.ffn_down.weight"].tolist()  # type: ignore[union-attr, index]
    stretched = LAYER | {"rope_freqs.weight": _numbers(2)}
    assert "rope_freqs.weight" in refused(gguf(tmp_path / "long.gguf", tensors=stretched))
