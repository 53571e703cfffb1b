"""The system call filter: `rules.toml` says what is refused and why, `assembler.py` makes it a BPF program."""

from sandbox.seccomp.assembler import assemble, load_rules

__all__ = ["assemble", "load_rules"]
