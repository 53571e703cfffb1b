"""A task that learns from results, as the gateway does: read, kept where there is room, else worth the worst."""

from policies.jsonvalue import JSONObject
from policies.label import Label
from policies.pack import ToolPack
from policies.proofs import ProofIndex
from policies.reading import overflow, read_result


def learn(index: ProofIndex, result: JSONObject, tool: ToolPack, server: str, name: str, action: str) -> Label:
    """Take a result's proofs in, and return the label of the whole."""
    reading = read_result(result, tool, server, name, action)
    return reading.label if index.take(reading) else overflow(tool, server, name, action).label
