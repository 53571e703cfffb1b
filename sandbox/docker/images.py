"""Root file systems in the engine's store: imported once, and known by the digest of their archive."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from sandbox.docker.engine import Engine, Refused, Upload, find_socket
from sandbox.docker.mends import mend_for
from sandbox.docker.reaper import LABEL, ask
from sandbox.errors import SandboxError
from sandbox.spec import Image

DIGEST: Final = "dev.pratique.digest"
REPOSITORY: Final = "pratique-image"
IMPORT_S: Final = 300.0
_PART: Final = 1 << 20

BUILD: Final = "Build or pull it again (pratique image build)."


@dataclass(slots=True, kw_only=True)
class Images:
    """What this process has found or put into one engine's store."""

    engine: Engine
    _ids: dict[str, str] = field(default_factory=dict)
    _with_shell: set[str] = field(default_factory=set)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Protects the engine from importing the same archive twice at once."""

    async def of(self, image: Image) -> str:
        """The engine's own id for an image.

        Raises:
            SandboxError: its archive is missing or not what its digest says, or the engine does not take it.
        """
        async with self._one_at_a_time:
            if (found := await self._find(image.digest)) is None:
                try:
                    with open(image.archive, "rb") as archive:  # noqa: ASYNC230
                        size = os.fstat(archive.fileno()).st_size
                        found = await self._import(image.digest, archive, size)
                except OSError as missing:
                    what = f"{image.archive} cannot be read: {missing.strerror}"
                    raise SandboxError("image", what, BUILD) from missing
            return found

    async def of_content(self, archive: bytes) -> str:
        """The same for an archive in memory."""
        digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        async with self._one_at_a_time:
            found = await self._find(digest)
            return found or await self._import(digest, io.BytesIO(archive), len(archive))

    async def check_shell(self, image: Image, container: str) -> None:
        """See that a container made from an image has what holds its program until it may run.

        Raises:
            SandboxError: it has no /bin/sh.
        """
        if image.digest in self._with_shell:
            return
        try:
            await self.engine.call("HEAD", f"/containers/{container}/archive", query={"path": "/bin/sh"})
        except Refused as refused:
            if refused.status != 404:
                raise
            raise SandboxError("image", f"{image.digest} has no /bin/sh", mend_for("/bin/sh")) from refused
        self._with_shell.add(image.digest)

    def forget(self) -> None:
        """Look again: somebody has removed one."""
        self._ids.clear()

    async def _find(self, digest: str) -> str | None:
        if known := self._ids.get(digest):
            return known
        tag = _tag(digest)
        try:
            found = await self.engine.call("GET", f"/images/{tag}/json")
        except Refused as refused:
            if refused.status != 404:
                raise
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        if labels.get(DIGEST) != digest:
            what = f"the engine's image {tag} was not made from {digest}"
            raise SandboxError("image", what, f"Remove it (docker rmi {tag}); it is imported again.")
        return self._keep(digest, str(found["Id"]))

    async def _import(self, digest: str, archive: BinaryIO, size: int) -> str:
        """Without a name at first: it gets one when all of it was seen to be what its digest says."""
        seen = hashlib.sha256()
        query = {"fromSrc": "-", "changes": [f"LABEL {LABEL}=1", f"LABEL {DIGEST}={digest}"]}
        upload = Upload(size=size, parts=_parts(archive, seen))
        said = await self.engine.call("POST", "/images/create", upload, query=query, timeout_s=IMPORT_S)
        last = said[-1] if isinstance(said, list) else said or {}
        if "status" not in last:
            raise SandboxError("image", f"not imported: {last.get('error', last)}", BUILD)
        made = str(last["status"])
        if f"sha256:{seen.hexdigest()}" != digest:
            await self.engine.call("DELETE", f"/images/{made}")
            raise SandboxError("image", f"the archive is not {digest}, but sha256:{seen.hexdigest()}", BUILD)
        if (twin := await self._find(digest)) is not None:  # another driver, or gateway, was as quick
            await self.engine.call("DELETE", f"/images/{made}")
            return twin
        repository, _, tag = _tag(digest).partition(":")
        await self.engine.call("POST", f"/images/{made}/tag", query={"repo": repository, "tag": tag})
        return self._keep(digest, made)

    def _keep(self, digest: str, made: str) -> str:
        self._ids[digest] = made
        return made


async def _parts(archive: BinaryIO, seen: "hashlib._Hash") -> AsyncIterator[bytes]:
    while part := await asyncio.to_thread(archive.read, _PART):
        await asyncio.to_thread(seen.update, part)
        yield part


def leave(digest: str) -> str:
    """Have the engine forget an image that was deleted here; what stays in its store, empty where nothing does."""
    try:
        status, _ = ask(find_socket(), "DELETE", f"/images/{_tag(digest)}?force=1")
    except (OSError, ValueError, SandboxError):
        return ""  # there is no engine, so it was not used
    return "" if status in (200, 404) else f"the engine keeps {_tag(digest)}: docker rmi {_tag(digest)}"


def _tag(digest: str) -> str:
    return f"{REPOSITORY}:{digest.removeprefix('sha256:')[:16]}"
