"""Whether a request is taken: what is no request, what can never fit, and what there is no room to queue."""

from collections.abc import Callable, Collection, Iterable
from itertools import count
from typing import Any, TypeAlias

from llmcore.engine_config import EngineConfig
from llmcore.errors import GrammarError
from llmcore.group import Group
from llmcore.plan import Shape
from llmcore.quotas import Quotas
from llmcore.request import Grammar, RefusalCode, Refused, Request
from llmcore.sequence import Sequence

Objection: TypeAlias = tuple[RefusalCode, str]


class Admission:
    """Makes groups of requests. What the queue and the tenants' quotas allow now, it is told or asks."""

    def __init__(
        self, shape: Shape, config: EngineConfig, quotas: Quotas, matcher: Callable[[Grammar], Any] | None
    ) -> None:
        """`matcher` makes the state of a grammar at its beginning, with `accept(token)`; None: there are none here."""
        self._shape = shape
        self._config = config
        self._quotas = quotas
        self._matcher = matcher
        self._arrivals = count()
        self._ids = count()

    def consider(self, request: Request, *, waiting: Collection[Group], now: float) -> Group | Refused:
        """The request as a group that has not run; or why it is not taken."""
        against = objection(
            request, shape=self._shape, config=self._config, quotas=self._quotas, waiting=waiting, now=now
        )
        if against is not None:
            return Refused(id=request.id, code=against[0], reason=against[1])
        try:
            return self._group(request, now)
        except GrammarError as error:
            return Refused(id=request.id, code=RefusalCode.INVALID, reason=str(error))

    def grammar(self, request: Request, output: Iterable[int] = ()) -> Any:
        """The state of its grammar after this output; None, where it has none.

        Raises:
            GrammarError: it cannot be followed.
        """
        if request.grammar is None:
            return None
        if self._matcher is None:
            raise GrammarError("this engine follows no grammars")
        matcher = self._matcher(request.grammar)
        for token in output:
            matcher.accept(token)
        return matcher

    def _group(self, request: Request, now: float) -> Group:
        sequences = [
            Sequence(
                id=next(self._ids),
                request=request,
                index=index,
                tokens=list(request.prompt),
                grammar=self.grammar(request),
                arrived=now,
            )
            for index in range(width_of(request))
        ]
        return Group(
            request=request,
            arrival=next(self._arrivals),
            arrived=now,
            sequences=sequences,
            most_blocks=most_blocks(request, self._config),
            live=sequences[:1],
            unforked=sequences[1:],
        )


def most_blocks(request: Request, config: EngineConfig) -> int:
    """More it never holds at once: the prompt's full blocks, shared, and for each sample all that follows them.

    Without the prefix cache what was shared is not found again after a preemption, so all of it counts for each.
    """
    width = width_of(request)
    shared = len(request.prompt) // config.block_size if config.prefix_cache else 0
    whole = -(-(len(request.prompt) + request.max_tokens) // config.block_size)
    return shared + width * (whole - shared)


def width_of(request: Request) -> int:
    """Sequences it runs at once."""
    return request.beam_width if request.beam_width > 1 else request.n


def objection(
    request: Request, *, shape: Shape, config: EngineConfig, quotas: Quotas, waiting: Collection[Group], now: float
) -> Objection | None:
    """Why it is not taken."""
    if (problem := _problem(request, shape, config)) is not None:
        return RefusalCode.INVALID, problem
    prompt, output, most = len(request.prompt), request.max_tokens, most_blocks(request, config)
    if prompt + output > shape.window:
        return RefusalCode.PROMPT_TOO_LONG, (
            f"a prompt of {prompt} tokens and {output} of output do not fit the window of {shape.window}"
        )
    if most > config.num_blocks:
        return RefusalCode.PROMPT_TOO_LONG, (
            f"a prompt of {prompt} tokens and {width_of(request)} times {output} of output may need {most} KV blocks, "
            f"and there are {config.num_blocks}"
        )
    if (share := quotas.of(request.tenant).max_blocks) is not None and most > share:
        return RefusalCode.PROMPT_TOO_LONG, (
            f"a prompt of {prompt} tokens and {width_of(request)} times {output} of output may need {most} KV blocks, "
            f"and of the {config.num_blocks} there are you may hold {share}; ask for less"
        )
    if len(waiting) >= config.max_waiting:
        return RefusalCode.OVERLOADED, f"{len(waiting)} requests wait already; try again later"
    demanded = sum(group.most_blocks for group in waiting)
    if demanded + most > config.waiting_blocks:
        return RefusalCode.OVERLOADED, (
            f"the requests that wait may need {demanded} KV blocks, and {most} more would be over "
            f"{config.waiting_blocks}; try again later"
        )
    theirs = sum(group.tenant == request.tenant for group in waiting)
    if reason := quotas.objection(request.tenant, waiting=theirs, now=now):
        return RefusalCode.QUOTA, reason
    return None


def _problem(request: Request, shape: Shape, config: EngineConfig) -> str | None:
    """Why it is no request."""
    width = width_of(request)
    if not request.prompt:
        return "the prompt is empty"
    if not all(0 <= token < shape.vocabulary for token in request.prompt):
        return f"the prompt has tokens that the model does not know: it knows 0 to {shape.vocabulary - 1}"
    if request.max_tokens < 1:
        return f"max_tokens is {request.max_tokens}, and must be at least 1"
    if request.n < 1 or request.beam_width < 0:
        return "n must be at least 1"
    if width < request.n:
        return f"{request.n} hypotheses cannot come of {width} beams"
    if width > config.max_running:
        return f"{width} samples or beams are more than may run at once, {config.max_running}"
    if request.beam_width > 1 and request.grammar is not None:
        return "a beam search cannot follow a grammar; ask for samples"
    return None
