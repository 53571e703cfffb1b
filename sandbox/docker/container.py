"""A spec as the engine's request for a hardened container. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sandbox.docker.user import User
from sandbox.mounts import environment
from sandbox.spec import Limits, Mount, Spec

SHM_BYTES: Final = 16 << 20
GVISOR: Final = "runsc"
"""What the engine calls gVisor's runtime."""

INIT_PIDS: Final = 1
"""The engine's init, which passes signals on and reaps what is left."""

SPARE_PIDS: Final = 24
"""Threads of the runtime that come and go in the container's control group while it starts a program."""

GVISOR_PIDS: Final = 96
GVISOR_PIDS_EACH: Final = 3
"""What the host counts besides: gVisor's own threads (about 50), and its two for each process inside."""

LIMITED: Final = b"limited\n"
_PIDS_MAX: Final = ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")

_SHIM: Final = 'IFS= read -r go || exit 126; {prepare}exec "$@"'
"""Holds the program until its streams are in place; the shell reads a byte at a time, and so none of the program's."""

GO: Final = b"go\n"


def request(
    spec: Spec,
    *,
    image: str,
    user: User,
    mounts: Iterable[Mount],
    labels: Mapping[str, str],
    runtime: str,
    pids: int,
    seccomp: str,
    cgroup_namespace: bool,
) -> dict[str, Any]:
    """The body of POST /containers/create.

    Args:
        pids: how many processes there may be inside, init and forwarder included.
        seccomp: the profile's JSON; gVisor heeds it only where it is told to (`runsc --oci-seccomp`).
    """
    limits = spec.limits
    return {
        "Image": image,
        "Entrypoint": ["/bin/sh", "-c", _SHIM.format(prepare=_prepare(spec)), "sh"],
        "Cmd": list(spec.argv),
        "User": f"{user.uid}:{user.gid}",
        "Env": [f"{name}={value}" for name, value in environment(spec).items()],
        "WorkingDir": spec.cwd,
        "Hostname": "sandbox",
        "Labels": dict(labels),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "NetworkDisabled": spec.network == "none",
        "HostConfig": {
            "Runtime": runtime,
            "NetworkMode": spec.network,
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp}"],
            "IpcMode": "private",
            "CgroupnsMode": "private" if cgroup_namespace else "",
            "Init": True,
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "PidsLimit": max(host_pids(pids, runtime), SPARE_PIDS),
            "Ulimits": list(_ulimits(limits)),
            "ShmSize": SHM_BYTES,
            "Tmpfs": {
                "/tmp": "rw,noexec,nosuid,nodev,mode=1777"  # noqa: S108
                f",uid={user.uid},gid={user.gid},size={limits.tmp_bytes}",
            },
            "Mounts": [_bind(mount) for mount in mounts],
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
        },
    }


def pids_of(spec: Spec, *, forwarder: bool) -> int:
    """What is counted in the sandbox when the program has as many processes as it may."""
    return spec.limits.pids + INIT_PIDS + int(forwarder)


def host_pids(pids: int, runtime: str) -> int:
    """What the container's control group counts then."""
    return pids if runtime != GVISOR else GVISOR_PIDS + GVISOR_PIDS_EACH * pids


def limit_inside(pids: int) -> list[str]:
    """What sets gVisor's own limit on processes, run inside by root; says so when it has."""
    write = " || ".join(f"echo {pids} 2>/dev/null >{path}" for path in _PIDS_MAX)
    return ["/bin/sh", "-c", f"{{ {write}; }} && echo {LIMITED.decode().strip()}"]


def _ulimits(limits: Limits) -> Sequence[Mapping[str, Any]]:
    most = {"nofile": limits.files, "fsize": limits.file_bytes, "core": 0}
    if limits.cpu_s is not None:
        most["cpu"] = limits.cpu_s
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in most.items()]


def _prepare(spec: Spec) -> str:
    """Shell words. The engine adds a HOSTNAME to the environment that nobody asked for."""
    words = ["umask 022"]
    if "HOSTNAME" not in spec.env:
        words.append("unset HOSTNAME")
    return "".join(f"{word}; " for word in words)


def _bind(mount: Mount) -> dict[str, Any]:
    """Read-only ones without what is mounted beneath them: the engine would leave that writable."""
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": not mount.writable,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": not mount.writable},
    }
