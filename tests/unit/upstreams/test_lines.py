"""Lines out of chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.backoff import LONGEST_S, Backoff
from gateway.upstreams.lines import Lines, LineTooLong


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = Lines(20), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(reader.feed(stream[start:end]))
    assert found == [line for line in lines if line and not line.isspace()]


def test_the_lines_before_an_endless_one_are_still_read() -> None:
    lines = Lines(5).feed(b"one\ntwo\n" + b"x" * 6)
    assert [next(lines), next(lines)] == [b"one", b"two"]
    with pytest.raises(LineTooLong):
        next(lines)


def test_a_server_that_keeps_failing_waits_longer_each_time_and_never_for_ever() -> None:
    backoff, waits = Backoff(), []
    for _ in range(12):
        backoff.failed(100.0, "no")
        waits.append(backoff.wait_s(100.0))
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == LONGEST_S
    assert backoff.wait_s(1_000.0) == 0
    backoff.succeeded()
    assert backoff.wait_s(0.0) == 0
