"""What a request took, added up from the very decisions that the audit log gets: so the two always agree."""

from dataclasses import dataclass

from llmcore.messages import Decision, Usage


@dataclass(slots=True, kw_only=True)
class Bill:
    """Of one request, from its admission on."""

    prompt_tokens: int
    completion_tokens: int = 0
    """Drawn tokens, of all samples or beams, an end of text among them; what it had said when it was restored too."""
    cached_tokens: int = 0
    block_seconds: float = 0.0
    waited_s: float = 0.0
    preemptions: int = 0
    _waiting_since: float | None = None

    def add(self, decision: Decision) -> None:
        self.completion_tokens += decision.decode_tokens
        self.cached_tokens += decision.cached_tokens
        self.block_seconds += decision.block_seconds
        self.preemptions += decision.kind == "preempted"
        if decision.kind == "waited":  # it goes on waiting
            return
        if self._waiting_since is not None:
            self.waited_s += decision.time - self._waiting_since
        self._waiting_since = decision.time if decision.kind in ("admitted", "preempted") else None

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            block_seconds=self.block_seconds,
            waited_s=self.waited_s,
            preemptions=self.preemptions,
        )
