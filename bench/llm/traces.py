"""What a hundred tenants ask for: three classes of jobs, and when they come. Everything follows from the seed.

    translate   a sentence: short in, short out, one request
    summarise   two hundred pages: many long chunks in, all asked for at once, a few words out of each
    agent       a loop: each turn's prompt is the last one, what was answered, and what a tool returned; between two
                turns the tool runs. All turns begin with the tenant's instructions and tool descriptions

Translations and agents come one by one (Poisson: uniform over the horizon, given their number), summaries in bursts.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

VOCABULARY = 49152
"""Token ids are drawn from it."""


class Kind(StrEnum):
    TRANSLATE = "translate"
    AGENT = "agent"
    SUMMARISE = "summarise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a job."""

    tokens: tuple[int, ...]
    """The prompt, or what is added to it where the job is a loop."""
    max_tokens: int
    think_s: float = 0.0
    """In a loop: from the last answer to this turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    kind: Kind
    tenant: str
    arrives_s: float
    turns: tuple[Turn, ...]
    is_loop: bool = False
    """One turn after the other, each on top of what was said; otherwise all are asked for at once."""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How much of each; the sizes of single requests are in the functions below."""

    translators: int = 60
    translations: int = 12
    """Of each translator."""
    summarisers: int = 10
    pages: int = 200
    agents: int = 30
    loops: int = 2
    """Of each agent."""
    bursts: int = 3
    """Moments around which the summarisers come."""


def trace(mix: Mix, *, horizon_s: float, seed: int) -> list[Job]:
    """All jobs, by arrival."""
    random = Random(seed)
    moments = [horizon_s * random.uniform(0.1, 0.6) for _ in range(mix.bursts)]
    jobs = []
    for number in range(mix.translators):
        tenant = f"translator-{number:02}"
        jobs += [_translation(random, tenant, random.uniform(0, horizon_s)) for _ in range(mix.translations)]
    for number in range(mix.summarisers):
        arrives_s = random.choice(moments) + random.uniform(0, 0.01 * horizon_s)
        jobs.append(_summary(random, f"summariser-{number:02}", arrives_s, mix.pages))
    for number in range(mix.agents):
        tenant = f"agent-{number:02}"
        instructions = _tokens(random, random.randint(500, 1000))
        jobs += [_loop(random, tenant, random.uniform(0, 0.8 * horizon_s), instructions) for _ in range(mix.loops)]
    jobs.sort(key=lambda job: job.arrives_s)
    return [replace(job, id=f"{job.kind}-{place}") for place, job in enumerate(jobs)]


def requests(jobs: list[Job]) -> int:
    return sum(len(job.turns) for job in jobs)


def _translation(random: Random, tenant: str, arrives_s: float) -> Job:
    turn = Turn(tokens=_tokens(random, random.randint(40, 120)), max_tokens=random.randint(30, 90))
    return Job(id="", kind=Kind.TRANSLATE, tenant=tenant, arrives_s=arrives_s, turns=(turn,), priority=2)


def _summary(random: Random, tenant: str, arrives_s: float, pages: int) -> Job:
    """A page is about 400 tokens, a chunk ten pages."""
    turns = tuple(
        Turn(tokens=_tokens(random, random.randint(3600, 4400)), max_tokens=random.randint(60, 120))
        for _ in range(pages // 10)
    )
    return Job(id="", kind=Kind.SUMMARISE, tenant=tenant, arrives_s=arrives_s, turns=turns)


def _loop(random: Random, tenant: str, arrives_s: float, instructions: tuple[int, ...]) -> Job:
    first = Turn(tokens=instructions + _tokens(random, random.randint(30, 100)), max_tokens=random.randint(40, 120))
    others = [
        Turn(
            tokens=_tokens(random, random.randint(100, 500)),
            max_tokens=random.randint(40, 120),
            think_s=random.expovariate(1 / 4.0),
        )
        for _ in range(random.randint(4, 9))
    ]
    return Job(
        id="", kind=Kind.AGENT, tenant=tenant, arrives_s=arrives_s, turns=(first, *others), is_loop=True, priority=1
    )


def _tokens(random: Random, count: int) -> tuple[int, ...]:
    return tuple(random.choices(range(VOCABULARY), k=count))
