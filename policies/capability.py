"""Capability tokens: a grant as a signed biscuit that its holder can narrow offline and nobody can widen.

The authority block names who acts for which task, carries one Datalog rule per rule of the grant, and checks its expiry
and audience. A holder may append checks (`blocks.py`); facts or rules, were they taken, would be out of the authority's
sight. What a check can speak of, per call:

    call(server, tool)   time(date)   instance(id)
    texts(pointer, [...])   ints(pointer, [...])   flags(pointer, [...])     one element for a scalar

Biscuit 3 (doc.biscuitsec.org/reference/specifications). Verified tokens are cached, verdicts never: a child may check
what its parent did not.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from biscuit_auth import (
    Algorithm,
    AuthorizationError,
    AuthorizerBuilder,
    Biscuit,
    BiscuitBuilder,
    BiscuitValidationError,
    DataLogError,
    KeyPair,
    Policy,
    PrivateKey,
    Rule,
)

from policies.action import Subject
from policies.blocks import refused_block
from policies.datalog import call_facts, grant_rules
from policies.grant import Grant, Scalar
from policies.jsonvalue import JSONObject
from policies.rules import RuleError, bounded_values, check_rule

MAX_TOKEN_CHARACTERS = 32_768
MAX_BLOCKS = 16
MAX_VALUES = 1_000
"""How many argument values one call may put before its token."""
MAX_TIME = timedelta(milliseconds=50)
"""The library's 1 ms refuses honest calls under load; past this, the token could not decide."""
MAX_FACTS = 10_000
KEPT = 4_096
"""How many verified tokens are remembered."""


class CapabilityError(Exception):
    """The token library broke, or was asked for what no token can say."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a token does not hold, or does not cover a call."""

    reason: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """The token could not be evaluated (a limit, or Datalog that errs): neither covered nor not."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A genuine token, for a person."""

    subject: Subject
    audience: str
    blocks: tuple[str, ...]
    """Datalog of each block, the authority's first, texts not escaped. Appended ones are their holder's words."""


@dataclass(slots=True)
class _Known:
    token: Biscuit
    subject: Subject
    audience: str
    says: Grant | None = None
    """The grant that the token was found to say, exactly."""


class Authority:
    """The root key of one instance: mints its tokens, and reads them back."""

    def __init__(self, private_key: bytes, instance: str) -> None:
        """`private_key`: 32 bytes of Ed25519 (`new_private_key`). `instance`: the audience of all its tokens."""
        self._root = KeyPair.from_private_key(_private(private_key))
        self._instance = instance
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()  # protects _known

    @property
    def public_key(self) -> str:
        """What a holder needs to check a token: `ed25519/` and hex."""
        return str(self._root.public_key)

    def mint(self, grant: Grant, *, task: str, agent: str, holder: str, principal: str, token: str) -> str:
        """A token that holds until the grant expires, in whole seconds.

        Raises:
            RuleError: a rule that no text could have said.
            CapabilityError: too many rules, or a name or time that no token can carry.
        """
        minted: str = self._built(
            grant, task=task, agent=agent, holder=holder, principal=principal, token=token
        ).to_base64()
        if len(minted) > MAX_TOKEN_CHARACTERS:
            raise CapabilityError("the grant has too many rules for one token")
        return minted

    def read(self, credential: str, now: float) -> Subject | Refused:
        """Who holds this token, by its signature, audience and expiry. What it covers is asked per call."""
        known = self._verified(credential)
        if isinstance(known, Refused):
            return known
        if known.audience != self._instance:
            return Refused("the token was minted for another gateway")
        if known.subject.expires is not None and now >= known.subject.expires:
            return Refused("the token has expired")
        return known.subject

    def authorise(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, now: float
    ) -> tuple[int, ...] | Refused | Undecided:
        """The indices of the grant's rules that cover this call whole, at least one; or why there is none."""
        known = self._verified(subject.credential)
        if isinstance(known, Refused):
            return known
        values = bounded_values(arguments)
        if sum(map(len, values.values())) > MAX_VALUES:
            return Undecided(f"more than {MAX_VALUES:,} argument values")
        try:
            context = {"server": server, "tool": tool, "instance": self._instance, "now": _date(now)}
            return _covered(known.token, context, values)
        except AuthorizationError as error:
            return _why_not(str(error), f"{server}.{tool}")
        except (CapabilityError, DataLogError, TypeError, ValueError, OverflowError) as error:
            return Undecided(f"the token could not be evaluated: {error}")

    def is_exactly(self, subject: Subject, grant: Grant) -> bool:
        """Whether the token is as it was minted, and its signed block is what would be minted for this grant.

        Then reading the grant (`rules.satisfied`) is reading the token, at a tenth of the cost; the comparison is made
        once for each grant. A token that its holder narrowed is never this, and is asked per call.
        """
        known = self._verified(subject.credential)
        if isinstance(known, Refused) or len(subject.chain) != 1:
            return False
        if known.says is not grant:
            try:
                expected = self._built(
                    grant,
                    task=subject.task,
                    agent=subject.agent,
                    holder=subject.holder,
                    principal=subject.principal,
                    token=subject.token,
                )
            except (CapabilityError, RuleError):
                return False
            with _panics_as_errors():
                if known.token.block_count() != 1 or known.token.block_source(0) != expected.block_source(0):
                    return False
            known.says = grant
        return True

    def inspect(self, credential: str) -> Inspection | Refused:
        """What a genuine token says, whomever it is for and expired or not."""
        known = self._verified(credential)
        if isinstance(known, Refused):
            return known
        with _panics_as_errors():
            blocks = tuple(known.token.block_source(index) for index in range(known.token.block_count()))
        return Inspection(subject=known.subject, audience=known.audience, blocks=blocks)

    def _built(self, grant: Grant, *, task: str, agent: str, holder: str, principal: str, token: str) -> Biscuit:
        for rule in grant.rules:
            check_rule(rule)
        claims: dict[str, object] = {
            "task": task,
            "agent": agent,
            "holder": holder,
            "principal": principal,
            "token": token,
        }
        parameters = claims | {"audience": self._instance}
        source = "".join(f"{name}({{{name}}});" for name in parameters) + "check if audience($a), instance($a);"
        rules, values = grant_rules(grant.rules)
        try:
            if grant.expires is not None:
                source += "expires({expires}); check if time($t), $t < {expires};"
                parameters["expires"] = _date(grant.expires)
            with _panics_as_errors():
                return BiscuitBuilder(source + rules, parameters | values).build(self._root.private_key)
        except (TypeError, ValueError, OverflowError, DataLogError) as error:
            raise CapabilityError(f"no token can carry this: {error}") from error

    def _verified(self, credential: str) -> _Known | Refused:
        """The token, its signatures checked once; a refusal is not remembered."""
        if len(credential) > MAX_TOKEN_CHARACTERS:
            return Refused("the token is too long")
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if known := self._known.get(digest):
                self._known.move_to_end(digest)
                return known
        fresh = self._verify(credential)
        if isinstance(fresh, _Known):
            with self._lock:
                self._known[digest] = fresh
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
        return fresh

    def _verify(self, credential: str) -> _Known | Refused:
        try:
            with _panics_as_errors():
                token = Biscuit.from_base64(credential, self._root.public_key)
                if why := refused_block(credential):
                    return Refused(why)
                return _claims(token, credential)
        except AuthorizationError as error:
            return Refused(f"the token could not be evaluated: {error}")
        except (BiscuitValidationError, CapabilityError, TypeError, ValueError):
            return Refused("this is not a token of this gateway")


def new_private_key() -> bytes:
    """Fresh key material for an `Authority`."""
    return bytes(KeyPair().private_key.to_bytes())


_CLAIMS = ("task", "agent", "holder", "principal", "audience", "token")
_WHO = Rule(f"who({', '.join(f'${c}' for c in _CLAIMS)}) <- {', '.join(f'{c}(${c})' for c in _CLAIMS)}")
_UNTIL = Rule("until($t) <- expires($t)")
_COVERS = Rule("covers($rule) <- allowed($rule)")
_ALLOW = Policy("allow if allowed($rule)")


def _claims(token: Biscuit, credential: str) -> _Known | Refused:
    """What the authority block says of itself; appended blocks are not in a query's sight."""
    if token.block_count() > MAX_BLOCKS:
        return Refused("the token was attenuated too often")
    builder = AuthorizerBuilder("")
    _bound(builder)
    world = builder.build(token)
    who = world.query(_WHO)
    expires = world.query(_UNTIL)
    if len(who) != 1 or len(expires) > 1:
        return Refused("this is not a token of this gateway")
    task, agent, holder, principal, audience, root = who[0].terms
    chain = tuple(token.revocation_ids)
    subject = Subject(
        principal=principal,
        agent=agent,
        task=task,
        holder=holder,
        root=root,
        token=root if len(chain) == 1 else chain[-1],
        chain=chain,
        expires=expires[0].terms[0].timestamp() if expires else None,
        credential=credential,
    )
    return _Known(token, subject, audience)


def _covered(
    token: Biscuit, context: Mapping[str, object], values: Mapping[str, tuple[Scalar, ...]]
) -> tuple[int, ...]:
    with _panics_as_errors():
        builder = AuthorizerBuilder("call({server}, {tool}); instance({instance}); time({now});", context)
        builder.add_policy(_ALLOW)
        for fact in call_facts(values):
            builder.add_fact(fact)
        _bound(builder)
        world = builder.build(token)
        world.authorize()
        found = world.query(_COVERS)
    return tuple(sorted(fact.terms[0] for fact in found))


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _private(key: bytes) -> PrivateKey:
    return PrivateKey.from_bytes(key, Algorithm.Ed25519)  # type: ignore[call-arg,attr-defined]  # the stubs lag behind


def _bound(builder: AuthorizerBuilder) -> None:
    limits = builder.limits()  # type: ignore[attr-defined]
    limits.max_time = MAX_TIME
    limits.max_facts = MAX_FACTS
    builder.set_limits(limits)  # type: ignore[attr-defined]


def _why_not(message: str, call: str) -> Refused | Undecided:
    """Tell a refusal from an evaluation that did not end, by the library's words: it has one exception for both."""
    if not message.startswith("authorization failed"):
        return Undecided(f"the token could not be evaluated: {message}")
    if "no matching policy was found" in message:
        return Refused(f"no rule of the grant covers {call} with these arguments")
    return Refused(f"a check in the token refuses: {message.partition('checks failed: ')[2][:300]}")


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """A Rust panic arrives as a BaseException that no `except Exception` would stop: make it one of ours."""
    try:
        yield
    except BaseException as panic:
        if type(panic).__module__ != "pyo3_runtime":
            raise
        raise CapabilityError("the token library panicked") from panic
