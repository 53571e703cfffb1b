"""Python's bytecode for an image: a read-only root could not keep it, and compiling costs a second at every start.

Never checked against its source (PEP 552, "unchecked hash"), as neither ever changes, and so the same every time.
"""

from pathlib import Path
from typing import Final

from sandbox.bubblewrap import hand_over
from sandbox.driver import Driver
from sandbox.images.archive import inside
from sandbox.images.install import run
from sandbox.mounts import ENVIRONMENT
from sandbox.spec import Mount

_COMPILE: Final = """
import compileall, glob, os, py_compile, sys
sys.pycache_prefix = "/bytecode"
own = glob.glob("/opt/python/lib/python3*/site-packages")
for folder in [path for path in sys.path if os.path.isdir(path)] + own:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, maxlevels=20, quiet=2, invalidation_mode=mode)
"""


async def compile_python(driver: Driver, root: Path, work: Path) -> None:
    """Compile the library of the root's Python and the environment at /opt/python, if there is a Python.

    Raises:
        SandboxError: it did not start, or not end in time.
    """
    compiled = work / "bytecode"
    compiled.mkdir(parents=True)
    hand_over(compiled)
    shell = 'command -v python3 >/dev/null || exit 0; exec python3 -I -c "$0"'
    mounts = (Mount(source=str(compiled), target="/bytecode", writable=True),)
    env = {"PATH": ENVIRONMENT["PATH"], "PYTHONHASHSEED": "0"}  # the root's own Python: no package's `.pth` file runs
    await run("python", driver, root, ("/bin/sh", "-c", shell, _COMPILE), mounts=mounts, env=env)
    for path in sorted(compiled.rglob("*.pyc")):
        if path.is_file() and not path.is_symlink():
            folder = inside(root, str(path.parent.relative_to(compiled) / "__pycache__"), make=True)
            path.replace(folder / path.name)
