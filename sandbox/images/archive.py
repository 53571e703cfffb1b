"""A root file system as a tar that is the same whenever its content is: an image's digest is this tar's.

Entries are sorted, owned by 0:0, of one time, without setuid bits or extended attributes. Whatever is neither a folder,
a file nor a link is left out. An archive comes from strangers: nothing in it is followed or created outside its root.
"""

import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from typing_extensions import override

from sandbox.errors import SandboxError

EPOCH: Final = 1_577_836_800
"""The time of every entry: 2020-01-01, for programs that take 1970 or anything before 1980 for a mistake."""

_MEND: Final = "Make the archive anew: docker export, or tar of a root file system."


def pack(root: Path, archive: Path | None = None) -> str:
    """The digest of a root that `settle` has settled; also written to `archive` if that is named."""
    with open(os.devnull if archive is None else archive, "wb") as file:
        written = _Hashed(file)
        with tarfile.open(fileobj=written, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            links: dict[tuple[int, int], str] = {}
            for path, found in _entries(root):
                _add(tar, root, path, found, links)
    return f"sha256:{written.digest.hexdigest()}"


def unpack(archive: Path, root: Path) -> None:
    """Make and fill a folder.

    Raises:
        SandboxError: it is no tar, or holds a path that leads elsewhere.
    """
    root.mkdir(mode=0o755)
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for member in tar:
                _place(tar, member, root)
    except tarfile.TarError as broken:
        raise SandboxError("archive", f"{archive.name} is not a whole tar: {broken}", _MEND) from broken


def settle(root: Path) -> None:
    """Owners, modes and times as every image has them, and nothing that is no folder, file or link."""
    for path, found in _entries(root):
        mode = found.st_mode
        if stat.S_ISLNK(mode):
            pass
        elif stat.S_ISDIR(mode):
            path.chmod((stat.S_IMODE(mode) & 0o1777) | 0o700)
        elif stat.S_ISREG(mode):
            path.chmod((stat.S_IMODE(mode) & 0o777) | 0o600)
        else:
            path.unlink()
            continue
        if os.geteuid() == 0:
            os.lchown(path, 0, 0)
    for path, _ in _entries(root):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (EPOCH, EPOCH))


def inside(root: Path, path: str | PurePosixPath, *, make: bool = False) -> Path:
    """The place of a folder of the root on the host, none of whose parts is a link: those lead wherever they say.

    Raises:
        SandboxError: it would lead elsewhere, or is there and no folder.
    """
    place = root
    for part in _parts(str(path)):
        place /= part
        if make:
            with suppress(FileExistsError):
                place.mkdir(0o755)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise SandboxError("archive", f"/{place.relative_to(root)} is expected to be a folder", _MEND)
    return place


def _entries(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every entry, its folder first, names in order of their bytes."""
    for entry in sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)):
        yield Path(entry.path), entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))


def _add(
    tar: tarfile.TarFile, root: Path, path: Path, found: os.stat_result, links: dict[tuple[int, int], str]
) -> None:
    info = tarfile.TarInfo(str(path.relative_to(root)))
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    info.uid, info.gid = (found.st_uid, found.st_gid) if os.geteuid() == 0 else (0, 0)
    if stat.S_ISLNK(found.st_mode):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
    elif stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif (first := links.setdefault((found.st_dev, found.st_ino), info.name)) != info.name:
        info.type, info.linkname = tarfile.LNKTYPE, first
    else:
        info.size = found.st_size
        with path.open("rb") as content:
            tar.addfile(info, content)
        return
    tar.addfile(info)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    parts = _parts(member.name)
    if not parts:
        return
    target = inside(root, PurePosixPath(*parts[:-1]), make=True) / parts[-1]
    if member.isdir():
        inside(root, PurePosixPath(*parts), make=True).chmod((member.mode & 0o777) | 0o700)
        return
    if not (member.isreg() or member.issym() or member.islnk()):
        return
    if target.is_dir() and not target.is_symlink():
        raise SandboxError("archive", f"{member.name} is a folder and something else", _MEND)
    target.unlink(missing_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        *folder, name = _parts(member.linkname) or ("",)
        first = inside(root, PurePosixPath(*folder)) / name
        if first.is_symlink() or not first.is_file():
            raise SandboxError("archive", f"{member.name} is a second name of no file: {member.linkname}", _MEND)
        os.link(first, target)
    else:
        content = tar.extractfile(member)
        assert content is not None
        with target.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        target.chmod((member.mode & 0o777) | 0o600)


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in name:
        raise SandboxError("archive", f"{name!r} leads out of the root", _MEND)
    return parts


class _Hashed(io.RawIOBase):
    """A file whose bytes are digested as they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    @override
    def write(self, part: Any) -> int:
        self.digest.update(part)
        return self._file.write(part)
