"""The Docker driver: one hardened container a program, with runc or with gVisor.

    start   (1) checks, and the image: the spec's, or an empty one that the host's programs are bound into
            (2) a container is made, with a shim as its program; from here on, whatever fails removes it
            (3) its streams are attached and its end is awaited, before it starts
            (4) it starts; the forwarder joins it where there is an outlet, and listens
            (5) the shim is told to go, and becomes the program

Every container carries its owner's label. One that dies has them removed by its watchdog (`reaper.py`), and if that
died too, by whoever looks for an engine next.
"""

import asyncio
import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from sandbox.docker import container, reaper, view
from sandbox.docker.engine import CALL_S, Answer, Engine, Refused, find_socket, unreachable
from sandbox.docker.images import Images
from sandbox.docker.kernel import why_shared
from sandbox.docker.mends import LOG, mend_for
from sandbox.docker.profile import profile
from sandbox.docker.session import DockerSession, Remover
from sandbox.docker.stream import Stream
from sandbox.docker.user import User, user_for
from sandbox.driver import KERNEL, SYSCALLS, Capabilities, Outlet
from sandbox.egress import forwarder
from sandbox.errors import SandboxError
from sandbox.mounts import checked
from sandbox.probe import INSIDE, LIMITS, verify
from sandbox.runtime import resolve
from sandbox.spec import Spec

Name = Literal["runc", "gvisor"]

RUNTIMES: Final = {"runc": "runc", "gvisor": container.GVISOR}
"""What the engine calls them."""

SPARED: Final = {"runc": frozenset[str](), "gvisor": frozenset({"clone3"})}
"""gVisor says EPERM where our rules say ENOSYS, and then no thread would start; what clone3 makes there is gVisor's."""

FIND_S: Final = 5.0
START_S: Final = 60.0
LISTEN_S: Final = 20.0
"""How long the forwarder may take until it listens."""

GVISOR_LIMITS: Final = replace(LIMITS, memory_bytes=320 << 20)
"""For the probe: gVisor's own memory is the container's too, 25 MiB and 5 for each process."""

SPARE_PIDS: Final = 3 * GVISOR_LIMITS.pids

LOOSE: Final = (
    "gVisor looks at the limit on processes at one fork in seven: a program passes it by a few, and one that insists "
    "by half, where the host's own limit ends the sandbox"
)
"""Seen in its source: `Task.chargeLocked` asks one control group at random."""

ANSWERED: Final = (
    "gVisor's own kernel answers calls that the other drivers refuse; the host's sees only that a set-uid file may be "
    "left in a writable mount; with runsc's option --oci-seccomp they are refused as well"
)

SHARED: Final = "containers share the host's kernel: use the driver gvisor or vm."


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """Starts programs in containers of one engine, by one runtime."""

    name: Name
    engine: Engine
    seccomp: str = field(repr=False)
    cgroup_namespace: bool
    images: Images = field(repr=False)
    remover: Remover = field(repr=False)

    @classmethod
    def find(cls, name: Name, *, timeout_s: float = FIND_S) -> "Docker":
        """The driver for this machine's engine, not yet proven to work: that is `probe`. Asks the engine, and waits.

        Raises:
            SandboxError: no engine, no permission, no answer, or no such runtime; no filter for this processor.
        """
        socket = find_socket()
        info = _info(socket, timeout_s)
        if RUNTIMES[name] not in (info.get("Runtimes") or {}):
            raise SandboxError("docker", f"the engine has no runtime {RUNTIMES[name]!r}", mend_for("unknown runtime"))
        try:
            filter_ = profile(spared=SPARED[name])
        except KeyError as unknown:
            raise SandboxError("seccomp", f"no filter for {unknown}", "Run on x86_64 or aarch64.") from unknown
        engine = Engine(socket=socket)
        return cls(
            name=name,
            engine=engine,
            seccomp=filter_,
            cgroup_namespace="name=cgroupns" in (info.get("SecurityOptions") or ()),
            images=Images(engine=engine),
            remover=Remover(engine=engine),
        )

    async def probe(self) -> Capabilities:
        if self.name == "runc":
            found = await verify(self, mend_for)
            return replace(found, why_not={**found.why_not, KERNEL: SHARED})
        found = await verify(self, mend_for, limits=GVISOR_LIMITS, spare_pids=SPARE_PIDS)
        if why := await why_shared(self):
            return replace(found, why_not={**found.why_not, KERNEL: why})
        return _own_kernel(found)

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> DockerSession:
        starting = asyncio.create_task(self._start(spec, outlet), name="container start")
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.create_task(_abandon(starting)))  # a half-made container has no end of its own
            raise

    async def _start(self, spec: Spec, outlet: Outlet | None) -> DockerSession:
        spec, python = forwarder.equipped(spec) if outlet else (spec, "")  # (1)
        spec = spec if spec.image else resolve(spec)
        checked(spec.mounts)
        user = user_for(spec.mounts)
        pids = container.pids_of(spec, forwarder=outlet is not None)
        await self.remover.catch_up()
        self._guard()

        name = f"pratique-{secrets.token_hex(8)}"
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.remover.remove, name)
            await self._create(name, spec, user, pids)  # (2)
            output = await self._attach(undo, name, stdin=1, stdout=1)  # (3)
            errors = await self._attach(undo, name, stderr=1)
            exit_ = await self._exit(undo, name)
            await self.engine.call("POST", f"/containers/{name}/start", timeout_s=START_S)  # (4)
            serving = await self._serve(undo, name, python, outlet) if outlet else None
            await self._limit(name, spec, pids)
            output.writer.write(container.GO)  # (5)
            undo.pop_all()
        return DockerSession(
            remover=self.remover, container=name, output=output, errors=errors, exit=exit_, serving=serving
        )

    def _guard(self) -> None:
        try:
            reaper.guard(self.engine.socket)
        except OSError as failed:
            raise SandboxError("watchdog", str(failed), "See that this process may start others.") from failed

    async def _create(self, name: str, spec: Spec, user: User, pids: int) -> None:
        try:
            await self._create_from(name, spec, user, pids)
        except Refused as refused:
            if refused.status != 404:
                raise
            self.images.forget()  # its image is not there any more
            await self._create_from(name, spec, user, pids)

    async def _create_from(self, name: str, spec: Spec, user: User, pids: int) -> None:
        mounts = spec.mounts
        if spec.image is not None:
            image = await self.images.of(spec.image)
        else:
            image = await self.images.of_content(view.root(user))
            mounts = (*view.system_mounts(spec), *mounts)
        request = container.request(
            spec,
            image=image,
            user=user,
            mounts=mounts,
            labels=reaper.labels(),
            runtime=RUNTIMES[self.name],
            pids=pids,
            seccomp=self.seccomp,
            cgroup_namespace=self.cgroup_namespace,
        )
        await self.engine.call("POST", "/containers/create", request, query={"name": name})
        if spec.image is not None:
            await self.images.check_shell(spec.image, name)

    async def _attach(self, undo: AsyncExitStack, name: str, **streams: int) -> Stream:
        kind = 2 if "stderr" in streams else 1
        stream = await self.engine.attach(f"/containers/{name}/attach", kind, query={"stream": 1, **streams})
        undo.callback(stream.abort)
        return stream

    async def _exit(self, undo: AsyncExitStack, name: str) -> Answer:
        async with asyncio.timeout(CALL_S):
            answer = await self.engine.ask("POST", f"/containers/{name}/wait", query={"condition": "next-exit"})
        undo.callback(answer.close)
        return answer

    async def _limit(self, name: str, spec: Spec, pids: int) -> None:
        """Let the program have no more processes than it may, now that the runtime needs none of its own.

        gVisor's own limit is set by root, with the host's shell. An image's would be a stranger's program, and root's
        is what it could read and leave in the mounts: there the host's limit, which is looser, has to do.
        """
        if self.name == "gvisor":
            if spec.image is not None:
                return
            stream = await self._beside(name, container.limit_inside(pids), user="0:0")
            said = await _line(stream)
            stream.abort()
            if said != container.LIMITED:
                what = f"gVisor's limit on processes could not be set ({said.decode(errors='replace').strip()})"
                raise SandboxError("gvisor", what, "Use a current runsc, with its control groups inside.")
        elif container.host_pids(pids, RUNTIMES[self.name]) < container.SPARE_PIDS:
            await self.engine.call("POST", f"/containers/{name}/update", {"PidsLimit": pids})

    async def _serve(self, undo: AsyncExitStack, name: str, python: str, outlet: Outlet) -> "asyncio.Task[None]":
        """Run the forwarder beside the program that is still held, and hand its stream to the outlet."""
        stream = await self._beside(name, forwarder.command(python, "0", "1"))
        undo.callback(stream.abort)
        if (said := await _line(stream)) != forwarder.READY:
            what = f"does not listen ({said.decode(errors='replace').strip() or 'no answer'})"
            raise SandboxError("forwarder", what, f"See that {python} runs in the sandbox.")
        serving = asyncio.create_task(_carry(outlet, stream), name="container outlet")
        undo.callback(serving.cancel)
        return serving

    async def _beside(self, name: str, argv: list[str], user: str = "") -> Stream:
        """Run another program in a container; its stdin and stdout."""
        how = {"AttachStdin": True, "AttachStdout": True, "Cmd": argv, "User": user}
        made: Any = await self.engine.call("POST", f"/containers/{name}/exec", how)
        return await self.engine.attach(f"/exec/{made['Id']}/start", 1, {"Detach": False, "Tty": False})


async def _line(stream: Stream) -> bytes:
    """The first line that comes, or what there is of it."""
    try:
        async with asyncio.timeout(LISTEN_S):
            return (await stream.reader.readline())[:200]
    except (TimeoutError, ValueError):
        return b""


async def _carry(outlet: Outlet, stream: Stream) -> None:
    try:
        await outlet.serve(stream.reader, stream.writer)
    finally:
        stream.abort()


async def _abandon(starting: "asyncio.Task[DockerSession]") -> None:
    with suppress(SandboxError):
        session = await starting
        session.kill()
        await session.wait()


def _own_kernel(found: Capabilities) -> Capabilities:
    """What was found, for a sandbox with a kernel of its own: calls that got through got no further than that one."""
    why_not = dict(found.why_not)
    notes = (*found.notes, LOOSE)
    if allowed := why_not.pop(SYSCALLS, ""):
        if not allowed.startswith(INSIDE):  # nothing was tried
            return replace(found, verified=found.verified | {KERNEL}, notes=notes)
        notes = (*notes, f"{ANSWERED} ({allowed.removeprefix(INSIDE)})")
    return Capabilities(verified=found.verified | {KERNEL, SYSCALLS}, why_not=why_not, notes=notes)


def _info(socket: str, timeout_s: float) -> dict[str, Any]:
    """What the engine says of itself; on the way, what dead gateways left there is removed."""
    try:
        status, info = reaper.ask(socket, "GET", "/info", timeout_s)
        if status != 200 or not isinstance(info, dict):
            raise ValueError(f"status {status}")
    except TimeoutError:
        what = f"no answer from the engine at {socket} in {timeout_s:g} seconds"
        raise SandboxError("docker", what, mend_for("timeout")) from None
    except OSError as absent:
        raise unreachable(socket, absent) from absent
    except ValueError as nonsense:
        raise SandboxError("docker", f"what listens at {socket} is no engine ({nonsense})", LOG) from nonsense
    with suppress(OSError, ValueError):  # another gateway's remains are no reason to have no sandboxes
        reaper.sweep(socket)
    return info
