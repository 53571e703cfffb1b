"""A program that makes the system calls it was given, one after another, and then becomes another program or ends.

The guest runs it to build a sandbox around a program, and it is made anew for each start: arguments, environment,
limits and seeds lie in it as data, so that nothing is quoted, looked up or parsed in the guest, and nothing but a
kernel is needed there. It is an ELF file of one segment: data first, whose addresses are known, then code.
See the psABI for x86-64 (A.2, calling conventions of the kernel).
"""

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

BASE: Final = 0x400000
NUMBERS: Final = {
    "write": 1,
    "open": 2,
    "close": 3,
    "ioctl": 16,
    "execve": 59,
    "chdir": 80,
    "mkdir": 83,
    "umask": 95,
    "mknod": 133,
    "setsid": 112,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "prctl": 157,
    "setrlimit": 160,
    "chroot": 161,
    "mount": 165,
    "clock_settime": 227,
    "exit_group": 231,
    "close_range": 436,
}

FAILED: Final = 126
"""The status when a call failed. What it was is written to standard error."""
NOT_RUN: Final = 127
"""The status when there was no such program to become, as of a shell."""

Argument: TypeAlias = int | bytes
"""A number, or what a pointer is to point at."""

_HEADER_BYTES: Final = 64 + 56
_REGISTERS: Final = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
"""movabs into rdi, rsi, rdx, r10, r8, r9."""
_INTO_RAX: Final = b"\x48\xb8"
_CALL: Final = b"\x0f\x05"
_IS_ERROR: Final = b"\x48\x85\xc0\x79"
"""test rax, rax; jns: skip as many bytes as the next one says."""


@dataclass(slots=True)
class Calls:
    """The program so far."""

    _data: bytearray = field(default_factory=bytearray)
    _code: bytearray = field(default_factory=bytearray)

    def call(self, name: str, *arguments: Argument, failing: str | None = None) -> None:
        """Make a call; if it fails, say `failing` (its name unless told) and end with `FAILED`."""
        self._make(name, arguments)
        self._on_error(failing or name, FAILED)

    def try_call(self, name: str, *arguments: Argument) -> None:
        """Make a call whose failure does not matter."""
        self._make(name, arguments)

    def write_file(self, path: str, content: bytes) -> None:
        """Into a file that exists. Descriptor 3, the lowest that is free, must be so."""
        self.call("open", cstring(path), os.O_WRONLY, 0, failing=path)
        self.call("write", 3, content, len(content), failing=path)
        self.call("close", 3)

    def become(self, argv: Sequence[str], env: Mapping[str, str]) -> bytes:
        """End as another program, looked up in `env`'s PATH unless it is a path; returns the file."""
        words, variables = self._strings(argv), self._strings([f"{name}={value}" for name, value in env.items()])
        folders = [""] if "/" in argv[0] else [f"{folder}/" for folder in env["PATH"].split(":")]
        for folder in folders:
            self._make("execve", (cstring(folder + argv[0]), words, variables))
        self._on_error(f"{argv[0]} cannot be run", NOT_RUN)
        return self._file()

    def end(self) -> bytes:
        """End well; returns the file."""
        self._make("exit_group", (0,))
        return self._file()

    def _make(self, name: str, arguments: Sequence[Argument]) -> None:
        for register, argument in zip(_REGISTERS, arguments, strict=False):
            self._code += register + struct.pack("<Q", self._value(argument) & 0xFFFFFFFFFFFFFFFF)
        self._code += _INTO_RAX + struct.pack("<Q", NUMBERS[name]) + _CALL

    def _on_error(self, said: str, status: int) -> None:
        if len(said) > 200:
            said = said[:200]
        line = f"sandbox: {said}\n".encode()
        handler = Calls(_data=self._data)
        handler._make("write", (2, line, len(line)))
        handler._make("exit_group", (status,))
        self._code += _IS_ERROR + struct.pack("<B", len(handler._code)) + handler._code

    def place(self, content: bytes) -> int:
        """Put something into the program; returns its address."""
        self._data += bytes(-len(self._data) % 8)
        address = BASE + _HEADER_BYTES + len(self._data)
        self._data += content
        return address

    def _value(self, argument: Argument) -> int:
        return argument if isinstance(argument, int) else self.place(argument)

    def _strings(self, words: Sequence[str]) -> bytes:
        """A vector of pointers to strings, ended by a null pointer."""
        return struct.pack(f"<{len(words) + 1}Q", *(self._value(cstring(word)) for word in words), 0)

    def _file(self) -> bytes:
        return executable(bytes(self._data), bytes(self._code))


def executable(data: bytes, code: bytes, *, room: int = 0) -> bytes:
    """An ELF file that starts with the first byte of `code`, with at least `room` bytes of memory from `BASE` on."""
    size = _HEADER_BYTES + len(data) + len(code)
    entry = BASE + _HEADER_BYTES + len(data)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, max(size, room), 4096)
    return header + segment + data + code


def cstring(text: str) -> bytes:
    """Raises ValueError where a NUL would cut it short."""
    if "\0" in text:
        raise ValueError("a NUL in an argument or a variable")
    return text.encode(errors="surrogateescape") + b"\0"
