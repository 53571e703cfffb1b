"""The card in sentences, for the console and the command line alike; whoever prints one makes it inert."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from gateway.desk.money import spelled

JSONObject: TypeAlias = Mapping[str, Any]

ROLES: Mapping[str, str] = {
    "dest": "where it goes",
    "ref": "which thing",
    "secret": "a secret",
    "command": "what is run",
    "body": "text",
    "number": "how much",
    "time": "when",
    "control": "how it is done",
}
EFFECTS: Mapping[str, str] = {
    "spend": "Spends money",
    "destructive": "Destroys",
    "write": "Changes something",
    "read": "Reads",
}
_PROOFS = {
    "endorsed": "a person approved this value for this task",
    "default": "the tool's accepted definition puts it there",
}
_HOW = {"encoded": "Read, encoded,", "words": "Words of it were read"}
_FORMS = {"iban": "an account number", "url": "a link", "email": "an address"}


def why(card: JSONObject) -> list[str]:
    """Why a person is asked, a sentence for each ground, the gravest first."""
    asks = sorted(card["asks"], key=lambda ask: _GRAVEST.index(ask["code"]) if ask["code"] in _GRAVEST else 9)
    return [_why(card, ask) for ask in asks]


def is_asked(card: JSONObject, path: str) -> bool:
    """Whether a person is asked about this argument."""
    return any(ask["path"] == path for ask in card["asks"])


def standing(card: JSONObject, argument: JSONObject) -> tuple[str, str]:
    """How an argument stands (`open`, `proven`, `free`), and the sentence."""
    proof = argument["proof"]
    if is_asked(card, argument["path"]) and argument["role"] != "body":
        if argument["value"] is None:
            return "open", "left out, so the server would choose"
        return "open", "nothing granted, trusted or approved supplies this value"
    if proof.startswith("grant:"):
        return "proven", "the grant names this value"
    if proof == "result":
        return "proven", "a field the operator trusts" if argument["integrity"] == "TRUSTED" else "its server issued it"
    if proof:
        return "proven", _PROOFS[proof]
    if argument["defaulted"]:
        return "free", "not sent by the agent: the tool's default"
    if argument["role"] == "body":
        return (
            ("open", "holds what nobody supplied")
            if is_asked(card, argument["path"])
            else ("free", "the agent's words")
        )
    return "free", "chosen by the agent, within the grant" if argument["granted"] else "chosen by the agent"


def places(argument: JSONObject) -> list[JSONObject]:
    """Where the value was read, a place for each result: the field itself rather than the text that repeats it."""
    ordered = sorted(argument["origins"], key=lambda found: found["path"].startswith("/content/"))
    best: dict[str, JSONObject] = {}
    for found in ordered:
        best.setdefault(found["action"], found)
    return list(best.values())


def place(found: JSONObject) -> str:
    """One place, as the beginning of a sentence that its snippet ends."""
    path = found["path"].removeprefix("/structuredContent").removeprefix("/")
    return f"{_HOW.get(found['how'], 'Read')} in a result of {found['server']}.{found['tool']}, at {path}:"


def money(card: JSONObject) -> str:
    """What it spends, or nothing."""
    return spelled(*card["spends"]) if card["spends"] else ""


def budgets(card: JSONObject) -> list[str]:
    """What is left of each budget, and what would be after this."""
    said = []
    for name, left in sorted(card["budgets"].items()):
        currency = name.removeprefix("spend:")
        if currency == name:
            said.append(f"{left} {name} left")
        elif card["spends"] and card["spends"][0] == currency:
            said.append(f"{spelled(currency, left)} left, {spelled(currency, left - card['spends'][1])} after this")
        else:
            said.append(f"{spelled(currency, left)} left")
    return said


def read_so_far(card: JSONObject) -> str:
    """What may steer the agent by now."""
    mark = card["mark"]
    trust = "text that strangers can write" if mark["integrity"] == "UNTRUSTED" else "nothing that strangers can write"
    classes = f", and data of the classes {_listed(mark['classes'])}" if mark["classes"] else ""
    return f"The agent has read {trust}{classes}."


def endorsed(values: Sequence[tuple[str, str, str]], card: JSONObject) -> list[str]:
    """What a yes for the whole task would let pass from then on."""
    tool = f"{card['server']}.{card['tool']}"
    return [
        f"data of the class {value} to {tool}" if path == "flow" else f"{value} as {path.removeprefix('/')} of {tool}"
        for path, _, value in values
    ]


_GRAVEST = ("flow_refused", "unproven", "policy_refused")


def _why(card: JSONObject, ask: JSONObject) -> str:
    name, detail = ask["path"].removeprefix("/"), ask["detail"]
    if ask["code"] == "flow_refused":
        return f"It may carry data of the class “{detail}”, which nobody declared for {card['server']}.{card['tool']}."
    if ask["code"] == "policy_refused":
        return f"A rule asks: {detail.partition(': ')[2] or detail}."
    if ask["code"] == "unproven" and name:
        role, _, said = detail.partition(": ")
        if said.startswith("unproven "):
            _, form, written = said.split(" ", 2)
            return f"{name} holds {_FORMS.get(form, form)} that nobody supplied: {written}"
        means = ROLES.get(role, role)
        return f"{name} ({means}): {said}." if said else f"{name}: {detail}."
    return f"{ask['code']}: {detail}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
