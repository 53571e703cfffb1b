"""Where this machine gets packages from: pip's and npm's settings, proxies and certificates, for a build's time only.

An installer in a sandbox has no home and no /etc of the host, so the settings' files are copied for it, and what they
name by path (certificates, folders of packages) is put where it can see it. Nothing of all this is in the image.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.spec import Mount

HOME: Final = "/build"
"""The installer's home, writable and thrown away."""

_NAMES: Final = re.compile(
    r"(?i)PIP_\w+|npm_config_\w+|(https?|all|no)_proxy|"
    r"SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
)
_FILES: Final = {"PIP_CONFIG_FILE", "npm_config_userconfig", "npm_config_globalconfig"}
_PATH: Final = re.compile(r"(?<![\w:/.\-])/[\w./@+\-]+")
"""An absolute path in a value or a file; no part of an address."""


@dataclass(slots=True, kw_only=True)
class Sources:
    """The environment and the mounts of an installer."""

    env: dict[str, str] = field(default_factory=dict, repr=False)
    mounts: list[Mount] = field(default_factory=list)


def machine_sources(home: Path, environ: Mapping[str, str], *, system: Path = Path("/")) -> Sources:
    """Copy what belongs in an installer's home into `home`, its future `HOME`."""
    etc = system / "etc"
    own = Path(environ.get("HOME", "/root"))
    found = Sources(env={"XDG_CONFIG_DIRS": f"{HOME}/xdg"})
    for name, value in environ.items():
        if _NAMES.fullmatch(name) and name not in _FILES:
            found.env[name] = _shown(value, home, found)
    user = environ.get("XDG_CONFIG_HOME", str(own / ".config"))
    _copy([Path(user) / "pip/pip.conf", own / ".pip/pip.conf"], home / ".config/pip/pip.conf", home, found)
    _copy([etc / "xdg/pip/pip.conf", etc / "pip.conf"], home / "xdg/pip/pip.conf", home, found)
    _copy([Path(environ.get("npm_config_userconfig", own / ".npmrc"))], home / ".npmrc", home, found)
    everyone = [Path(environ.get("npm_config_globalconfig", etc / "npmrc")), system / "usr/etc/npmrc"]
    if _copy(everyone, home / "npmrc", home, found):
        found.env["npm_config_globalconfig"] = f"{HOME}/npmrc"
    if _copy([Path(environ.get("PIP_CONFIG_FILE", os.devnull))], home / "pip.conf", home, found):
        found.env["PIP_CONFIG_FILE"] = f"{HOME}/pip.conf"
    return found


def _copy(candidates: list[Path], target: Path, home: Path, found: Sources) -> bool:
    """Copy the first that is a file; whether there was one."""
    for candidate in candidates:
        if candidate.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_shown(candidate.read_text(), home, found))
            return True
    return False


def _shown(text: str, home: Path, found: Sources) -> str:
    """The text with each path that is there put where the installer sees it: a file copied, a folder mounted."""

    def moved(match: re.Match[str]) -> str:
        path = Path(match[0])
        if path.is_file():
            given = home / "given"
            given.mkdir(exist_ok=True)
            copied = given / f"{len(list(given.iterdir()))}-{path.name}"
            shutil.copyfile(path, copied)
            return f"{HOME}/given/{copied.name}"
        if path.is_dir() and len(path.parts) > 2:
            target = f"/given/{len(found.mounts)}-{path.name}"
            found.mounts.append(Mount(source=os.path.realpath(path), target=target))
            return target
        return match[0]

    return _PATH.sub(moved, text)
