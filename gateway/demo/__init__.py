"""The travel agent's day: four servers, one gullible agent, and what becomes of it with and without the gateway.

Not a test and not a benchmark: what a newcomer sees in the first minute. The only room besides `sandbox` that starts
processes, as its left column is the agent wired straight to its servers.
"""
