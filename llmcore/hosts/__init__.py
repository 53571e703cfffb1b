"""Where an engine lives: a thread of the gateway's process, or a child process; the same messages either way.

Whoever uses a model talks to `llmcore.client.Client`, which sits on a host. Nothing else here is for them but `config`.
"""
