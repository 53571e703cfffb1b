"""Which paths there are under `/v1`, spelled exactly as they came: nothing is decoded, folded or trimmed."""

import re
from enum import Enum

from gateway.edges.openai.failures import Failure
from gateway.wire.http import Head

_GENERATION = r"(?:chatcmpl-|cmpl-)?(act_[0-9a-z-]{1,64})"


class Route(Enum):
    """Verb, and the path's pattern; a group is the name of what is meant."""

    CHAT = ("POST", r"/v1/chat/completions")
    TEXT = ("POST", r"/v1/completions")
    MODELS = ("GET", r"/v1/models")
    MODEL = ("GET", r"/v1/models/([A-Za-z0-9][A-Za-z0-9._:-]{0,127})")
    GENERATIONS = ("GET", r"/v1/generations")
    SUSPEND = ("POST", rf"/v1/generations/{_GENERATION}/suspend")
    RESUME = ("POST", rf"/v1/generations/{_GENERATION}/resume")

    def __init__(self, verb: str, pattern: str) -> None:
        self.verb = verb
        self.pattern = re.compile(pattern)


def find(head: Head) -> tuple[Route, str] | Failure:
    """The route of a request and the name in its path, or why it has none."""
    for route in Route:
        found = route.pattern.fullmatch(head.route)
        if found is None:
            continue
        if head.verb != route.verb:
            allowed = ((b"allow", route.verb.encode()),)
            said = f"{head.route} takes {route.verb} alone."
            return Failure(status=405, code="method_not_allowed", message=said, fields=allowed)
        return _media_refusal(head, route) or (route, found[1] if found.groups() else "")
    paths = "/v1/chat/completions, /v1/completions, /v1/models and /v1/generations"
    return Failure(status=404, code="unknown_url", message=f"Nothing is at this path; there are {paths}.")


def _media_refusal(head: Head, route: Route) -> Failure | None:
    """A page can send a form's types without asking first; a body of any other type than JSON is not read."""
    given = head.field(b"content-type")
    if given is None and route not in (Route.CHAT, Route.TEXT):
        return None  # there may be no body
    if (given or "").partition(";")[0].strip().lower() == "application/json":
        return None
    return Failure(status=415, code="unsupported_media_type", message="Content-Type must be application/json.")
