"""From arguments to a request of the engine: what it will cost, for whom it runs, and what it may share.

The tenant is the token's root agent: service is shared fairly between agents. The domain is the tenant under one label,
apart for each server that asks on its behalf: keys and values computed for one are never reused for another, so that
timing tells nobody what others said.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.errors import LlmRefused
from gateway.llm.kept import About
from gateway.stores.codec import encode_label
from llmcore.errors import GrammarError, PromptError
from llmcore.grammar_bounds import check
from llmcore.request import Grammar, GrammarKind, Request, Sampling
from policies.action import Action, Subject
from policies.jsonvalue import JSONObject
from policies.label import Label
from policies.verdict import Code

_UNREADY = {"overloaded": Code.OVERLOADED, "unavailable": Code.UNAVAILABLE, "model_failed": Code.UNAVAILABLE}
"""Refusals that say nothing of the request."""
TOKENS = "tokens"
"""The budget that a request takes from: of its prompt once, of its output for each sample."""
MOST_CHARACTERS = 100
"""Of one token, blanks above all."""
MOST_REPORTED = 100_000
"""Log-probabilities of one answer: all samples, each token with its alternatives."""
MOST_BY_DEFAULT = 1_024
"""Tokens of output where the request names no bound, and the window and the budget leave as many."""


class Words(Protocol):
    """Text to token ids (`llmcore.text`)."""

    def encode(self, text: str) -> list[int]: ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Knows the model's tokens and window, and the instance's key."""

    words: Words
    window: int
    key: bytes = field(repr=False)

    def prompt(self, arguments: JSONObject) -> list[int]:
        """The prompt's token ids.

        Raises:
            LlmRefused: neither messages nor a prompt, or no tokens can be made of it.
        """
        messages, prompt = arguments.get("messages"), arguments.get("prompt")
        if (messages is None) == (prompt is None):
            raise LlmRefused("invalid_value", "a request has either `messages` or `prompt`")
        self._check_size(messages if prompt is None else prompt)
        try:
            ids = self.words.encode(str(prompt)) if messages is None else self.words.chat(_messages(messages))
        except PromptError as error:
            raise LlmRefused("invalid_value", str(error)) from error
        if not ids:
            raise LlmRefused("invalid_value", "the prompt is empty")
        return ids

    def _check_size(self, said: object) -> None:
        """Before it costs seconds to count: no token says so many characters.

        Raises:
            LlmRefused: it cannot fit the window.
        """
        size = sum(len(one["content"]) for one in _messages(said)) if isinstance(said, list) else len(str(said))
        if size > (most := self.window * MOST_CHARACTERS):
            raise LlmRefused(
                "context_length_exceeded",
                f"the model's window is {self.window} tokens; {size} characters cannot fit it, {most} at most",
            )

    def bounded(self, arguments: JSONObject, prompt_tokens: int, left: int | None = None) -> JSONObject:
        """The arguments with `max_tokens` in them.

        left: tokens of the budget, if it is known: a request without a bound asks for no more than that.

        Raises:
            LlmRefused: prompt and output do not fit the window; or a grammar that no output is held to.
        """
        _check_grammar(arguments.get("grammar"))
        room = self.window - prompt_tokens
        samples = _samples(arguments)
        if "max_tokens" not in arguments:
            most = min(MOST_BY_DEFAULT, room)
            if left is not None:
                most = min(most, (left - prompt_tokens) // samples)
            arguments = {**arguments, "max_tokens": max(1, most)}
        wanted = arguments["max_tokens"]
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            raise LlmRefused("invalid_value", f"max_tokens must be a whole number of at least 1, not {wanted!r}")
        if wanted > room:
            raise LlmRefused(
                "context_length_exceeded",
                f"the model's window is {self.window} tokens; the prompt has {prompt_tokens} and max_tokens asks for"
                f" {wanted} more: shorten the prompt, or ask for at most {max(0, room)}",
            )
        logprobs = arguments.get("logprobs")
        reported = wanted * samples * (1 + logprobs) if isinstance(logprobs, int) else 0
        if reported > MOST_REPORTED:
            raise LlmRefused(
                "invalid_value", f"{reported} log-probabilities are too many; at most {MOST_REPORTED} are told"
            )
        return arguments

    def request(self, action: Action, prompt: list[int], arguments: JSONObject, about: About) -> Request:
        """The request as the engine takes it; `arguments` are the action's, or what they come down to."""
        said: dict[str, Any] = arguments
        grammar = said.get("grammar")
        return Request(
            id=action.id,
            tenant=action.subject.holder,
            domain=self.domain(action.subject, about.label, str(said.get("server", ""))),
            prompt=tuple(prompt),
            max_tokens=said["max_tokens"],
            n=said.get("n", 1),
            beam_width=said.get("beam_width", 0),
            sampling=Sampling(
                temperature=float(said.get("temperature", 1.0)),
                top_p=float(said.get("top_p", 1.0)),
                top_k=said.get("top_k", 0),
                presence_penalty=float(said.get("presence_penalty", 0.0)),
                frequency_penalty=float(said.get("frequency_penalty", 0.0)),
                seed=said["seed"] if "seed" in said else self._seed(action.id),
                logprobs=said.get("logprobs"),
            ),
            stop=tuple(said.get("stop", ())),
            grammar=Grammar(kind=GrammarKind(grammar["kind"]), text=grammar.get("text", "")) if grammar else None,
            priority=said.get("priority", 0),
            owner=owner(action.subject),
            label=about.text(),
        )

    def _seed(self, action: str) -> int:
        """Another for each action, and no argument of it: a call that a person was asked about stays the same call."""
        return int.from_bytes(hmac.digest(self.key, b"llm seed\0" + action.encode(), "sha256")[:6], "big")

    def domain(self, subject: Subject, label: Label, server: str = "") -> str:
        """Equal for what may share keys and values: one agent's, under one label, asked by itself or by one server."""
        said = f"{subject.principal}\0{subject.holder}\0{server}\0{encode_label(label.bare())}"
        return hmac.digest(self.key, b"llm domain\0" + said.encode(), "sha256").hex()


def code_of(why: LlmRefused) -> Code:
    """Of a refusal as the log has it, and as it is told where only codes are."""
    return _UNREADY.get(why.code, Code.ARGUMENTS_INVALID)


def owner(subject: Subject) -> str:
    """Whom a snapshot is bound to: one task of one agent, whichever of its tokens asks."""
    return f"{subject.principal}\0{subject.task}\0{subject.holder}\0{subject.root}"


def cost(arguments: JSONObject, prompt_tokens: int) -> int:
    """The most tokens that the request can take."""
    most = arguments["max_tokens"]
    assert isinstance(most, int)
    return prompt_tokens + most * _samples(arguments)


def _samples(arguments: JSONObject) -> int:
    wanted = (arguments.get("n"), arguments.get("beam_width"))
    return max([1, *(one for one in wanted if isinstance(one, int))])


def _messages(messages: object) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in messages
    ):
        raise LlmRefused("invalid_value", "each message has a role and a content of text")
    return [{"role": one["role"], "content": one["content"]} for one in messages]


def _check_grammar(grammar: Any) -> None:
    """Within bounds, before anything is decided: the engine's own time is everybody's."""
    if grammar is None:
        return
    try:
        check(Grammar(kind=GrammarKind(grammar["kind"]), text=grammar.get("text", "")))
    except (GrammarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LlmRefused("invalid_value", f"the output cannot be held to this grammar: {error}") from error
