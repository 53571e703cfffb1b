"""What is on disk, a file per noun, and the one writer that puts it there; `memory` is what snapshots are made from.

Not a place for rules: a unit of `stages` or `desk` decides what a row becomes. `schema` and `migrations` are the only
tables that SQLAlchemy sees; the hot statements go through the driver.
"""
