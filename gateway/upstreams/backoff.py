"""When a server that failed to start may be started again: doubling delays, forgotten on success."""

from dataclasses import dataclass

FIRST_S = 0.5
LONGEST_S = 60.0


@dataclass(slots=True)
class Backoff:
    failures: int = 0
    not_before: float = 0.0
    """On the clock of whoever asks."""
    reason: str = ""
    """What went wrong last."""

    def failed(self, now: float, reason: str) -> None:
        self.not_before = now + min(LONGEST_S, FIRST_S * 2**self.failures)
        self.failures += 1
        self.reason = reason

    def succeeded(self) -> None:
        self.failures, self.not_before, self.reason = 0, 0.0, ""

    def wait_s(self, now: float) -> float:
        """Seconds until the next try; 0 when it may be now."""
        return max(0.0, self.not_before - now)
