"""Where images are kept: a folder each, by digest, and the names that people gave them.

images/names.json                      name -> digests, the newest last
images/SHA256/image.tar  root/  image.json      the archive, the same unpacked, and what is in it
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.errors import SandboxError
from sandbox.images.archive import pack
from sandbox.spec import Image

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
REFERENCE: Final = re.compile(rf"({NAME.pattern})@(sha256:[0-9a-f]{{64}})")

_REBUILD: Final = "Build it again: `pratique image build {name}` with the options it had, and pin the digest it prints."


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A name, and the image it stands for."""

    name: str
    digest: str
    created: float
    """When it got this name; the image itself knows no time."""
    size_bytes: int
    base: str
    npm: tuple[str, ...]
    """`package@version`, everything that was installed."""
    pypi: tuple[str, ...]
    """`package==version`, everything that was installed."""

    @property
    def reference(self) -> str:
        """What to write in `image = "..."`."""
        return f"{self.name}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The images of one gateway's state."""

    folder: Path

    def entries(self) -> list[Entry]:
        """Every name with every digest it has had, the newest last."""
        found = []
        for name, digests in sorted(self._names().items()):
            for digest, created in digests.items():
                about: dict[str, Any] = json.loads((self._place(digest) / "image.json").read_text())
                about |= {key: tuple(about[key]) for key in ("npm", "pypi")}
                found.append(Entry(name=name, digest=digest, created=created, **about))
        return found

    def find(self, reference: str) -> Image:
        """The image `name@sha256:...`, found to be what its digest says when this process first asks for it.

        Raises:
            SandboxError: there is none, or it has changed.
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            raise SandboxError("image", f"{reference!r} is not NAME@sha256:...", "`pratique image list` shows them.")
        name, digest = match.groups()
        known = self._names().get(name, {})
        if digest not in known or not self._place(digest).is_dir():
            why = f"{name} has the digests {', '.join(known)}, not {digest}" if known else f"there is no image {name}"
            raise SandboxError("image", why, _REBUILD.format(name=name))
        place = self._place(digest)
        image = Image(digest=digest, archive=str(place / "image.tar"), root=str(place / "root"))
        _verify(image, name)
        return image

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to build an image in; gone afterwards, whatever happened. One at a time.

        Raises:
            SandboxError: another build is running.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:  # held: one process builds or removes
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SandboxError("image", "another build is running", "Wait until it is done.") from None
            for left in self.folder.glob(".new-*"):  # by a build that was killed
                shutil.rmtree(left)
            draft = self.folder / f".new-{secrets.token_hex(4)}"
            draft.mkdir(mode=0o700)
            try:
                yield draft
            finally:
                shutil.rmtree(draft)

    def add(self, name: str, root: Path, *, base: str, npm: Sequence[str], pypi: Sequence[str]) -> Entry:
        """Keep a settled root of a draft under a name. The digest is the content's: the same twice is one image."""
        ready = root.parent / "ready"
        ready.mkdir(mode=0o700)
        archive = ready / "image.tar"
        digest = pack(root, archive)
        entry = Entry(
            name=name,
            digest=digest,
            created=time.time(),
            size_bytes=archive.stat().st_size,
            base=base,
            npm=tuple(npm),
            pypi=tuple(pypi),
        )
        if not self._is_whole(entry, root.parent):
            about = {key: value for key, value in asdict(entry).items() if key not in ("name", "digest", "created")}
            (ready / "image.json").write_text(json.dumps(about, indent=1))
            root.rename(ready / "root")
            ready.rename(self._place(digest))
        names = self._names()
        digests = {known: at for known, at in names.get(name, {}).items() if known != digest}
        self._write(names | {name: digests | {digest: entry.created}})
        return entry

    def remove(self, name: str) -> list[str]:
        """Forget a name, and delete what no other name stands for; the digests that are gone.

        Raises:
            SandboxError: there is no such name.
        """
        with self.draft() as draft:
            names = self._names()
            if name not in names:
                raise SandboxError("image", f"there is no image {name}", "`pratique image list` shows them.")
            dropped = names.pop(name)
            self._write(names)
            gone = [digest for digest in dropped if not any(digest in others for others in names.values())]
            for digest in gone:
                self._place(digest).rename(draft / digest.removeprefix("sha256:"))
        return gone

    def _is_whole(self, entry: Entry, draft: Path) -> bool:
        """Whether this image is kept already; one that is no longer what it was goes with the draft."""
        place = self._place(entry.digest)
        if not place.exists():
            return False
        image = Image(digest=entry.digest, archive=str(place / "image.tar"), root=str(place / "root"))
        try:
            _verify(image, entry.name)
        except SandboxError:
            place.rename(draft / "broken")
            return False
        return True

    def _place(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    def _names(self) -> dict[str, dict[str, float]]:
        try:
            names: dict[str, dict[str, float]] = json.loads((self.folder / "names.json").read_text())
        except FileNotFoundError:
            return {}
        return names

    def _write(self, names: dict[str, dict[str, float]]) -> None:
        new = self.folder / "names.json.new"
        new.write_text(json.dumps(names, indent=1))
        new.replace(self.folder / "names.json")


def find_image(state: Path, reference: str) -> Image:
    """The image `name@sha256:...` of this gateway; see `Store.find`. Reads all of it when it is first asked for."""
    return Store(folder=state / "images").find(reference)


_verified: set[tuple[str, str, int, int]] = set()


def _verify(image: Image, name: str) -> None:
    """Both forms against the digest: a driver uses one, another the other."""
    try:
        found = os.stat(image.archive)
        once = (image.digest, image.archive, found.st_ino, found.st_mtime_ns)
        if once in _verified:
            return
        with open(image.archive, "rb") as archive:
            of_archive = f"sha256:{hashlib.file_digest(archive, 'sha256').hexdigest()}"
        of_root = pack(Path(image.root))
    except OSError as missing:
        raise SandboxError("image", f"{name} is not whole: {missing}", _REBUILD.format(name=name)) from missing
    for what, digest in (("archive", of_archive), ("unpacked root", of_root)):
        if digest != image.digest:
            why = f"{name}: its {what} is {digest}, not the {image.digest} that it was built as"
            raise SandboxError("image", why, _REBUILD.format(name=name))
    _verified.add(once)
