"""What operators may do: grant, revoke, settle, look. Reached by an operator's credential, never by an agent's."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.event import Event
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.options import MODEL_SERVER
from gateway.ports import Done, Ledger
from gateway.stores import budgets, calls, tasks
from gateway.stores.calls import Call, CallState
from gateway.stores.memory import Memory
from gateway.stores.tasks import Task, TokenRow
from policies.capability import Authority, CapabilityError, Refused
from policies.currencies import DECIMALS
from policies.fit import misfit
from policies.grant import Grant
from policies.jsonvalue import JSON
from policies.rules import RuleError, parse_rule, str_rule

PRINCIPAL = "user"
"""Whom a task is for unless the operator says otherwise; packs name this reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A fresh task and its root token, shown once."""

    task: Task
    token_id: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The operators' side of the gateway."""

    authority: Authority
    ledger: Ledger
    memory: Memory
    clock: Callable[[], float]
    servers: frozenset[str]
    tools: Callable[[str], Mapping[str, JSON]]
    """By server: the input schema of each tool that is known; none while nothing is."""

    async def grant(
        self,
        *,
        text: str,
        allow: Sequence[str],
        calls: int | None = None,
        spend: Mapping[str, int] | None = None,
        tokens: int | None = None,
        bits: int | None = None,
        expires_s: float | None = None,
        agent: str | None = None,
        principal: str = PRINCIPAL,
        by: str,
    ) -> Granted:
        """Create a task and mint its root token.

        Raises:
            OperatorError: a rule that cannot be read or names what is not there, a bound that is not positive, a
                currency that does not exist.
            Unrecordable: nothing was granted.
        """
        now = self.clock()
        bounds = Grant(
            rules=(),
            calls=calls,
            spend=spend or {},
            tokens=tokens,
            bits=bits,
            expires=None if expires_s is None else now + expires_s,
        )
        grant = self._grant(allow, bounds)
        if not text.strip():
            raise OperatorError("a task needs a text: what did the user ask for?", status=422)
        task = Task(
            id=new_id("task"),
            principal=principal,
            agent=agent or new_id("agt"),
            text=text,
            grant=grant,
            created=now,
        )
        token_id = new_id("tok")
        try:
            token = self.authority.mint(
                grant,
                token=token_id,
                task=task.id,
                agent=task.agent,
                holder=task.agent,
                principal=principal,
            )
        except CapabilityError as error:
            raise OperatorError(f"no token can say this grant: {error}", status=422) from error
        subject = self.authority.read(token, now=now)
        if isinstance(subject, Refused):
            raise OperatorError(f"the token just minted cannot be read: {subject.reason}", status=500)
        row = TokenRow(
            id=token_id,
            task=task.id,
            agent=task.agent,
            holder=task.agent,
            revocation=subject.chain[0],
            expires=grant.expires,
            created=now,
        )
        most = {f"spend:{currency}": amount for currency, amount in grant.spend.items()}
        counted = {"calls": grant.calls, "tokens": grant.tokens, "bits": grant.bits}
        most |= {name: amount for name, amount in counted.items() if amount is not None}
        payload = {
            "by": by,
            "principal": principal,
            "text": text,
            "rules": [str_rule(rule) for rule in grant.rules],
            "budgets": most,
            "expires": grant.expires,
        }
        created = self._event("task.created", task.id, payload, agent=task.agent)
        minted = self._event("token.minted", task.id, {"by": by, "token": token_id}, agent=task.agent)

        def create(db: sqlite3.Connection) -> Done[None]:
            tasks.create(db, task, row)
            budgets.open_budgets(db, token_id, most)
            return Done(value=None, events=(created, minted), after=lambda: self.memory.added(task))

        await self.ledger.run(create)
        return Granted(task=task, token_id=token_id, token=token)

    async def revoke(self, what: str, *, by: str) -> str:
        """Revoke a task (`task_...`), a root token (`tok_...`) or a token itself, with everything attenuated from it.

        Returns the task's id.

        Raises:
            OperatorError: nothing of that name is known here.
        """
        task, block = self._revocable(what)
        now = self.clock()
        event = self._event("token.revoked", task, {"by": by, "what": block or task})

        def revoke(db: sqlite3.Connection) -> Done[Task | None]:
            if block:
                tasks.revoke_block(db, block, now)
            else:
                tasks.revoke_task(db, task)
            after = tasks.load(db, task)
            return Done(value=after, events=(event,), after=lambda: self._revoked(after, block))

        await self.ledger.run(revoke)
        return task

    async def settle(self, action: str, *, ok: bool, by: str) -> Call:
        """Say what became of a call whose outcome nobody knew; a failed one gives its budget back.

        Raises:
            OperatorError: no such call (404), or its outcome is known (409).
        """
        state = CallState.SETTLED_OK if ok else CallState.SETTLED_FAILED

        def settled(db: sqlite3.Connection) -> Done[Call | OperatorError]:
            call = calls.load(db, action)
            if call is None:
                return Done(value=OperatorError(f"no call {action}", status=404))
            if not calls.finish(db, action, state, was=CallState.UNKNOWN):
                return Done(value=OperatorError(f"the outcome of {action} is known: {call.state}"))
            if not ok:
                budgets.give_back(db, call.root, call.reserved)
            event = self._event(
                "unknown.settled", call.task, {"by": by, "state": state}, agent=call.agent, action=action
            )
            return Done(value=call, events=(event,))

        result = await self.ledger.run(settled)
        if isinstance(result, OperatorError):
            raise result
        return result

    def task(self, task: str) -> dict[str, Any]:
        """One task with its tokens, budgets, mark and open calls, as JSON.

        Raises:
            OperatorError: no such task (404).
        """
        reader = self.memory.reader
        row = tasks.load(reader, task)
        if row is None:
            raise OperatorError(f"no task {task}", status=404)
        tokens = tasks.tokens_of(reader, task)
        return {
            **task_document(row),
            "tokens": [{"id": token.id, "agent": token.agent, "expires": token.expires} for token in tokens],
            "budgets": {name: left for token in tokens for name, left in budgets.left(reader, token.id).items()},
            "unknown": [
                {"action": call.action, "server": call.server, "tool": call.tool, "time": call.time}
                for call in calls.still_open(reader, CallState.UNKNOWN, task)
            ],
        }

    def tasks(self, *, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        return [task_document(row) for row in tasks.listed(self.memory.reader, after=after, limit=limit)]

    def _grant(self, allow: Sequence[str], bounds: Grant) -> Grant:
        """The bounds with their rules, each of them sound."""
        try:
            rules = tuple(parse_rule(rule) for rule in allow)
        except RuleError as error:
            raise OperatorError(str(error), status=422) from error
        if not rules:
            raise OperatorError('a grant needs at least one rule, such as mail.send(to = "me@example.org")', status=422)
        if unknown := {rule.server for rule in rules} - self.servers:
            known = ", ".join(sorted(self.servers))
            raise OperatorError(f"no server named {', '.join(sorted(unknown))}; configured: {known}", status=422)
        for rule in rules:
            if wrong := misfit(rule, self.tools(rule.server)):
                raise OperatorError(wrong, status=422)
        for name, amount in (("calls", bounds.calls), ("tokens", bounds.tokens), ("bits", bounds.bits)):
            if amount is not None and amount < 1:
                raise OperatorError(f"--{name} must be at least 1", status=422)
        if bounds.tokens is None and any(rule.server == MODEL_SERVER for rule in rules):
            raise OperatorError("what the model does is counted: add a bound, such as --tokens 20000", status=422)
        for currency in bounds.spend.keys() - DECIMALS.keys():
            raise OperatorError(f"no currency is called {currency} (ISO 4217)", status=422)
        if any(amount < 1 for amount in bounds.spend.values()):
            raise OperatorError("a spend must be at least one minor unit, such as 0.01EUR", status=422)
        return replace(bounds, rules=rules, spend=dict(bounds.spend))

    def _revocable(self, what: str) -> tuple[str, str]:
        """(task, revocation id of one block); the block is empty where the whole task goes."""
        reader = self.memory.reader
        if what.startswith("task_"):
            if tasks.load(reader, what) is None:
                raise OperatorError(f"no task {what}", status=404)
            return what, ""
        if what.startswith("tok_"):
            task = tasks.task_of_token(reader, what)
            for token in tasks.tokens_of(reader, task) if task else ():
                if token.id == what:
                    return token.task, token.revocation
            raise OperatorError(f"no token {what}", status=404)
        subject = self.authority.read(what, now=0.0)
        if isinstance(subject, Refused):
            raise OperatorError(
                f"neither a task, a token's id nor a token of this gateway: {subject.reason}", status=404
            )
        return subject.task, subject.chain[-1]

    def _revoked(self, task: Task | None, block: str) -> None:
        if block:
            self.memory.revoked.add(block)
        elif task:
            self.memory.added(task)

    def _event(self, kind: str, task: str, payload: dict[str, Any], *, agent: str = "", action: str = "") -> Event:
        return Event(
            id=new_id("evt"), kind=kind, time=self.clock(), payload=payload, task=task, agent=agent, action=action
        )


def task_document(task: Task) -> dict[str, Any]:
    """A task as operators read it."""
    return {
        "id": task.id,
        "principal": task.principal,
        "agent": task.agent,
        "text": task.text,
        "rules": [str_rule(rule) for rule in task.grant.rules],
        "calls": task.grant.calls,
        "spend": dict(task.grant.spend),
        "llm_tokens": task.grant.tokens,
        "bits": task.grant.bits,
        "expires": task.grant.expires,
        "revoked": task.revoked,
        "created": task.created,
    }
