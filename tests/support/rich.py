"""`tests/servers/rich.py` as a server of the gateway, and as a command."""

import sys
from pathlib import Path

from gateway.options import Access, Mount, ServerOptions

SERVERS = Path(__file__).parents[1] / "servers"
PACK = SERVERS / "rich.toml"
ERAS = ("legacy", "modern")
TOOLS = 13
"""How many it has."""


def command(era: str) -> tuple[str, ...]:
    return (sys.executable, "-P", str(SERVERS / "rich.py"), era)


def rich(era: str, log: Path) -> ServerOptions:
    """Named after its era; it writes in the folder `log`, to a file of that name, what was cancelled."""
    return ServerOptions(
        name=era,
        command=command(era),
        env={"RICH_LOG": str(log / era)},
        mounts=(Mount(path=SERVERS), Mount(path=log, access=Access.DIRECT)),
        pack=str(PACK),
    )
