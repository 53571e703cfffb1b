"""The `/v1` path: OpenAI's completions for any client that speaks them, from the gateway's own model.

`edge.py` is the place to start. It decides nothing: a body becomes the arguments of one action of the corridor, and its
answer takes the shape that the client expects. It is not a way to a tool, and it holds no model.
"""
