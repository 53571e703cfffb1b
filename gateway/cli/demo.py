"""`pratique demo`: the travel agent's day against a gateway of its own, which then stays up to be looked at."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="Let the demo's own person decide, check, and end.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the gateway listens.")] = 8808,
) -> None:
    """Play the travel agent's day: wired straight to its tools, and through Pratique."""
    from gateway.cli.play import play  # noqa: PLC0415  the whole gateway: other commands need not wait for it

    folder = Path(tempfile.mkdtemp(prefix="pratique-demo-"))
    try:
        asyncio.run(play(folder, once=once, port=port))
    except KeyboardInterrupt:
        print("\nstopped")
    finally:
        shutil.rmtree(folder)
