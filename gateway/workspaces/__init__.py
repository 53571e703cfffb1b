"""Workspaces: which copy belongs to which task and server, and the road on which a person's yes makes it real.

Not how a copy is made, compared or applied: that is `sandbox/workspace`, which knows neither tasks nor labels.
"""

from gateway.workspaces.review import Workspaces

__all__ = ["Workspaces"]
