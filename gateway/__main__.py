"""`pratique`, and `python -m gateway`."""

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("gateway", "policies", "sandbox", "llmcore", "audit")
"""Common words, so another distribution, or a folder of the user's, may hold one of them too."""


def main() -> None:
    """Run the command line, unless one of our packages would be somebody else's."""
    if strangers := foreign_packages():
        sys.exit(
            f"pratique: {', '.join(strangers)} would be imported from elsewhere than the rest; "
            "install pratique in an environment of its own (pipx, uv tool, or a container)"
        )
    from gateway.cli.app import run  # noqa: PLC0415  only once the packages are known to be ours

    sys.exit(run())


def foreign_packages() -> list[str]:
    """Those of the five packages that do not lie beside this one."""
    home = Path(__file__).resolve().parent.parent
    return [name for name in PACKAGES if _origin(name) != home / name / "__init__.py"]


def _origin(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve() if spec and spec.origin else None


if __name__ == "__main__":
    main()
