"""The protocol's revisions, and the era each belongs to."""

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Reached by `initialize`, oldest first: the legacy era."""
MODERN = "2026-07-28"
"""The one revision so far whose every request carries its own envelope."""
