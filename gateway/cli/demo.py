"""`pratique demo`: the travel agent's day against a gateway of its own, which then stays up to be looked at."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Coroutine
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
        asyncio.run(_until_told(play(folder, once=once, port=port)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("\nstopped", flush=True)
    finally:
        shutil.rmtree(folder)


async def _until_told(playing: Coroutine[None, None, None]) -> None:
    """Play; SIGTERM and SIGHUP end it as Ctrl-C does, each but once so that the taking down is not cut short."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        if not task.cancelling():
            task.cancel()

    for one in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(one, end)
    await playing
