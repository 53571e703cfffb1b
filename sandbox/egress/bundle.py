"""What a sandbox has to believe where TLS is ended for it: this machine's authorities and the proxy's, in one file."""

import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from sandbox.spec import Mount

TARGET: Final = "/etc/pratique/ca.pem"
"""Where the sandbox finds it."""

ENVIRONMENT: Final[Mapping[str, str]] = dict.fromkeys(
    ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"), TARGET
)
"""What ordinary clients look at."""

_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def bundled(certificate: str, folder: Path) -> Mount:
    """The file with that certificate in it, in a folder of this user's, mounted at `TARGET`.

    It is no secret, and stays until the process that made it is gone and another one makes its own.

    Raises:
        OSError: it cannot be written.
    """
    content = f"{_system()}\n{certificate}".encode()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(folder)
    path = folder / f"ca-{os.getpid()}-{sha256(certificate.encode()).hexdigest()[:16]}.pem"
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.write_bytes(content)
        unfinished.chmod(0o644)
        unfinished.rename(path)
    return Mount(source=str(path), target=TARGET)


def _system() -> str:
    for path in (ssl.get_default_verify_paths().cafile, *_SYSTEM):
        if path is not None and os.path.isfile(path):
            return Path(path).read_text()
    return ""


def _sweep(folder: Path) -> None:
    for left in folder.glob("ca-*-*"):
        owner = left.name.split("-")[1]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            with suppress(OSError):
                left.unlink()
