"""Play the migrations on an open connection."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configured(connection: Connection) -> Config:
    """Alembic's settings without an ini file: the scripts are this package's, the connection is the caller's."""
    config = Config()
    config.set_main_option("script_location", "gateway.stores:migrations")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest revision, inside the caller's transaction."""
    command.upgrade(configured(connection), "head")
