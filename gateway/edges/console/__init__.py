"""The approvers' pages: what waits, what was refused, what a task did, what servers now say of themselves.

Readable without scripts; deciding needs the key that the browser keeps.
"""
