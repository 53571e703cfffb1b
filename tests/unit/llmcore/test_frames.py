"""Messages over a pipe come out as they went in, or the pipe is known to be out of step."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.hosts.frames import Loading, NotLoaded, framed, from_child, read_frame, to_engine
from llmcore.hosts.host import Loaded
from llmcore.messages import (
    BlockSeen,
    Broken,
    Cancel,
    Checkpoint,
    Choice,
    Decided,
    Decision,
    Delta,
    Done,
    Look,
    NotTaken,
    Restore,
    Seen,
    SequenceSeen,
    Stop,
    Submit,
    Suspend,
    Suspended,
    TenantSeen,
    TokenText,
    Usage,
)
from llmcore.request import Finish, Grammar, GrammarKind, RefusalCode, Refused, Request, Sampling

REQUEST = Request(
    id="a",
    tenant="t",
    domain="d",
    prompt=(1, 2),
    max_tokens=3,
    sampling=Sampling(temperature=0.1, logprobs=2),
    stop=("é",),
    grammar=Grammar(kind=GrammarKind.REGEX, text="a+"),
)
TO_ENGINE = [Submit(REQUEST), Cancel("a"), Suspend("a"), Restore("a", b"\0\xff", REQUEST), Look(4), Stop()]
TOKEN = TokenText(5, "漢", -0.1, (("漢", -0.1), ("x", -2.0)))
FROM_CHILD = [
    Loading("reading weights", 0.5),
    NotLoaded("no such model"),
    Loaded(
        name="m",
        architecture="A",
        dtype="float32",
        weights="int8",
        digest="d",
        window=8,
        tokenizer="t",
        num_blocks=2,
        block_size=16,
    ),
    Delta("a", 0, "漢", (TOKEN,)),
    Done("a", (Choice(0, "漢", Finish.FAILED, (TOKEN,), "why"),), Usage(prompt_tokens=2, block_seconds=0.25)),
    NotTaken(Refused(id="a", code=RefusalCode.QUOTA, reason="enough")),
    Suspended("a", b"\0\xff"),
    Checkpoint("a", b""),
    Decided((Decision(1.5, "finished", "a", "t", "stop", 1, 2, 3, 0.5),)),
    Seen(
        token=1,
        model="m",
        policy="vtc",
        block_size=16,
        blocks=(BlockSeen("t", 2, False),),
        sequences=(SequenceSeen("a", "t", 0, "decode", 2, 2, 1, 1, 0.5, 0),),
        tenants=(TenantSeen("t", 2, 1, 0.5, 4.0, 0, 1),),
        steps=1,
        preemptions=0,
        refused=0,
        prefix_hits=0,
        prefix_lookups=2,
        tokens_per_s=1.0,
        host_blocks=0,
        host_blocks_used=0,
    ),
    Broken("it broke"),
]


def test_every_message_crosses_the_pipe_unchanged() -> None:
    pipe = BytesIO(framed(TO_ENGINE) + framed(FROM_CHILD))

    assert to_engine.decode(read_frame(pipe) or b"") == TO_ENGINE
    assert from_child.decode(read_frame(pipe) or b"") == FROM_CHILD
    assert read_frame(pipe) is None


@given(st.data())
def test_a_frame_cut_anywhere_is_the_end(data: st.DataObject) -> None:
    frame = framed(TO_ENGINE)

    assert read_frame(BytesIO(frame[: data.draw(st.integers(0, len(frame) - 1))])) is None


def test_a_length_that_no_frame_has_is_a_pipe_out_of_step() -> None:
    with pytest.raises(ValueError, match="too long: at most 1073741824"):
        read_frame(BytesIO(b"\xff\xff\xff\xff"))
