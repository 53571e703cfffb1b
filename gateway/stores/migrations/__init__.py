"""The schema's history (Alembic), and where it stands; `upgrade.py` plays it. Needs no ini file."""

OLDER: tuple[str, ...] = ()
"""Revisions that this code can upgrade from, oldest first."""
HEAD = "0001"
"""The revision that this code reads and writes; known here, so that a start need not load Alembic to compare."""
