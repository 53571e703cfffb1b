"""Where untrusted code runs: one driver interface, and drivers that tell the truth about what they enforce here.

Unaware of policies, tokens and MCP: it starts a `Spec` and hands back three streams and a way to end it.
"""

from sandbox.bubblewrap import Bubblewrap, hand_over
from sandbox.driver import GUARANTEES, Capabilities, Driver, Session
from sandbox.errors import SandboxError
from sandbox.runtime import runtime_mounts
from sandbox.spec import Limits, Mount, Spec

__all__ = [
    "GUARANTEES",
    "Bubblewrap",
    "Capabilities",
    "Driver",
    "Limits",
    "Mount",
    "SandboxError",
    "Session",
    "Spec",
    "hand_over",
    "runtime_mounts",
]
