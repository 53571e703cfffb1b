"""The tamper-evident log: events, Merkle tree, signed checkpoints, proofs, query, and an offline verifier.

Evidence for strangers, never logging for operators. Knows nothing of `gateway`: it writes through whatever connection
it is given.
"""
