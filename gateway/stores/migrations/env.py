"""Run by Alembic, never imported: migrate over the connection that `upgrade.py` put into the settings."""

from alembic import context

from audit.schema import metadata as audit
from gateway.stores.schema import metadata as gateway

context.configure(
    connection=context.config.attributes["connection"], target_metadata=[gateway, audit], compare_type=True
)
context.run_migrations()
