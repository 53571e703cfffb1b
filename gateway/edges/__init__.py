"""Bytes in, bytes out: `/mcp` for agents, the operators' API and console, the forwarder, and what listens for them.

Not a place for decisions: an edge asks `ports.Corridor` for an agent, `control`, `desk` and `servers` for an operator.
"""
