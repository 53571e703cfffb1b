"""The child of `process.py`: `python -P -m llmcore.hosts.child`, its messages on standard input and output.

It lives no longer than its parent: the pipe's end ends it at once, wherever it is, and the kernel kills it should the
parent's thread die first.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence as Many
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, Final

import msgspec

from llmcore.errors import LlmError
from llmcore.hosts.build import Build, build_service
from llmcore.hosts.config import HostConfig
from llmcore.hosts.frames import FromChild, Loading, NotLoaded, framed, read_frame, to_engine
from llmcore.messages import ToEngine
from llmcore.service import serve

_PR_SET_PDEATHSIG: Final = 1


def main(build: Build = build_service) -> int:
    """Serve one engine until the parent says stop; the exit status."""
    _die_with_the_parent()
    source, sink = _taken_input(), _taken_output()
    first = read_frame(source)
    if first is None:
        return 1
    config = msgspec.msgpack.decode(first, type=HostConfig)
    inbox: SimpleQueue[ToEngine] = SimpleQueue()
    Thread(target=_listen, args=(source, inbox), name="parent", daemon=True).start()

    def say(messages: Many[FromChild]) -> None:
        with suppress(BrokenPipeError):  # the parent has died: its pipe's other end says so too
            sink.write(framed(messages))
            sink.flush()

    try:
        service, loaded = build(config, lambda doing, done: say([Loading(doing, done)]))
    except LlmError as error:
        say([NotLoaded(str(error))])
        return 1
    say([loaded])
    return 0 if serve(service, inbox, say) else 1


def _listen(source: BinaryIO, inbox: SimpleQueue[ToEngine]) -> None:
    while (frame := read_frame(source)) is not None:
        for message in to_engine.decode(frame):
            inbox.put(message)
    os._exit(1)  # nobody is left to answer, and the main thread may be deep in a kernel


def _taken_input() -> BinaryIO:
    """The pipe from the parent. Not `sys.stdin`: an interpreter that ends closes that, and dies of a thread in it."""
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb")


def _taken_output() -> BinaryIO:
    """The pipe to the parent; whatever prints from now on prints to standard error."""
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(sink, "wb")


def _die_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main())
