"""How a client's connection opens: a head of HTTP, a first message of TLS; in time, and of a bounded size."""

import asyncio

from sandbox.egress.head import LIMIT_BYTES, Head, parse_head
from sandbox.egress.hello import BadHello, server_name
from sandbox.egress.refusal import Refusal
from sandbox.egress.streams import Peeked


async def read_head(client: Peeked, within_s: float) -> Head | None:
    """The next head; None: the client went without a word.

    Raises:
        Refusal: it is too large, too slow, or none.
    """
    try:
        async with asyncio.timeout(within_s):
            while (place := client.held.find(b"\r\n\r\n")) < 0 and len(client.held) <= LIMIT_BYTES:
                if not await client.more():
                    if not client.held:
                        return None
                    raise Refusal("a head that does not end", status=400)
    except TimeoutError:
        raise Refusal("no whole head in time", status=408) from None
    if not 0 <= place <= LIMIT_BYTES:
        raise Refusal("a head too large", status=431)
    return parse_head(client.taken(place + 4))


async def check_hello(client: Peeked, host: str, within_s: float) -> None:
    """Look at whom TLS asks for; nothing is taken.

    Raises:
        Refusal: another than `host`, or no TLS.
    """
    try:
        async with asyncio.timeout(within_s):
            while (name := server_name(bytes(client.held))) is None:
                if not await client.more():
                    raise Refusal("no TLS")
    except TimeoutError:
        raise Refusal("no whole first message of TLS in time") from None
    except BadHello as bad:
        raise Refusal(str(bad)) from None
    if name != host:
        raise Refusal("TLS to another name")
