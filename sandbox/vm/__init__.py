"""The VM driver: each sandbox has a kernel of its own, in an emulator that bubblewrap confines."""

from sandbox.vm.driver import VM

__all__ = ["VM"]
