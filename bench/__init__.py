"""Benches: what the gateway costs beside a bare SDK proxy and beside nothing. Never timed tests; ratios of one run."""
