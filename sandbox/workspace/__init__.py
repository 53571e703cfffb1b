"""Workspaces: a server writes to a copy of a folder, and what it changed there is looked at before it becomes real.

    stage     a copy, and a manifest of what it held
    diff      what the copy holds otherwise by now; the copy is hostile, its server may still be writing
    prepare   what was chosen of that, read once more and written beside the originals, which are as they were
    commit    renamed into place, or left where an original moved; a kill in between is made good (`unfinished`)
    drop      the copy is gone

Nothing here follows a link that it did not make, and nothing is applied that was not named in a difference.
"""

from sandbox.workspace.applying import Prepared, Refusal, abandon, clashes, commit, prepare, unfinished
from sandbox.workspace.difference import Action, Change, Difference, chosen, diff
from sandbox.workspace.entry import Entry, Kind, LeftOut
from sandbox.workspace.staging import Staged, drop, load, stage
from sandbox.workspace.text import unified

__all__ = [
    "Action",
    "Change",
    "Difference",
    "Entry",
    "Kind",
    "LeftOut",
    "Prepared",
    "Refusal",
    "Staged",
    "abandon",
    "chosen",
    "clashes",
    "commit",
    "diff",
    "drop",
    "load",
    "prepare",
    "stage",
    "unfinished",
    "unified",
]
