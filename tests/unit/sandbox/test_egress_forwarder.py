"""What a sandbox with an outlet gets: a Python, an environment, certificates."""

import os
import sys
from pathlib import Path

import pytest

from sandbox.egress import bundle, forwarder, inside
from sandbox.egress.bundle import bundled
from sandbox.runtime import runtime_mounts
from sandbox.spec import Image, Mount, Spec


def test_the_command_is_whole_within_one_argument_and_program_words_may_follow() -> None:
    command = forwarder.command("/usr/bin/python3", "5", "6")
    assert command[:4] == ["/usr/bin/python3", "-I", "-S", "-c"]
    assert command[5:] == ["5", "6"]
    assert len(command[4]) < 64 << 10
    assert "\nimport sandbox" not in command[4]
    assert "\nfrom sandbox" not in command[4]


def test_the_hosts_python_runs_it_and_what_is_mounted_already_is_not_mounted_again() -> None:
    python, mounts = forwarder.interpreter(Spec(argv=("sh",)))
    assert python == os.path.realpath(python)
    assert os.access(python, os.X_OK)
    argv = (sys.executable,)
    assert forwarder.interpreter(Spec(argv=argv, mounts=(*runtime_mounts(argv), *mounts))) == (python, ())
    elsewhere = tuple(Mount(source="/usr/share", target=mount.target) for mount in mounts)
    assert forwarder.interpreter(Spec(argv=("sh",), mounts=elsewhere))[1] == mounts


def test_an_image_brings_its_own_python() -> None:
    image = Image(digest="sha256:" + "0" * 64, archive="/nowhere", root="/nowhere")
    assert forwarder.interpreter(Spec(argv=("sh",), image=image)) == ("/usr/bin/python3", ())


def test_clients_are_told_of_the_proxy_and_the_servers_own_variables_win() -> None:
    spec, _ = forwarder.equipped(Spec(argv=("sh",), env={"NO_PROXY": "*", "A": "b"}))
    assert spec.env["HTTPS_PROXY"] == spec.env["http_proxy"] == f"http://127.0.0.1:{inside.PORT}"
    assert (spec.env["NO_PROXY"], spec.env["A"]) == ("*", "b")


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


def test_the_bundle_holds_this_machines_authorities_and_ours_and_is_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "egress"
    mount = bundled(CERTIFICATE, folder)
    content = Path(mount.source).read_text()
    assert content.endswith(CERTIFICATE)
    assert content.count("BEGIN CERTIFICATE") > 50
    assert (mount.target, mount.writable) == (bundle.TARGET, False)
    written = os.stat(mount.source).st_mtime_ns
    assert bundled(CERTIFICATE, folder) == mount
    assert os.stat(mount.source).st_mtime_ns == written
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Path(mount.source).stat().st_mode & 0o777 == 0o644


def test_bundles_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    gone = tmp_path / f"ca-{2**22 + 1}-0123456789abcdef.pem"
    gone.write_text("left")
    mount = bundled(CERTIFICATE, tmp_path)
    assert os.listdir(tmp_path) == [os.path.basename(mount.source)]


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"]
)
def test_ordinary_clients_are_told_where_it_is(name: str) -> None:
    assert bundle.ENVIRONMENT[name] == bundle.TARGET
