"""The model's side of llmcore, the only one with torch: `model_runner.py` turns a plan into tokens.

`models/` the networks, of `layers/`; `attention/` over the paged cache of `kv_cache.py`; `loading/` checkpoints;
`sampler.py` logits into tokens; `probing.py` what this machine runs best.
"""
