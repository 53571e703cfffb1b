"""What a person can do when this machine will not let bubblewrap build its walls."""

from pathlib import Path

from sandbox.bubblewrap.cgroup import DELEGATE


def mend_for(complaint: str, *, sysctl: Path = Path("/proc/sys")) -> str:
    """The likeliest cause, read off the kernel's settings, and its mend."""
    if "their sum is not" in complaint:
        return DELEGATE
    if "(442, " in complaint:  # mount_setattr
        return "This file system cannot map owners: chown the writable mounts to 65534, or run the gateway as a user."
    if _read(sysctl / "user/max_user_namespaces") == "0":
        return "User namespaces are switched off: sysctl user.max_user_namespaces=10000."
    if _read(sysctl / "kernel/unprivileged_userns_clone") == "0":
        return "User namespaces are for root only: sysctl kernel.unprivileged_userns_clone=1."
    if _read(sysctl / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor forbids user namespaces to programs without a profile (Ubuntu since 23.10): "
            "apt install bubblewrap apparmor-profiles and enable the profile bwrap-userns-restrict, or "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0."
        )
    if "proc" in complaint and "mount" in complaint.lower():
        return "A container that masks /proc forbids a fresh one: run it with --security-opt systempaths=unconfined."
    if "not permitted" in complaint or "denied" in complaint.lower():
        return (
            "Namespaces are refused here, as in a container without them: run the gateway on the host, or the "
            "container with --security-opt seccomp=unconfined --cap-add SYS_ADMIN."
        )
    return "Run `pratique doctor` where the gateway runs, and read what bubblewrap says."


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
