"""Four ordinary MCP servers with real state, one SQLite file each: calendar, flights, bank, mail.

They know nothing of the gateway, and would run the same behind any other MCP client.
"""
