"""The in-process LLM's room: paged KV cache, scheduler, model runner, engine. Empty until that part lands.

Never on the authorisation path: what a model says is data with a label, not a decision.
"""
