"""What can go wrong in a sandbox: one error, which names the part that failed and what mends it."""


class SandboxError(Exception):
    """A sandbox could not be started. Nothing of it is left."""

    def __init__(self, part: str, what: str, mend: str) -> None:
        super().__init__(f"{part}: {what}. {mend}")
        self.part = part
        """What failed: `bubblewrap`, `mount`, `program`, `launch` ..."""
        self.what = what
        self.mend = mend
        """What a person can do about it, as a sentence."""
