"""The in-process LLM: a paged KV cache, an auditing scheduler, a model runner, and the engine that turns between them.

Requests are processes, KV blocks are pages, a block table is a page table. `engine.py` is the place to start: a step is
schedule, run, postprocess. Everything outside `runner/` works without torch and is tested without it.

Never on the authorisation path: what a model says is data with a label, not a decision. Tenants, domains and owners are
opaque strings here; whoever embeds the engine gives them their meaning.
"""
