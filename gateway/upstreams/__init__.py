"""The only holders of a road to a tool: a table of sandboxed servers, and the connections to them.

Reached through `ports.Road` alone. Starts nothing by itself: how a server becomes a process is handed in (`walls.py`).
"""
