"""What starts in the guest: busybox, a few modules, and a script that waits to be told what to run.

    ready                       the guest: everything is in place (`wires.py` has the ports)
    ping -> pong                the host: are you there?
    run BYTES, the file         the host: run this program (`plan.py`); what it leaves behind ends with it
    running                     the guest: it has been read
    ended STATUS, two numbers   the guest, last: how many bytes it gave to the ports of standard output and error

A snapshot is taken while it waits, so all that costs time and is the same for everybody is done before.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from sandbox.vm.initramfs import Entry, file, folder, pack
from sandbox.vm.kernel import Kernel
from sandbox.vm.relay import RELAY

ROOT: Final = "/box"
"""Where the sandbox's file system is mounted in the guest."""
DEVICES: Final = "/devices"
"""What becomes its /dev."""
GROUP: Final = "/sys/fs/cgroup/box"
"""The control group of all that runs in it."""
OUTLET: Final = 7
"""The descriptor of the outlet's port, which the program inherits from the script."""
THRASHING_S: Final = 3
THRASHING_PAGES: Final = 500
"""At its limit of memory a sandbox's programs lose their own pages, and read them again, over and over, long before the
kernel ends one. So many seconds in a row with so many pages read again in each, and it is ended."""
CONSTANT: Final = "constant"
FRESH: Final = "fresh"
"""The names of the file system that the host offers, twice, to be mounted in two ways beneath /run (`plan.py`)."""

_FOLDERS: Final = ("bin", "dev", "proc", "sys", "modules", "run", ROOT[1:], DEVICES[1:])

_INIT: Final = f"""#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
for module in /modules/*; do
    $bb insmod "$module" || echo "no module $module"
done
echo 1 >/proc/sys/kernel/dmesg_restrict
echo 2 >/proc/sys/kernel/kptr_restrict
$bb ifconfig lo 127.0.0.1 up

$bb mount -t cgroup2 groups /sys/fs/cgroup
echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
$bb mkdir {GROUP}
echo 1 >{GROUP}/memory.oom.group

$bb mount -t tmpfs -o mode=755,size=64k,nosuid devices {DEVICES}
while read -r name kind major minor; do
    $bb mknod -m 666 {DEVICES}/$name $kind $major $minor
done <<NODES
null c 1 3
zero c 1 5
full c 1 7
random c 1 8
urandom c 1 9
tty c 5 0
NODES
$bb ln -s /proc/self/fd {DEVICES}/fd
$bb ln -s /proc/self/fd/0 {DEVICES}/stdin
$bb ln -s /proc/self/fd/1 {DEVICES}/stdout
$bb ln -s /proc/self/fd/2 {DEVICES}/stderr
$bb ln -s pts/ptmx {DEVICES}/ptmx
$bb mkdir {DEVICES}/shm {DEVICES}/pts
$bb mount -t tmpfs -o mode=1777,size=16m,nosuid,nodev,noexec shm {DEVICES}/shm
$bb mount -t devpts -o newinstance,ptmxmode=0666,nosuid,noexec pts {DEVICES}/pts
$bb mount -o remount,ro {DEVICES}

exec 3<>/dev/vport0p1 4</dev/vport0p2 5>/dev/vport0p3 6>/dev/vport0p4 {OUTLET}<>/dev/vport0p5
$bb mkfifo -m 666 /run/in /run/out /run/err
$bb mkfifo /run/silence
exec 8<>/run/silence
: >/run/program
$bb chmod 700 /run/program
$bb mkdir /run/{CONSTANT} /run/{FRESH}
(trap "" PIPE; exec /bin/relay <&4 >/run/in 2>/dev/null) &
/bin/relay </run/out >&5 2>/run/out.count &
out=$!
/bin/relay </run/err >&6 2>/run/err.count &
err=$!

watch_memory() {{
    before=0
    hot=0
    while [ $hot -lt {THRASHING_S} ]; do
        read -r -t 1 _ <&8
        read -r held <{GROUP}/memory.current
        cache=0
        while read -r kind amount; do
            case $kind in
            active_file|inactive_file) cache=$((cache + amount)) ;;
            workingset_refault_file) now=$amount ;;
            esac
        done <{GROUP}/memory.stat
        hot=$((now - before > {THRASHING_PAGES} && cache < held / 8 ? hot + 1 : 0))
        before=$now
    done
    echo 1 >{GROUP}/cgroup.kill
}}

echo ready >&3
while read -r verb bytes <&3; do
    case $verb in
    ping)
        echo pong >&3
        ;;
    run)
        $bb dd bs="$bytes" count=1 iflag=fullblock <&3 >/run/program 2>/dev/null
        echo running >&3
        /run/program </run/in >/run/out 2>/run/err &
        program=$!
        watch_memory 3>&- 4<&- 5>&- 6>&- 7>&- &
        wait $program
        status=$?
        echo 1 >{GROUP}/cgroup.kill
        wait $out
        wait $err
        echo "ended $status" >&3
        $bb cat /run/out.count /run/err.count >&3
        ;;
    esac
done
$bb poweroff -f
"""


def initramfs(kernel: Kernel, busybox: bytes) -> bytes:
    """What the guest's kernel starts from.

    Raises:
        SandboxError: the kernel lacks a module that is needed.
    """
    return pack(_entries(kernel, busybox))


def fingerprint(*parts: bytes) -> str:
    """Names a guest by all that it is made of."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]


def _entries(kernel: Kernel, busybox: bytes) -> Iterator[Entry]:
    yield from map(folder, _FOLDERS)
    yield file("bin/busybox", busybox, 0o755)
    yield file("bin/relay", RELAY, 0o755)
    yield file("init", _INIT.encode(), 0o755)
    for number, (name, content) in enumerate(kernel.load_order()):
        yield file(f"modules/{number:02}-{name}.ko", content)
