"""Who may find what another's prompts left in memory: one agent, under one label, by itself or through one server."""

from itertools import combinations
from typing import Any, cast

from gateway.llm.asking import Asker, Words
from gateway.llm.kept import About
from policies.action import Action, Kind, Subject
from policies.label import CLEAN, Integrity, Label

ASKER = Asker(words=cast("Words", None), window=100, key=b"k" * 32)
READ = Label(integrity=Integrity.UNTRUSTED, readers=frozenset({"user"}), classes=frozenset({"mail"}))


def domain(holder: str = "ann", label: Label = CLEAN, **arguments: Any) -> str:
    subject = Subject(principal="p", agent=holder, task="task_1", holder=holder, root="tok_1", token="tok_1")
    said = {"max_tokens": 1, "seed": 0} | arguments
    action = Action(id="act_1", kind=Kind.LLM_REQUEST, subject=subject, server="llm", name="any", arguments=said)
    about = About(label=label, chat=False, task="task_1", agent=holder)
    return ASKER.request(action, [1], said, about).domain


def test_no_two_askers_share_a_domain() -> None:
    """A server that asks for samples would otherwise find out, by time alone, what its agent's own prompts said."""
    apart = [domain(), domain("bob"), domain(label=READ), domain(server="mail"), domain(server="web")]
    for one, other in combinations(apart, 2):
        assert one != other
    assert domain(server="mail") == domain(server="mail")
