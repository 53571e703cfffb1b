"""Servers that break every rule, behind the gateway's own end of their streams: named, ended, nobody else's loss."""

import asyncio
import signal

import pytest
from conformance.running import CAT, END_S, ask, running, shell

from gateway.errors import UpstreamError
from gateway.upstreams.stdio import Connection
from gateway.wire import upstream
from sandbox.driver import Driver

pytestmark = pytest.mark.promise("conformance-ends")

RESULT_BYTES = 100_000
SILENT_S, LOUD_S = 2.0, 30.0
BAD = {
    "one that talks in its sleep": ("while :; do echo not json at all; done", LOUD_S, "flooded its output"),
    "one that writes bytes": ("cat /dev/urandom", LOUD_S, "more than 100000 bytes|flooded its output"),
    "one that never ends its line": ("yes '{\"x\":' | tr -d '\\n'", LOUD_S, "a line of more than 100000 bytes"),
    "one that says nothing": ("exec sleep 600", SILENT_S, "no answer within"),
    "one that ends at once": ("exit 3", LOUD_S, "the server ended|closed its input"),
    "one that ends when asked": ("read line; echo '{\"jsonrpc\":'; exit 3", LOUD_S, "the server ended"),
    "one that closes its mouth": ("exec >&-; exec sleep 600", SILENT_S, "the server ended|no answer within"),
    "one that complains for ever": ("cat /dev/zero >&2", SILENT_S, "no answer within"),
}
"""What it does, how long an answer is waited for, and what the gateway says of it."""
FORKED = "trap '' TERM; (trap '' TERM; setsid sleep 600 &) ; "
"""All of them leave a daemon behind and hear no signal."""


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_server_is_named_and_ended_and_its_neighbour_answers(driver: Driver, name: str) -> None:
    source, timeout_s, complaint = BAD[name]
    async with running(driver, CAT) as neighbour, running(driver, shell(FORKED + source)) as session:
        connection = Connection(session=session, max_result_bytes=RESULT_BYTES)
        connection.open()
        with pytest.raises(UpstreamError, match=complaint):
            await connection.ask(upstream.initialize("hello"), "hello", timeout_s)
        async with asyncio.timeout(END_S):
            status = await connection.close(politely=False)
        assert status in {3, 128 + signal.SIGKILL}
        assert await ask(neighbour, b"alive\n") == b"alive\n"
