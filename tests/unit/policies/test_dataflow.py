"""Data flow: who may choose an argument, what a call carries, and where that may go."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.proofs import learn

from gateway.stages.dataflow import DataFlow
from policies.action import Action, Kind, Subject
from policies.case import Argument, Case, Definition, Snapshot
from policies.dataflow import MAX_FINDINGS, consider
from policies.grant import Constraint, Grant, Op, Rule
from policies.label import CLEAN, Integrity, Label
from policies.labelling import demanded, leaves
from policies.pack import Amount, ArgumentSpec, Effect, Form, Pack, Role, ToolPack
from policies.packs import bundled, load_pack
from policies.proofs import ProofIndex
from policies.verdict import Code, Severity

ALICE = Subject(principal="alice", agent="agt_1", task="task_1", holder="agt_1", root="tok_1", token="tok_1")
IBAN, EVIL = "DE89370400440532013000", "DE02120300000000202051"
ME = "alice@home.example"
PACKS = {name: load_pack(name) for name in bundled()}
FLOW = {name: sinks for pack in PACKS.values() for name, sinks in pack.flow.items()}
PAY = {"to": IBAN, "amount_cents": 41250, "currency": "EUR", "memo": "Booking 7"}
EUR = Constraint("currency", Op.EQUALS, ("EUR",))
CARRIES_PASSPORT = Label(
    integrity=Integrity.UNTRUSTED, readers=frozenset({"user"}), classes=frozenset({"passport", "calendar"})
)


def case_of(
    server: str,
    tool: str,
    arguments: dict[str, Any],
    *rules: tuple[Constraint, ...],
    pack: Pack | None = None,
    schema: Mapping[str, Any] | None = None,
    **seen: Any,
) -> Case:
    """A call whose grant has exactly these rules, all of them satisfied."""
    grant = Grant(rules=tuple(Rule(server, tool, constraints) for constraints in rules), spend={"EUR": 100_000})
    body = {"name": tool, "inputSchema": {"type": "object", "properties": schema or {}}}
    definition = None if schema is None else Definition(server=server, name=tool, digest="d", body=body)
    snapshot = {"now": 0.0, "task": "task_1", "task_version": 1, "revoked": False, "mark": CLEAN, "key": b"k"}
    snapshot |= {"proofs": ProofIndex(), "flow": FLOW, "pack": pack or PACKS[server], "definition": definition, **seen}
    return Case(
        action=Action(id="act_1", kind=Kind.CALL_TOOL, subject=ALICE, server=server, name=tool, arguments=arguments),
        seen=Snapshot(grant=grant, **snapshot),
        rules=tuple(range(len(rules))),
    )


def of(tool: ToolPack) -> Pack:
    return Pack(name="test", tools={"go": tool})


def read(server: str, tool: str, body: Any) -> ProofIndex:
    """What a task has learned from one result."""
    index = ProofIndex()
    learn(index, {"structuredContent": body, "content": []}, PACKS[server].tool(tool), server, tool, "act_0")
    return index


def asked(case: Case) -> set[tuple[Code, str]]:
    return {(reason.code, reason.path) for reason in case.verdict.asks}


def argument(case: Case, path: str) -> Argument:
    return next(argument for argument in case.arguments if argument.path == path)


PAYEES = read("bank", "list_payees", {"payees": [{"name": "Meridian Air", "iban": IBAN}]})
SAVED = {"payees": [{"name": "Meridian Air", "iban": IBAN}]}


# ---- proof ---------------------------------------------------------------------------------------------------------


@pytest.mark.promise("authority-needs-proof")
def test_a_destination_that_nothing_supplies_asks() -> None:
    case = consider(case_of("bank", "pay", {**PAY, "to": EVIL}, (EUR,), proofs=PAYEES))
    assert asked(case) == {(Code.UNPROVEN, "/to")}
    assert case.verdict.severity is Severity.REQUIRE_APPROVAL
    assert argument(case, "/to").proof == ""
    assert argument(case, "/to").label.integrity is Integrity.UNTRUSTED


def test_a_saved_payee_and_a_pinned_currency_ask_nothing() -> None:
    case = consider(case_of("bank", "pay", PAY, (EUR,), proofs=PAYEES))
    assert case.verdict.severity is Severity.PERMIT
    assert argument(case, "/to").proof == "result"
    assert argument(case, "/currency").proof == "grant:0"
    assert case.spends == ("EUR", 41250)
    assert case.tool.effect is Effect.SPEND


@pytest.mark.promise("attested-fields-authorise-no-destination")
def test_an_attested_field_authorises_no_destination() -> None:
    """An attacker who mails or invites first is in the envelope."""
    proofs = read("calendar", "get_traveller", {"name": "A", "email": "x@evil.example", "passport": "C01"})
    assert proofs.find(Form.EMAIL, "x@evil.example") is not None
    case = consider(case_of("mail", "send", {"to": "x@evil.example", "subject": "s", "body": "b"}, (), proofs=proofs))
    assert asked(case) == {(Code.UNPROVEN, "/to")}
    account = read("bank", "balance", {"iban": EVIL, "balance_cents": 1, "currency": "EUR"})
    assert (Code.UNPROVEN, "/to") in asked(
        consider(case_of("bank", "pay", {**PAY, "to": EVIL}, (EUR,), proofs=account))
    )


def test_a_server_minted_id_names_what_to_book_but_not_what_to_destroy() -> None:
    proofs = read("flights", "search", {"flights": [{"id": "MA-1", "notes": "OB-2"}]})
    booked = consider(case_of("flights", "book", {"flight_id": "MA-1", "passenger": "A"}, (), proofs=proofs))
    assert booked.verdict.severity is Severity.PERMIT
    other = consider(case_of("flights", "book", {"flight_id": "OB-2", "passenger": "A"}, (), proofs=proofs))
    assert asked(other) == {(Code.UNPROVEN, "/flight_id")}
    cancel = of(
        ToolPack(effect=Effect.DESTRUCTIVE, arguments={"id": ArgumentSpec(role=Role.REF, form=Form.ID)}),
    )
    destroyed = consider(case_of("flights", "go", {"id": "MA-1"}, (), pack=cancel, proofs=proofs))
    assert asked(destroyed) == {(Code.UNPROVEN, "/id")}
    assert argument(destroyed, "/id").proof == "result"


def test_an_id_means_something_only_to_the_server_that_minted_it() -> None:
    proofs = read("flights", "search", {"flights": [{"id": "MA-1"}]})
    pack = of(ToolPack(arguments={"id": ArgumentSpec(role=Role.REF, form=Form.ID)}))
    assert asked(consider(case_of("crm", "go", {"id": "MA-1"}, (), pack=pack, proofs=proofs))) == {
        (Code.UNPROVEN, "/id")
    }


def test_a_trusted_name_is_no_command_elsewhere() -> None:
    pack = of(ToolPack(arguments={"run": ArgumentSpec(role=Role.COMMAND)}))
    case = case_of("shell", "go", {"run": "Meridian Air"}, (), pack=pack, proofs=PAYEES)
    assert asked(consider(case)) == {(Code.UNPROVEN, "/run")}


@pytest.mark.promise("proven-parts-are-not-recombined")
def test_two_rules_are_never_combined() -> None:
    rent = (Constraint("to", Op.EQUALS, (IBAN,)), EUR)
    fee = (Constraint("to", Op.EQUALS, (EVIL,)), Constraint("currency", Op.EQUALS, ("USD",)))
    tuples = of(
        ToolPack(
            arguments={
                "a": ArgumentSpec(role=Role.DEST),
                "b": ArgumentSpec(role=Role.DEST),
                "c": ArgumentSpec(role=Role.DEST),
            }
        )
    )
    first = (Constraint("a", Op.EQUALS, ("1",)), Constraint("b", Op.EQUALS, ("2",)))
    second = (Constraint("c", Op.EQUALS, ("3",)),)
    case = consider(case_of("s", "go", {"a": "1", "b": "2", "c": "3"}, second, first, pack=tuples))
    assert asked(case) == {(Code.UNPROVEN, "/c")}
    assert {a.proof for a in case.arguments} == {"grant:1", ""}
    mixed = case_of("bank", "pay", {**PAY, "currency": "USD"}, rent, fee)
    only_rent = consider(replace(mixed, rules=(0,)))
    assert asked(only_rent) == {(Code.UNPROVEN, "/currency")}


def test_of_several_rules_the_first_that_leaves_least_to_ask_counts() -> None:
    to = Constraint("to", Op.EQUALS, (IBAN,))
    case = consider(case_of("bank", "pay", PAY, (to, EUR), (EUR,), (to, EUR)))
    assert {argument(case, path).proof for path in ("/to", "/currency")} == {"grant:0"}


def test_the_longest_pointer_of_a_pack_gives_the_role() -> None:
    arguments = {
        "items": ArgumentSpec(role=Role.BODY),
        "/items/*/path": ArgumentSpec(role=Role.DEST, form=Form.PATH),
        "/items/*/*": ArgumentSpec(role=Role.NUMBER),
        "/items": ArgumentSpec(role=Role.REF),
    }
    sent = {"items": [{"path": "/a", "size": 3}], "/items": 1, "other": "x"}
    roles = {path: spec.role for path, _, spec in leaves(sent, ToolPack(arguments=arguments))}
    assert roles == {
        "/items/0/path": Role.DEST,
        "/items/0/size": Role.NUMBER,
        "/~1items": Role.DEST,
        "/other": Role.DEST,
    }


def test_a_rule_that_the_call_does_not_satisfy_proves_nothing() -> None:
    case = case_of("bank", "pay", PAY, (Constraint("to", Op.EQUALS, (IBAN,)), EUR))
    assert asked(consider(replace(case, rules=()))) == {(Code.UNPROVEN, "/to"), (Code.UNPROVEN, "/currency")}


@pytest.mark.parametrize("op", [Op.AT_MOST, Op.AT_LEAST, Op.STARTS_WITH])
def test_a_bound_is_no_proof(op: Op) -> None:
    case = case_of("mail", "send", {"to": ME, "subject": "s", "body": "b"}, (Constraint("to", op, (ME,)),))
    assert asked(consider(case)) == {(Code.UNPROVEN, "/to")}


@pytest.mark.promise("whole-values-prove")
@pytest.mark.parametrize(
    "sent",
    [
        "x" + ME,
        ME + ".evil.example",
        "ALICE@home.example",
        ME.replace("a", "\u0430", 1),
        "alice\u200b@home.example",
        f"{ME},x@evil.example",
        [ME, "x@evil.example"],
        {"address": ME},
        [],
        "",
        None,
        7,
    ],
)
def test_only_the_whole_value_is_proven(sent: Any) -> None:
    case = case_of("mail", "send", {"to": sent, "subject": "s", "body": "b"}, (Constraint("to", Op.EQUALS, (ME,)),))
    assert consider(case).verdict.severity is Severity.REQUIRE_APPROVAL


def test_a_list_is_proven_item_by_item() -> None:
    rule = (Constraint("to", Op.IN, (ME, "bob@home.example")),)
    case = consider(case_of("mail", "send", {"to": ["bob@home.example", ME], "subject": "s", "body": "b"}, rule))
    assert case.verdict.severity is Severity.PERMIT
    one_more = {"to": [ME, "x@evil.example"], "subject": "s", "body": "b"}
    assert asked(consider(case_of("mail", "send", one_more, rule))) == {(Code.UNPROVEN, "/to/1")}


def test_a_grant_may_be_written_in_another_spelling_of_the_same_address() -> None:
    spaced = Constraint("to", Op.EQUALS, ("DE89 3704 0044 0532 0130 00",))
    assert consider(case_of("bank", "pay", PAY, (spaced, EUR))).verdict.severity is Severity.PERMIT
    as_written = {**PAY, "to": "DE89 3704 0044 0532 0130 00"}
    assert consider(case_of("bank", "pay", as_written, (spaced, EUR))).verdict.severity is Severity.PERMIT
    third = {**PAY, "to": "DE893704 00440532013000"}
    assert asked(consider(case_of("bank", "pay", third, (spaced, EUR)))) == {(Code.UNPROVEN, "/to")}


def test_a_pointer_in_a_rule_names_a_nested_value() -> None:
    edits = {"entities": [{"name": "Alice", "entityType": "person", "observations": ["likes tea"]}]}
    rule = (Constraint("/entities/*/name", Op.EQUALS, ("Alice",)),)
    assert consider(case_of("memory", "create_entities", edits, rule)).verdict.severity is Severity.PERMIT
    by_name = (Constraint("entities", Op.EQUALS, ("Alice",)),)
    assert asked(consider(case_of("memory", "create_entities", edits, by_name))) == {
        (Code.UNPROVEN, "/entities/0/name")
    }


def test_an_endorsement_is_for_one_argument_of_one_tool() -> None:
    to = ("mail.send", "/to", "email", "bob@home.example")
    mail = {"to": "bob@home.example", "subject": "s", "body": "b"}
    case = consider(case_of("mail", "send", mail, (), endorsed=frozenset({to})))
    assert case.verdict.severity is Severity.PERMIT
    assert argument(case, "/to").proof == "endorsed"
    for wrong in [("mail.forward", *to[1:]), (to[0], "/cc", *to[2:]), (*to[:2], "text", to[3]), (*to[:3], ME)]:
        assert asked(consider(case_of("mail", "send", mail, (), endorsed=frozenset({wrong})))) == {
            (Code.UNPROVEN, "/to")
        }


def test_without_a_pack_every_argument_is_a_destination() -> None:
    case = consider(case_of("crm", "post", {"a": "x", "b": [{"c": 1}]}, (), pack=Pack(name="")))
    assert asked(case) == {(Code.UNPROVEN, "/a"), (Code.UNPROVEN, "/b/0/c")}


def test_an_authority_argument_left_out_lets_the_server_choose_and_asks() -> None:
    schema = {"to": {"type": "string"}, "account": {"type": "string"}, "cc": {"type": "array"}, "note": {}}
    arguments = {
        "to": ArgumentSpec(role=Role.DEST),
        "account": ArgumentSpec(role=Role.REF),
        "cc": ArgumentSpec(role=Role.DEST, optional=True),
        "note": ArgumentSpec(role=Role.BODY),
    }
    rule = (Constraint("to", Op.EQUALS, ("x",)),)
    case = consider(case_of("s", "go", {"to": "x"}, rule, pack=of(ToolPack(arguments=arguments)), schema=schema))
    assert asked(case) == {(Code.UNPROVEN, "/account")}
    without_schema = consider(case_of("s", "go", {"to": "x"}, rule, pack=of(ToolPack(arguments=arguments))))
    assert asked(without_schema) == {(Code.UNPROVEN, "/account")}
    nothing = {"to": "x", "cc": [], "account": None}
    approved = frozenset({("s.go", "/account", "number", "null")})
    empty = case_of("s", "go", nothing, rule, pack=of(ToolPack(arguments=arguments)), schema=schema, endorsed=approved)
    assert consider(empty).verdict.severity is Severity.PERMIT
    reading = of(ToolPack(effect=Effect.READ, arguments=arguments))
    read_only = consider(case_of("s", "go", {"to": "x"}, rule, pack=reading, schema=schema))
    assert read_only.verdict.severity is Severity.PERMIT


def test_a_switch_where_the_definition_puts_it_is_proven_and_any_other_default_is_not() -> None:
    arguments = {name: ArgumentSpec(role=Role.CONTROL) for name in ("dry", "mode", "free")}
    arguments["path"] = ArgumentSpec(role=Role.DEST)
    schema = {
        "dry": {"type": "boolean", "default": False},
        "mode": {"enum": ["soft", "hard"], "default": "soft"},
        "free": {"type": "string", "default": "x"},
        "path": {"type": "string", "default": "/srv"},
    }
    pack = of(ToolPack(arguments=arguments))
    filled = {"dry": False, "mode": "soft", "free": "x", "path": "/srv"}
    case = consider(case_of("s", "go", filled, (), pack=pack, schema=schema))
    assert asked(case) == {(Code.UNPROVEN, "/free"), (Code.UNPROVEN, "/path")}
    assert argument(case, "/mode").proof == "default"
    turned = consider(case_of("s", "go", {**filled, "dry": True, "mode": "hard"}, (), pack=pack, schema=schema))
    assert {(Code.UNPROVEN, "/dry"), (Code.UNPROVEN, "/mode")} <= asked(turned)
    zero = consider(case_of("s", "go", {**filled, "dry": 0}, (), pack=pack, schema=schema))
    assert (Code.UNPROVEN, "/dry") in asked(zero)


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("role", list(Role))
def test_what_each_role_demands(role: Role, effect: Effect) -> None:
    reaches_out = role in (Role.DEST, Role.SECRET, Role.COMMAND)
    if not role.is_authority or (effect is Effect.READ and not reaches_out):
        assert demanded(role, effect) is None
    elif role is Role.REF and effect is not Effect.DESTRUCTIVE:
        assert demanded(role, effect) is Integrity.ATTESTED
    else:
        assert demanded(role, effect) is Integrity.ENDORSED


def test_a_read_may_name_anything_inside_its_server_but_no_address_outside() -> None:
    inside = case_of("filesystem", "read_text_file", {"path": "/srv/../etc"}, ())
    assert consider(inside).verdict.severity is Severity.PERMIT
    fetch = of(ToolPack(effect=Effect.READ, arguments={"url": ArgumentSpec(role=Role.DEST, form=Form.URL)}))
    outside = case_of("web", "go", {"url": "https://evil.example/?q=1"}, (), pack=fetch)
    assert asked(consider(outside)) == {(Code.UNPROVEN, "/url")}


def test_a_call_that_a_person_refused_stays_refused_whatever_its_body_says() -> None:
    mail = {"to": "x@evil.example", "subject": "s", "body": "b"}
    first = consider(case_of("mail", "send", mail, ()))
    refused = frozenset({first.authority})
    again = consider(case_of("mail", "send", {**mail, "body": "please"}, (), refused=refused))
    assert again.is_denied
    assert again.verdict.code is Code.DENIED_BY_PERSON
    assert not consider(case_of("mail", "send", {**mail, "to": ME}, (), refused=refused)).is_denied


# ---- flow ----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("undeclared-flows-ask")
def test_a_body_carries_everything_read_so_far() -> None:
    mail = {"to": ME, "subject": "s", "body": "b"}
    rule = (Constraint("to", Op.EQUALS, (ME,)),)
    case = consider(case_of("mail", "send", mail, rule, mark=CARRIES_PASSPORT))
    assert case.verdict.asks == {reason for reason in case.verdict.asks if reason.code is Code.FLOW_REFUSED}
    assert {reason.detail for reason in case.verdict.asks} == {"passport"}
    assert argument(case, "/body").label.classes == {"passport", "calendar"}
    assert argument(case, "/to").label.classes == frozenset()
    once = frozenset({("passport", "mail.send")})
    assert consider(case_of("mail", "send", mail, rule, mark=CARRIES_PASSPORT, flows=once)).verdict.asks == frozenset()
    other = frozenset({("passport", "mail.forward")})
    assert consider(case_of("mail", "send", mail, rule, mark=CARRIES_PASSPORT, flows=other)).verdict.asks


@pytest.mark.promise("secret-reaches-no-sink")
def test_the_class_secret_reaches_no_sink_whatever_is_declared_or_approved() -> None:
    mark = replace(CARRIES_PASSPORT, classes=frozenset({"secret"}))
    everything = {"flow": {"secret": ("mail.send",)}, "flows": frozenset({("secret", "mail.send")})}
    mail = {"to": ME, "subject": "s", "body": "b"}
    case = consider(case_of("mail", "send", mail, (Constraint("to", Op.EQUALS, (ME,)),), mark=mark, **everything))
    assert case.is_denied
    assert case.verdict.code is Code.FLOW_REFUSED


def test_a_call_whose_every_value_was_granted_carries_nothing() -> None:
    mark = replace(CARRIES_PASSPORT, classes=frozenset({"secret"}))
    slots = tuple(
        Constraint(name, Op.EQUALS, (value,)) for name, value in [("to", ME), ("subject", "s"), ("body", "b")]
    )
    case = consider(case_of("mail", "send", {"to": ME, "subject": "s", "body": "b"}, slots, mark=mark))
    assert case.verdict.severity is Severity.PERMIT
    assert case.label.classes == frozenset()


def test_a_read_of_a_sealed_server_is_a_sink_only_where_it_takes_text_or_an_address() -> None:
    search = {"origin": "BER", "destination": "LIS", "date": "2027-05-13"}
    case = consider(case_of("flights", "search", search, (), mark=CARRIES_PASSPORT))
    assert {reason.detail for reason in case.verdict.asks} == {"passport"}
    sealed = case_of("calendar", "list_events", {"day": "2027-05-14"}, (), mark=CARRIES_PASSPORT, sealed=True)
    assert consider(sealed).verdict.severity is Severity.PERMIT


def test_a_servers_own_data_may_return_to_it_where_its_pack_says_so() -> None:
    mark = Label(integrity=Integrity.UNTRUSTED, readers=frozenset({"user"}), classes=frozenset({"notes"}))
    entity = {"entities": [{"name": "A", "entityType": "t", "observations": []}]}
    rule = (Constraint("/entities/*/name", Op.EQUALS, ("A",)),)
    memory = PACKS["memory"]
    home = consider(case_of("notes", "create_entities", entity, rule, pack=memory, mark=mark))
    assert {reason.code for reason in home.verdict.asks} <= {Code.UNPROVEN}
    away = consider(case_of("memory", "create_entities", entity, rule, mark=mark))
    assert "notes" in {reason.detail for reason in away.verdict.asks}


def test_an_account_link_or_address_in_a_body_that_nobody_supplied_asks() -> None:
    rule = (Constraint("to", Op.EQUALS, (ME,)),)

    def sending(body: str) -> Case:
        mail = {"to": ME, "subject": "Receipt", "body": body}
        return consider(case_of("mail", "send", mail, rule, proofs=PAYEES))

    assert sending(f"Paid to {IBAN}, receipt for {ME}.").verdict.severity is Severity.PERMIT
    for bad in [
        f"Pay {EVIL}",
        "DE02 1203 0000 0000 2020 51",
        "see https://evil.example/x",
        "www.evil.example",
        "x@evil.example",
    ]:
        assert asked(sending(f"Hello, {bad} please.")) == {(Code.UNPROVEN, "/body")}, bad
    many = sending(" ".join(f"https://evil.example/{number}" for number in range(100)))
    assert len(many.verdict.asks) == MAX_FINDINGS + 1


def test_a_link_hidden_in_a_key_of_a_body_asks_too() -> None:
    pack = of(ToolPack(arguments={"data": ArgumentSpec(role=Role.BODY)}))
    case = consider(case_of("s", "go", {"data": {"https://evil.example/": 1}}, (), pack=pack))
    assert len(case.verdict.asks) == 1


# ---- amount --------------------------------------------------------------------------------------------------------


@pytest.mark.promise("unreadable-amounts-deny")
@pytest.mark.parametrize(
    "change",
    [
        {"amount_cents": -1},
        {"amount_cents": 1.5},
        {"amount_cents": "100"},
        {"amount_cents": True},
        {"amount_cents": None},
        {"currency": "eur"},
        {"currency": "EURO"},
        {"currency": 978},
    ],
)
def test_an_amount_that_cannot_be_bounded_is_denied(change: dict[str, Any]) -> None:
    case = consider(case_of("bank", "pay", {**PAY, **change}, (EUR,), proofs=PAYEES))
    assert case.is_denied
    assert case.verdict.code is Code.ARGUMENTS_INVALID


def test_a_spend_whose_pack_names_no_amount_is_denied() -> None:
    assert consider(case_of("s", "go", {}, (), pack=of(ToolPack(effect=Effect.SPEND)))).is_denied
    gone = of(ToolPack(effect=Effect.SPEND, amount=Amount(argument="a", currency="c")))
    assert consider(case_of("s", "go", {}, (), pack=gone)).is_denied


# ---- laws ----------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([IBAN, EVIL, ME, "EUR", "s"]) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
calls = st.sampled_from([("bank", "pay"), ("mail", "send"), ("memory", "create_entities"), ("flights", "search")])
names = st.sampled_from(["to", "subject", "body", "amount_cents", "currency", "entities", "~/odd"])


@settings(max_examples=100)
@given(calls, st.dictionaries(names, json_values, max_size=4))
def test_a_worse_mark_never_loosens(call: tuple[str, str], arguments: dict[str, Any]) -> None:
    better = consider(case_of(*call, arguments, (EUR,), proofs=PAYEES))
    worse = consider(case_of(*call, arguments, (EUR,), proofs=PAYEES, mark=CARRIES_PASSPORT))
    assert worse.verdict.asks >= better.verdict.asks
    assert worse.verdict.severity >= better.verdict.severity
    assert better.label.flows_to(worse.label)


@settings(max_examples=100)
@given(calls, st.dictionaries(names, json_values, max_size=4))
def test_every_value_of_the_arguments_is_a_leaf(call: tuple[str, str], arguments: dict[str, Any]) -> None:
    found = leaves(arguments, PACKS[call[0]].tool(call[1]))
    assert len({path for path, _, _ in found}) == len(found)
    assert json.dumps(arguments).count(IBAN) == sum(value == IBAN for _, value, _ in found)


async def test_the_stage_is_the_pure_function() -> None:
    stage, case = DataFlow(), case_of("bank", "pay", PAY, (EUR,), proofs=PAYEES)
    assert stage.name == "data flow"
    assert await stage.consider(case) == consider(case)


@pytest.mark.promise("spend-needs-a-budget")
def test_a_spend_past_what_is_left_of_the_grant_is_refused_before_anybody_is_asked() -> None:
    case = consider(case_of("bank", "pay", {**PAY, "amount_cents": 100_001}, (EUR,), proofs=PAYEES))
    assert case.verdict.code is Code.CAPABILITY_EXHAUSTED


def test_a_spend_in_a_currency_without_a_budget_is_refused() -> None:
    case = consider(case_of("bank", "pay", {**PAY, "currency": "USD"}, (), proofs=PAYEES))
    assert case.verdict.code is Code.CAPABILITY_EXHAUSTED
