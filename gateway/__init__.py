"""The policy enforcement point (PEP): edges, the pipeline, stores, upstreams, and the composition root.

Not a place where decisions are made: those are values of `policies`, folded by `gateway.pipeline`.
"""
