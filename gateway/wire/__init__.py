"""MCP as messages, both eras, both sides: bytes in, a value or a refusal out, and back.

No sockets, no clock, no state but a legacy session's; who may ask what is not its business.
"""
