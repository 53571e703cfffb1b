"""Measurements of `llmcore`: its speed against other engines, and its schedulers under a virtual clock."""
