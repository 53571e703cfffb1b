"""The guest's carrier between a port and a pipe: it copies its standard input to its output, and says how much.

Written out as machine code, for a guest has no compiler and busybox nothing that counts: a port hands bytes to the host
in its own time, so whoever ends the machine must know how many are still to come. When its output is gone it reads on
and drops what comes, for nobody else takes what was already on its way. At the end of its input it writes the number of
bytes carried to descriptor 2, eight bytes, little-endian.
"""

import struct
from typing import Final

from sandbox.vm.calls import BASE, executable

CHUNK_BYTES: Final = 1 << 16
_BUFFER: Final = struct.pack("<I", BASE + 0x1000)
_SIZE: Final = struct.pack("<I", CHUNK_BYTES)

_LOOP: Final = (
    b"\x31\xc0\x31\xff\xbe" + _BUFFER + b"\xba" + _SIZE + b"\x0f\x05"  # read(0, buffer, size)
    b"\x48\x85\xc0\x7e\x37"  # nothing, or an error: to the end
    b"\x49\x89\xc4\x41\xbd" + _BUFFER + b"\x45\x85\xff\x75\xdd"  # r12: left, r13: from where; is the output gone?
)
_PUT: Final = (
    b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00\x4c\x89\xee\x4c\x89\xe2\x0f\x05"  # write(1, r13, r12)
    b"\x48\x85\xc0\x7e\x0d"  # it is gone
    b"\x49\x01\xc6\x49\x01\xc5\x49\x29\xc4\x75\xde"  # r14: carried; the rest, if any
    b"\xeb\xb9"  # more
)
_GONE: Final = b"\x41\xff\xc7\xeb\xb4"  # r15: the output is gone
_END: Final = (
    b"\x4c\x89\x34\x25" + _BUFFER + b"\xb8\x01\x00\x00\x00\xbf\x02\x00\x00\x00"
    b"\xbe" + _BUFFER + b"\xba\x08\x00\x00\x00\x0f\x05"  # write(2, r14's eight bytes)
    b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"  # exit(0)
)

RELAY: Final = executable(b"", _LOOP + _PUT + _GONE + _END, room=0x1000 + CHUNK_BYTES)
"""The program's file."""
