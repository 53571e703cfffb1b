"""What is asked of the engine: one prompt, how to continue it, and for whom. Frozen; the engine adds nothing to it."""

from enum import StrEnum

from msgspec import Struct


class GrammarKind(StrEnum):
    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    """Any JSON object; `text` is empty."""
    REGEX = "regex"
    CHOICE = "choice"
    """`text` is a JSON list of the strings that may be said."""


class Grammar(Struct, frozen=True, kw_only=True):
    """What the output must match, whole."""

    kind: GrammarKind
    text: str = ""


class Sampling(Struct, frozen=True, kw_only=True):
    """How a token is drawn. Temperature 0 is greedy: the highest logit, the lowest id among equals."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    """With the sample's index and the token's position it fixes every draw, whatever else runs beside it."""
    logprobs: int | None = None
    """How many alternatives are reported with each token; 0: the token's own alone; None: nothing."""
    ignore_eos: bool = False
    """For benches: always `max_tokens`."""


class Request(Struct, frozen=True, kw_only=True):
    """One request: `n` independent samples, or one beam search, of one prompt."""

    id: str
    tenant: str
    """Whose service is counted (VTC, quotas); opaque."""
    domain: str
    """KV blocks are shared within it and never beyond; opaque. Trust domain and label are both in it."""
    prompt: tuple[int, ...]
    """Token ids, at least one."""
    max_tokens: int
    """Of output, for each sample; at least 1."""
    n: int = 1
    beam_width: int = 0
    """Above 1: beam search; the `n` best hypotheses are returned, scored by mean log-probability."""
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Output ends before the first of these."""
    grammar: Grammar | None = None
    priority: int = 0
    """Higher first, under the priority policy alone."""
    owner: str = ""
    """Goes into snapshots, which are bound to it; opaque."""
    label: str = ""
    """Carried into snapshots and back; opaque."""


class Finish(StrEnum):
    """Why a sample ended."""

    STOP = "stop"
    """The model's end of text, a stop string, or a complete grammar."""
    LENGTH = "length"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """Its logits were no numbers, or its grammar left no token; the engine lives."""
    SUSPENDED = "suspended"


class RefusalCode(StrEnum):
    PROMPT_TOO_LONG = "prompt_too_long"
    """Prompt and `max_tokens` do not fit the model's window, or the memory that is there for the tenant."""
    INVALID = "invalid"
    OVERLOADED = "overloaded"
    """The queue is full: by requests, or by the memory they will need."""
    QUOTA = "quota"
    """The tenant's share of queue or tokens is used up."""


class Refused(Struct, frozen=True, kw_only=True):
    """Why a request was not taken; nothing of it ran."""

    id: str
    code: RefusalCode
    reason: str
