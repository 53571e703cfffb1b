"""A base from a registry: a real one on loopback, a real engine, and pulls by digest only."""

import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.images import Recipe, Store, build, find_image
from sandbox.images.registry import export

REGISTRY = Path(__file__).parents[2] / ".cache/bin/registry"
NOWHERE = "0" * 64


@dataclass(frozen=True)
class Pushed:
    """A registry, and the one image in it."""

    address: str
    digest: str
    folder: Path

    @property
    def reference(self) -> str:
        return f"{self.address}/tiny@{self.digest}"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: { level: info, accesslog: { disabled: true } }\n"
        f"storage: {{ filesystem: {{ rootdirectory: {folder}/data }} }}\nhttp: {{ addr: '{address}' }}\n"
    )
    command = [REGISTRY, "serve", folder / "registry.yml"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as registry:
        assert registry.stderr is not None
        try:
            said = iter(registry.stderr)
            assert any(b"listening on" in line for line in said), "the registry ended"
            yield Pushed(address, _push(f"{address}/tiny:1"), folder / "data/docker/registry/v2")
        finally:
            registry.terminate()


async def test_an_image_is_pulled_by_digest_exported_and_built_upon(tmp_path: Path, pushed: Pushed) -> None:
    store = Store(folder=tmp_path / "images")

    entry = await build(store, Recipe(name="tiny", base=pushed.reference), lambda said: None)

    image = find_image(tmp_path, entry.reference)
    assert (Path(image.root) / "etc/marker").read_text() == "of the registry"
    assert entry.base == pushed.reference
    assert not _engine_has(pushed.reference)
    assert _containers() == ""


async def test_the_same_image_by_tag_and_digest_is_the_same(tmp_path: Path, pushed: Pushed) -> None:
    tagged = f"{pushed.address}/tiny:1@{pushed.digest}"

    one, two = [
        await build(Store(folder=tmp_path), Recipe(name="tiny", base=base), lambda said: None)
        for base in (tagged, pushed.reference)
    ]

    assert one.digest == two.digest


def test_what_the_engine_had_before_it_still_has(tmp_path: Path, pushed: Pushed) -> None:
    _docker("pull", "-q", pushed.reference)
    try:
        export(pushed.reference, tmp_path / "tiny.tar", lambda said: None)

        assert _engine_has(pushed.reference)
    finally:
        _docker("rmi", "-f", pushed.reference)


@pytest.mark.promise("image-base-pinned")
def test_a_tag_alone_is_refused_with_how_to_find_the_digest(tmp_path: Path, pushed: Pushed) -> None:
    with pytest.raises(SandboxError, match=r"a tag can be moved.*RepoDigests"):
        export(f"{pushed.address}/tiny:1", tmp_path / "tiny.tar", lambda said: None)


@pytest.mark.promise("image-base-pinned")
@pytest.mark.parametrize("name", ["tiny", "missing"])
def test_a_wrong_digest_and_a_missing_image_are_refused(tmp_path: Path, pushed: Pushed, name: str) -> None:
    with pytest.raises(SandboxError, match=rf"{name}@sha256:{NOWHERE} could not be pulled"):
        export(f"{pushed.address}/{name}@sha256:{NOWHERE}", tmp_path / "tiny.tar", lambda said: None)

    assert not (tmp_path / "tiny.tar").exists()


@pytest.mark.promise("image-base-pinned")
def test_a_registry_that_answers_with_something_else_is_refused(tmp_path: Path, pushed: Pushed) -> None:
    """What it holds under the digest is changed on its disk, so that it serves other bytes than were asked for."""
    reference = _altered(pushed)

    with pytest.raises(SandboxError, match="could not be pulled"):
        export(reference, tmp_path / "tiny.tar", lambda said: None)

    assert not (tmp_path / "tiny.tar").exists()


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"

    with pytest.raises(SandboxError, match=rf"{address}/tiny@.*could not be pulled.*docker pull"):
        export(f"{address}/tiny@sha256:{NOWHERE}", tmp_path / "tiny.tar", lambda said: None)


@pytest.mark.parametrize(
    ("host", "why"),
    [("unix:///nowhere/docker.sock", "no engine answers at /nowhere"), ("tcp://127.0.0.1:1", "unset DOCKER_HOST")],
)
async def test_an_engine_that_is_not_there_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, why: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    recipe = Recipe(name="tiny", base=f"registry.example/tiny@sha256:{NOWHERE}")

    with pytest.raises(SandboxError, match=why):
        await build(Store(folder=tmp_path / "images"), recipe, lambda said: None)

    assert os.listdir(tmp_path / "images") == ["lock"]


def _altered(pushed: Pushed) -> str:
    """The image again, under a digest that is another's."""
    other = "1" * 64
    blob = pushed.folder / "blobs/sha256/11" / other
    blob.mkdir(parents=True)
    honest = pushed.digest.removeprefix("sha256:")
    shutil.copyfile(pushed.folder / "blobs/sha256" / honest[:2] / honest / "data", blob / "data")
    revision = pushed.folder / "repositories/tiny/_manifests/revisions/sha256" / other
    revision.mkdir()
    (revision / "link").write_text(f"sha256:{other}")
    return f"{pushed.address}/tiny@sha256:{other}"


def _push(tag: str) -> str:
    """Push a root with a shell and a marker; its digest. The engine keeps nothing of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/sh")
        info = tarfile.TarInfo("etc/marker")
        info.size = 15
        tar.addfile(info, io.BytesIO(b"of the registry"))
    subprocess.run(["docker", "import", "-", tag], input=content.getvalue(), check=True, capture_output=True)
    try:
        said = _docker("push", tag)
    finally:
        _docker("rmi", "-f", tag)
    found = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
    assert found, said
    return found[1]


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def _engine_has(reference: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", reference], check=False, capture_output=True).returncode == 0


def _containers() -> str:
    return _docker("ps", "-aq", "--filter", "label=dev.pratique.image-build")
