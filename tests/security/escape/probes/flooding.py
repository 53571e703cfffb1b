"""More output than anybody reads: `flooding.py STREAM BYTES SHAPE [UID]`, then how much was taken, on the other stream.

SHAPE is `lines`, or `line` for one that never ends.
"""

import os
import sys
import time

PATIENCE_S = 1.5
"""Without a byte taken for so long, it gives up."""


def main(stream: str, most: str, shape: str, uid: str = "") -> None:
    if uid:
        os.setresuid(int(uid), int(uid), int(uid))
    flooded = int(stream)
    block = (b"x" * 127 + b"\n") * 256 if shape == "lines" else b"x" * (1 << 15)
    os.set_blocking(flooded, False)
    taken, since = 0, time.monotonic()
    while taken < int(most) and time.monotonic() - since < PATIENCE_S:
        try:
            taken += os.write(flooded, block)
            since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    os.write(3 - flooded, f"{taken}\n".encode())
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
