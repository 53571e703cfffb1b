"""One sample on its way to a reader: tokens in, text and tokens out, none of them from a stop string on."""

import codecs
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Final

from llmcore.messages import Choice, Delta, TokenText
from llmcore.request import Finish
from llmcore.sequence import Logprob
from llmcore.text import Stream, Tokenizer

_Utf8: Final = codecs.getincrementaldecoder("utf-8")


@dataclass(slots=True)
class Telling:
    """What was told of one sample, and what is held back."""

    id: str
    index: int
    tokenizer: Tokenizer
    stream: Stream
    told: list[str] = field(default_factory=list)
    tokens: list[TokenText] = field(default_factory=list)
    """Those told, where the request wants log-probabilities."""
    choice: Choice | None = None
    """Once it has ended."""
    _pending: deque[tuple[int, TokenText]] = field(default_factory=deque)
    """(where its first character stands in the text, token): told with that character."""
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _Utf8("replace"))
    _num_said: int = 0
    """Characters, those held back among them."""
    _num_told: int = 0

    @property
    def has_stopped(self) -> bool:
        """A stop string was met: nothing more will be told."""
        return self.stream.stopped

    def tell(self, tokens: Iterable[int], logprobs: Many[Logprob]) -> list[Delta]:
        """What can be told of them now; often nothing."""
        text = "".join(map(self.stream.feed, tokens))
        for logprob in logprobs:
            self._pending.append((self._num_said, self._shown(logprob)))
            self._num_said += len(self._decoder.decode(self.tokenizer.bytes_of(logprob.token)))
        return self._delta(text)

    def end(self, finish: Finish, detail: str) -> list[Delta]:
        """The rest, and `choice` from then on.

        What is suspended has no rest yet: half a character, or half a stop string, becomes whole when it is gone on
        with, which says everything again.
        """
        delta = [] if finish is Finish.SUSPENDED else self._delta(self.stream.finish(), is_last=True)
        text = "".join(self.told)
        self.choice = Choice(self.index, text, Finish.STOP if self.has_stopped else finish, tuple(self.tokens), detail)
        return delta

    def _delta(self, text: str, *, is_last: bool = False) -> list[Delta]:
        self._num_told += len(text)
        all_of_it = is_last and not self.has_stopped
        tokens = []
        while self._pending and (all_of_it or self._pending[0][0] < self._num_told):
            tokens.append(self._pending.popleft()[1])
        if not (text or tokens):
            return []
        self.told.append(text)
        self.tokens += tokens
        return [Delta(self.id, self.index, text, tuple(tokens))]

    def _shown(self, logprob: Logprob) -> TokenText:
        text_of = self.tokenizer.text_of
        top = tuple((text_of(token), value) for token, value in logprob.top)
        return TokenText(logprob.token, text_of(logprob.token), logprob.logprob, top)
