"""(3) Data flow: what proves each argument, and whether what the call carries may reach where it goes.

An argument that chooses whom, what or how a call affects needs positive proof (`labelling.py`); without it a person is
asked. Each class of data that the call carries must be declared or approved for this sink, and an account, link or
address in a body must have been supplied by somebody.
"""

from policies.bodies import found_in
from policies.case import Argument, Case
from policies.forms import canonical_form, spellings
from policies.grant import Op
from policies.labelling import is_endorsed, is_proven, labelled, sink, steps_of
from policies.pack import Effect, Form, Role
from policies.verdict import PERMIT, Code, Verdict, ask, deny, join_all

NOWHERE = "secret"
"""The class of data that reaches no sink, whatever is declared or approved."""
MAX_FINDINGS = 16
"""Links and accounts of one body that are named; more are asked about all the same, in one sentence."""


def consider(case: Case) -> Case:
    """The case with every argument labelled, the amount it spends, and what data flow has to say of it."""
    tool = case.seen.pack.tool(case.action.name)
    if case.tool is not tool:
        case = case.learned(tool=tool)
    case = case.learned(arguments=labelled(case))
    if case.seen.refused and case.authority in case.seen.refused:
        return case.denied(Code.DENIED_BY_PERSON, "a person refused a call with the same effect")
    case = _spending(case)
    case = case.joined(_proof_asked(case))
    if case.tool.inside:  # nothing leaves: what it answers carries the label of what it was given
        return case
    return case.joined(_flow_asked(case)).joined(_bodies_asked(case))


def _proof_asked(case: Case) -> Verdict:
    return join_all(
        ask(Code.UNPROVEN, _why(argument), argument.path)
        for argument in case.arguments
        if not is_proven(argument, case.tool.effect)
    )


def _why(argument: Argument) -> str:
    if argument.proof:
        return f"{argument.spec.role}: seen in an attested field, which is not enough for this"
    if argument.value is None:
        return f"{argument.spec.role}: left out, so the server would choose"
    if canonical_form(argument.spec.form, argument.value) is None:
        return f"{argument.spec.role}: no {argument.spec.form} that could be compared safely"
    return f"{argument.spec.role}: nothing granted, trusted or approved supplies this value"


# ---- flow ----------------------------------------------------------------------------------------------------------


def _flow_asked(case: Case) -> Verdict:
    """Each class of data that the call carries must be declared or approved for this sink; `secret` never is.

    Whatever a read is given tells its server something, were it the name of a file. Only where the server is sealed, so
    that it can tell nobody, does a read carry nothing out, unless it is given a body or a destination.
    """
    carries_out = any(argument.spec.role in (Role.DEST, Role.BODY) for argument in case.arguments)
    if case.tool.effect is Effect.READ and case.seen.sealed and not carries_out:
        return PERMIT
    classes = case.label.classes
    if NOWHERE in classes:
        return deny(Code.FLOW_REFUSED, NOWHERE)
    return join_all(ask(Code.FLOW_REFUSED, name) for name in classes if not _may_flow(case, name))


def _may_flow(case: Case, name: str) -> bool:
    declared = case.seen.flow.get(name, ())
    returns_home = name == case.action.server and "." in case.seen.pack.flow.get(".", ())
    return (
        returns_home
        or case.action.server in declared
        or sink(case) in declared
        or (name, sink(case)) in case.seen.flows
    )


def _bodies_asked(case: Case) -> Verdict:
    """Accounts, links and addresses in a body that nothing supplies: a letter can pay or mislead as well as a call."""
    verdict, named = PERMIT, 0
    for argument in case.arguments:
        if argument.spec.role is not Role.BODY or argument.proof:
            continue
        for form, canonical, written in found_in(_said(argument)):
            if canonical and _is_supplied(case, argument.path, form, canonical):
                continue
            named += 1
            if named > MAX_FINDINGS:
                return verdict.join(ask(Code.UNPROVEN, "body: more links or accounts than can be named", argument.path))
            verdict = verdict.join(ask(Code.UNPROVEN, f"body: unproven {form} {written[:200]}", argument.path))
    return verdict


def _said(argument: Argument) -> str:
    """The text of a leaf, and of the keys above it: they are the agent's words too."""
    keys = [step for step in steps_of(argument.path)[1:] if not step.isdecimal()]
    return "\n".join([*keys, argument.value] if isinstance(argument.value, str) else keys)


def _is_supplied(case: Case, path: str, form: Form, canonical: str) -> bool:
    return (
        case.seen.proofs.find(form, canonical) is not None
        or is_endorsed(case, path, form, canonical)
        or any(
            canonical in spellings(form, value)
            for rule in case.seen.grant.rules
            for slot in rule.constraints
            if slot.op in (Op.EQUALS, Op.IN)
            for value in slot.values
        )
    )


# ---- amount --------------------------------------------------------------------------------------------------------


def _spending(case: Case) -> Case:
    """The case with the amount to reserve; a spend whose amount cannot be read is not one that can be bounded."""
    if case.tool.effect is not Effect.SPEND:
        return case
    fields, arguments = case.tool.amount, case.action.arguments
    amount = arguments.get(fields.argument) if fields else None
    currency = arguments.get(fields.currency) if fields else None
    if not isinstance(amount, int) or isinstance(amount, bool) or amount < 0:
        return case.denied(Code.ARGUMENTS_INVALID, "the amount must be a whole number of minor units, not negative")
    if not isinstance(currency, str) or not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        return case.denied(Code.ARGUMENTS_INVALID, "the currency must be a three-letter code such as EUR")
    left = case.seen.budgets.get(f"spend:{currency}", case.seen.grant.spend.get(currency, 0))
    if amount > left:
        return case.denied(Code.CAPABILITY_EXHAUSTED, f"{left} minor units of {currency} are left of what was granted")
    return case.learned(spends=(currency, amount))
