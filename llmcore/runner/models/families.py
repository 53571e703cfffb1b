"""Which architectures are cases of our decoder, and how a checkpoint's `config.json` says so."""

from collections.abc import Mapping
from typing import Any, Final

from llmcore.errors import ModelError
from llmcore.runner.layers import RopeSettings
from llmcore.runner.layers.rope import KINDS
from llmcore.runner.models.config import ModelConfig

SUPPORTED: Final = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def check_architecture(config: Mapping[str, Any], where: str) -> str:
    """The architecture's name.

    Raises:
        ModelError: it is none of ours.
    """
    names = config.get("architectures") or [f"model type {config.get('model_type', 'unknown')!r}"]
    for name in names:
        if name in SUPPORTED:
            return str(name)
    raise ModelError(f"{where} is a {names[0]}, which is not supported; supported are {', '.join(SUPPORTED)}")


def model_config(config: Mapping[str, Any], *, architecture: str, name: str) -> ModelConfig:
    """`config` has its defaults filled in (transformers' `to_dict`).

    Raises:
        ModelError: it asks for something that the decoder does not do.
    """
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{name} has the activation {config['hidden_act']!r}; only silu is supported")
    if config.get("quantization_config"):
        raise ModelError(f"{name} is quantized with another tool; take its full-precision checkpoint or a GGUF file")
    heads = config["num_attention_heads"]
    attention_bias = bool(config.get("attention_bias"))
    return ModelConfig(
        name=name,
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        window=_window(config),
        norm_eps=config["rms_norm_eps"],
        rope=_rope(config, name),
        qkv_bias=attention_bias or architecture == "Qwen2ForCausalLM",
        out_bias=attention_bias,
        mlp_bias=bool(config.get("mlp_bias")),
        qk_norm=architecture == "Qwen3ForCausalLM",
        tied=bool(config.get("tie_word_embeddings")),
        eos=_eos(config.get("eos_token_id")),
    )


def _window(config: Mapping[str, Any]) -> int:
    window: int = config["max_position_embeddings"]
    sliding = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return min(window, sliding) if sliding else window


def _rope(config: Mapping[str, Any], name: str) -> RopeSettings:
    found = config.get("rope_parameters") or {}
    kind = found.get("rope_type", "default")
    if kind not in KINDS:
        raise ModelError(
            f"{name} has position embeddings of kind {kind!r}, which are not supported; these are: {', '.join(KINDS)}"
        )
    if found.get("partial_rotary_factor", 1.0) != 1.0 or found.get("mscale_all_dim"):
        raise ModelError(f"{name} turns only a part of each head, or scales attention its own way: not supported")
    window = config["max_position_embeddings"]
    original = found.get("original_max_position_embeddings") or window
    return RopeSettings(
        kind=kind,
        theta=found.get("rope_theta") or 10_000.0,
        factor=found.get("factor") or (window / original if kind == "yarn" else 1.0),
        original_window=original,
        low_freq_factor=found.get("low_freq_factor") or 1.0,
        high_freq_factor=found.get("high_freq_factor") or 4.0,
        beta_fast=found.get("beta_fast") or 32.0,
        beta_slow=found.get("beta_slow") or 1.0,
        attention_factor=found.get("attention_factor"),
        truncate=found.get("truncate", True),
    )


def _eos(found: int | list[int] | None) -> frozenset[int]:
    if found is None:
        return frozenset()
    return frozenset(found if isinstance(found, list) else [found])
