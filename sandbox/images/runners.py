"""`npx` and `uvx` in an image: they start what was installed into it, and download nothing.

So that `command = ["npx", "-y", "PACKAGE", ...]` of any server's instructions works as it is written.
"""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sandbox.errors import SandboxError
from sandbox.images.archive import inside

_NPX: Final = """\
#!/bin/sh
while :; do
    case ${1-} in
        -y|--yes|-q|--quiet|--no|--package=*) shift ;;
        -p|--package) shift 2 ;;
        --) shift; break ;;
        -*) echo "npx: $1 is not known in an image" >&2; exit 2 ;;
        *) break ;;
    esac
done
case ${1-} in @*/*@*) name=${1%@*} ;; @*) name=$1 ;; *) name=${1%@*} ;; esac
"""
_UVX: Final = """\
#!/bin/sh
while :; do
    case ${1-} in
        -q|--quiet|--offline|--from=*) shift ;;
        --from) shift 2 ;;
        -*) echo "uvx: $1 is not known in an image" >&2; exit 2 ;;
        *) break ;;
    esac
done
name=${1%%[@=]*}
"""
_REST: Final = """\
case $name in
{cases}
    *) echo "{runner}: $name is not in this image; pratique image build --{option}" >&2; exit 127 ;;
esac
[ -x "$program" ] || {{ echo "{runner}: $name has no program of that name" >&2; exit 127; }}
shift
exec "$program" "$@"
"""


def add_npx(npm: Path, packages: Sequence[str]) -> None:
    """For the packages (`name@version`) that were asked for, in what is to be /opt/npm."""
    programs = inside(npm, "node_modules/.bin", make=True)
    known = dict(_npm_programs(npm, [package.rpartition("@")[0] for package in packages]))
    _write(programs / "npx", _NPX, {name: f"/opt/npm/node_modules/.bin/{program}" for name, program in known.items()})


def add_uvx(python: Path) -> None:
    """For every program in what is to be /opt/python: those of PyPI are mostly named as their packages."""
    programs = inside(python, "bin")
    _write(programs / "uvx", _UVX, {name: f"/opt/python/bin/{name}" for name in sorted(os.listdir(programs))})


def _npm_programs(npm: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each package, and each of its programs, with the program that npx would start for it."""
    for name in names:
        path = inside(npm, f"node_modules/{name}") / "package.json"
        if path.is_symlink() or not path.is_file():
            raise SandboxError("npm", f"left no {name}", "See what npm says of it.")
        own = name.rpartition("/")[2]
        about = json.loads(path.read_text())
        programs = about.get("bin") if isinstance(about, dict) else None
        if isinstance(programs, str):
            programs = {own: programs}
        if isinstance(programs, dict) and programs:
            yield name, own if own in programs else next(iter(programs))
            yield from ((program, program) for program in programs)


def _write(path: Path, head: str, programs: dict[str, str]) -> None:
    runner, option = path.name, {"npx": "npm", "uvx": "pypi"}[path.name]
    cases = "\n".join(f"    {shlex.quote(name)}) program={shlex.quote(to)} ;;" for name, to in programs.items())
    path.unlink(missing_ok=True)
    path.write_text(head + _REST.format(cases=cases, runner=runner, option=option))
    path.chmod(0o755)
