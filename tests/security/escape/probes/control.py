"""The gateway itself: its port, sockets, store, keys and process, and the engine that starts containers."""

import os
import signal
import sqlite3
from contextlib import closing

from security.escape.probes.files import append, read
from security.escape.probes.network import HOST, connects, reaches_file
from security.escape.probes.table import Bait, call, probe


@probe("docker-socket", stopped_by="sandbox")
def _(bait: Bait) -> str:
    return reaches_file("docker-socket", f"{bait.open}/docker.sock")


@probe("docker-socket-where-it-usually-is", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str | None:
    there = [path for path in ("/var/run/docker.sock", "/run/docker.sock", bait.engine) if os.path.exists(path)]
    return f"sees {there}" if there else None


@probe("docker-over-tcp", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("docker-over-tcp", ("127.0.0.1", 2375))


@probe("gateway-port", stopped_by="network")
def _(bait: Bait) -> str:
    return connects("gateway-port", ("127.0.0.1", bait.ports["gateway"]))


@probe("approval-api", stopped_by="network")
def _(bait: Bait) -> str:
    """Would approve its own call."""
    return connects("approval-api", (HOST, bait.ports["gateway"]))


@probe("agent-socket", stopped_by="sandbox")
def _(bait: Bait) -> str:
    return reaches_file("agent-socket", f"{bait.state}/agent.sock")


@probe("control-socket", stopped_by="sandbox")
def _(bait: Bait) -> str:
    return reaches_file("control-socket", f"{bait.state}/control.sock")


@probe("state-listed", stopped_by="mounts", judged="word")
def _(bait: Bait) -> str:
    return f"sees {os.listdir(bait.state)}"


@probe("audit-database-read", stopped_by="mounts")
def _(bait: Bait) -> str:
    os.close(os.open(f"{bait.state}/pratique.db", os.O_RDONLY))  # a refusal is an OSError
    with closing(sqlite3.connect(f"file:{bait.state}/pratique.db?mode=ro&immutable=1", uri=True)) as database:
        return str(database.execute("SELECT payload FROM events").fetchall())


@probe("audit-database-written", stopped_by="mounts")
def _(bait: Bait) -> str:
    return append(f"{bait.state}/pratique.db", "audit-database-written")


@probe("audit-database-replaced", stopped_by="mounts")
def _(bait: Bait) -> str:
    append(f"{bait.state}/new.db", "audit-database-replaced")
    os.replace(f"{bait.state}/new.db", f"{bait.state}/pratique.db-wal")
    return "replaced"


@probe("signing-key", stopped_by="mounts")
def _(bait: Bait) -> str:
    return read(f"{bait.state}/keys/operator.key")


@probe("agents-token", stopped_by="mounts")
def _(bait: Bait) -> str:
    return read(f"{bait.state}/tokens/agent")


@probe("gateway-signalled", stopped_by="processes")
def _(bait: Bait) -> str:
    """A gateway that runs as the very user that sandboxes have."""
    os.kill(bait.victim, signal.SIGUSR1)
    return "sent"


@probe("gateway-signalled-by-descriptor", stopped_by="processes")
def _(bait: Bait) -> str:
    signal.pidfd_send_signal(os.pidfd_open(bait.victim), signal.SIGUSR2)
    return "sent"


@probe("gateway-traced", stopped_by="sandbox", judged="word")
def _(bait: Bait) -> str:
    call(bait, "ptrace", 0x4206, bait.victim, 0, 0)
    return "seized"


@probe("gateway-memory", stopped_by="processes")
def _(bait: Bait) -> str | None:
    """Its stack, where its arguments stand."""
    with open(f"/proc/{bait.victim}/maps") as maps:
        stack = next(line for line in maps if "[stack]" in line)
    start, end = (int(edge, 16) for edge in stack.split()[0].split("-"))
    with open(f"/proc/{bait.victim}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        held = memory.read(end - start)
    at = held.find(b"secret-")
    return held[at : at + 80].decode(errors="replace") if at >= 0 else None


@probe("gateway-limits", stopped_by="processes", judged="word")
def _(bait: Bait) -> str:
    call(bait, "prlimit64", bait.victim, 4, None, None)
    return "may be read and set"
