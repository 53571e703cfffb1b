"""The bubblewrap driver: namespaces, a system call filter and limits around an unprivileged program."""

from sandbox.bubblewrap.driver import Bubblewrap, hand_over

__all__ = ["Bubblewrap", "hand_over"]
