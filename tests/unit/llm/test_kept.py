"""What a kept generation can still say is what its owner pays for going on with it."""

import pytest
from support.llm_fakes import request
from support.llm_services import Heard, restored, service

from gateway.llm.kept import About, KeptGeneration
from llmcore.messages import Submit, Suspend
from llmcore.request import Request, Sampling
from llmcore.snapshot import decode_snapshot
from policies.label import CLEAN

ABOUT = About(label=CLEAN, chat=False, task="task_1", agent="ann")


def kept(wanted: Request, steps: int) -> KeptGeneration | None:
    """Suspended after so many steps; None where it had ended by then."""
    serving, heard = service(), Heard()
    heard.hear(serving.receive(Submit(wanted)))
    for _ in range(steps):
        heard.hear(serving.step())
    heard.hear(serving.receive(Suspend(wanted.id)))
    body = heard.suspended.get(wanted.id)
    return None if body is None else KeptGeneration(about=ABOUT, snapshot=decode_snapshot(body), body=body)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("more", [{"n": 1}, {"n": 3}, {"beam_width": 4}], ids=["one", "samples", "beams"])
def test_going_on_never_says_more_than_was_left(more: dict[str, int], seed: int) -> None:
    wanted = request(5 + seed, id="a", max_tokens=40, sampling=Sampling(seed=seed), **more)
    steps = 0
    while (cut := kept(wanted, steps)) is not None:
        done = restored(service(), "a", cut.body, wanted).done["a"]
        assert done.usage.completion_tokens - cut.said <= cut.remaining, f"after {steps} steps"
        steps += 3
    assert steps > 3


def test_what_has_not_begun_can_say_all_of_it() -> None:
    samples, beams = (kept(request(5, id="a", max_tokens=40, **more), 0) for more in ({"n": 3}, {"beam_width": 4}))
    assert samples is not None
    assert samples.remaining == 3 * 40
    assert beams is not None
    assert beams.remaining == 4 * 40
