"""A generation in OpenAI's two forms: a chat's message, or a text that goes on; whole, or chunk by chunk.

A sample is what the corridor gives (`ports.ModelCorridor`). A token's log-probability is shown where there is one, and
there is one where it was asked for.
"""

from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from policies.jsonvalue import JSON, JSONObject

_UNPRINTABLE = "\ufffd"
"""What stands for a token that is only a part of a character: its bytes are not known here."""
_NEVER = -9999.0
"""What OpenAI says for a token that cannot come: JSON has no infinity."""


class Form(Protocol):
    """What differs between the two."""

    @property
    def prefix(self) -> str:
        """Of the ids that clients see; the action's follows."""
        ...

    @property
    def whole(self) -> str:
        """The object's name."""
        ...

    @property
    def chunk(self) -> str:
        """The object's name in a stream."""
        ...

    def choice(self, choice: JSONObject) -> JSONObject:
        """A finished sample."""
        ...

    def opening(self, index: int) -> JSONObject | None:
        """What comes before a sample's first words in a stream, if anything does."""
        ...

    def more(self, index: int, text: str, tokens: list[JSONObject], offset: int) -> JSONObject:
        """More of a sample, `offset` characters into it."""
        ...

    def closing(self, index: int, finish: str) -> JSONObject:
        """What comes after its last words."""
        ...


@dataclass(frozen=True, slots=True)
class _Chat(Form):
    prefix: str = "chatcmpl-"
    whole: str = "chat.completion"
    chunk: str = "chat.completion.chunk"

    @override
    def choice(self, choice: JSONObject) -> JSONObject:
        return {
            "index": choice["index"],
            "message": {"role": "assistant", "content": choice["text"], "refusal": None},
            "logprobs": self._logprobs(choice.get("tokens") or []),
            "finish_reason": choice["finish"],
        }

    @override
    def opening(self, index: int) -> JSONObject | None:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    @override
    def more(self, index: int, text: str, tokens: list[JSONObject], offset: int) -> JSONObject:
        return {
            "index": index,
            "delta": {"content": text},
            "logprobs": self._logprobs(tokens),
            "finish_reason": None,
        }

    @override
    def closing(self, index: int, finish: str) -> JSONObject:
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish}

    def _logprobs(self, tokens: list[JSONObject]) -> JSON:
        content = [
            {
                **_likely(token["text"], token["logprob"]),
                "top_logprobs": [_likely(text, logprob) for text, logprob in token.get("top", ())],
            }
            for token in _judged(tokens)
        ]
        return {"content": content, "refusal": None} if content else None


@dataclass(frozen=True, slots=True)
class _Text(Form):
    prefix: str = "cmpl-"
    whole: str = "text_completion"
    chunk: str = "text_completion"

    @override
    def choice(self, choice: JSONObject) -> JSONObject:
        said = self.more(choice["index"], choice["text"], choice.get("tokens") or [], 0)
        return said | {"finish_reason": choice["finish"]}

    @override
    def opening(self, index: int) -> JSONObject | None:
        return None

    @override
    def more(self, index: int, text: str, tokens: list[JSONObject], offset: int) -> JSONObject:
        return {"index": index, "text": text, "logprobs": self._logprobs(tokens, offset), "finish_reason": None}

    @override
    def closing(self, index: int, finish: str) -> JSONObject:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": finish}

    def _logprobs(self, tokens: list[JSONObject], offset: int) -> JSON:
        judged = _judged(tokens)
        if not judged:
            return None
        offsets: list[int] = []
        for token in judged:
            offsets.append(offset)
            offset += len(token["text"])
        return {
            "tokens": [token["text"] for token in judged],
            "token_logprobs": [max(token["logprob"], _NEVER) for token in judged],
            "top_logprobs": [
                {text: max(logprob, _NEVER) for text, logprob in token.get("top", ())} for token in judged
            ],
            "text_offset": offsets,
        }


CHAT: Form = _Chat()
TEXT: Form = _Text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What stands around the choices of one generation."""

    form: Form
    action: str
    model: str
    created: int
    """Unix seconds."""

    def completion(self, choices: list[JSONObject], usage: JSONObject) -> JSONObject:
        """A whole answer."""
        said = [self.form.choice(choice) for choice in choices]
        return {**self._around(self.form.whole), "choices": said, "usage": usage_of(usage)}

    def piece(self, choice: JSONObject) -> JSONObject:
        """One chunk of a stream."""
        return {**self._around(self.form.chunk), "choices": [choice]}

    def count(self, usage: JSONObject) -> JSONObject:
        """The chunk that counts a stream's tokens."""
        return {**self._around(self.form.chunk), "choices": [], "usage": usage_of(usage)}

    def _around(self, name: str) -> JSONObject:
        return {
            "id": self.form.prefix + self.action,
            "object": name,
            "created": self.created,
            "model": self.model,
        }


def usage_of(usage: JSONObject) -> JSONObject:
    """Tokens of the prompt (those whose keys and values were there already among them) and of all samples."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
    }


def model_of(name: str, window: int, created: int) -> JSONObject:
    """The one model, as `/v1/models` shows it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "pratique", "max_model_len": window}


def listed(items: list[JSONObject]) -> JSONObject:
    return {"object": "list", "data": items}


def _judged(tokens: list[JSONObject]) -> list[JSONObject]:
    return [token for token in tokens if token.get("logprob") is not None]


def _likely(text: str, logprob: float) -> JSONObject:
    spelled = None if _UNPRINTABLE in text else list(text.encode())
    return {"token": text, "logprob": max(logprob, _NEVER), "bytes": spelled}
