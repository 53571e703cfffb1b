"""The same engine in a thread and in a child process: the same messages, and an end for every beginning."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from support.llm_fakes import request
from support.llm_services import fake_build

from llmcore.client import Client, Generation
from llmcore.errors import EngineStopped, ModelError
from llmcore.hosts.config import HostConfig
from llmcore.hosts.host import Host, Loaded
from llmcore.hosts.process import ProcessHost
from llmcore.hosts.thread import ThreadHost
from llmcore.messages import Checkpoint, Decision, Delta, Done, NotTaken, Suspended
from llmcore.request import Finish, RefusalCode, Sampling
from llmcore.snapshot import decode_snapshot

TESTS = Path(__file__).resolve().parents[2]
FAKE = HostConfig(model="fake", cache="", kv_memory_mb=4_000, block_size=4, max_running=8, checkpoint_tokens=4)
LOGPROBS = Sampling(temperature=0.0, ignore_eos=True, logprobs=0)
ENDLESS = 10_000
"""Tokens that no test waits for."""

Make: TypeAlias = Callable[..., Host]


def in_thread(**changed: object) -> Host:
    return ThreadHost(_config(changed), build=fake_build)


def in_process(**changed: object) -> Host:
    return ProcessHost(
        _config(changed), module="support.llm_services", environment={"PYTHONPATH": str(TESTS)}, first_wait_s=0.0
    )


def _config(changed: Mapping[str, object]) -> HostConfig:
    fields = {name: getattr(FAKE, name) for name in FAKE.__struct_fields__} | dict(changed)
    return HostConfig(**fields)


both = pytest.mark.parametrize("make", [in_thread, in_process])


@asynccontextmanager
async def serving(host: Host) -> AsyncIterator["Watched"]:
    watched = Watched(host)
    watched.loaded = await watched.client.start()
    try:
        yield watched
    finally:
        await watched.client.stop()


class Watched:
    """A client and all that it is told besides generations."""

    loaded: Loaded

    def __init__(self, host: Host) -> None:
        self.progress: list[tuple[str, float]] = []
        self.decisions: list[Decision] = []
        self.checkpoints: list[Checkpoint | Suspended] = []
        self.client = Client(
            host,
            on_decisions=self.decisions.extend,
            on_checkpoint=self.checkpoints.append,
            on_progress=lambda doing, done: self.progress.append((doing, done)),
        )


async def ended(generation: Generation) -> Done | NotTaken:
    *_, last = [event async for event in generation]
    assert not isinstance(last, Delta)
    return last


async def begun(generation: Generation) -> None:
    """Its first words have come."""
    await anext(generation)


# ---- the same either way --------------------------------------------------------------------------------------------


async def transcript(host: Host) -> list[object]:
    """All that is said of a few requests, one after the other."""
    said: list[object] = []
    async with serving(host) as watched:
        said += [watched.loaded, watched.progress]
        for wanted in (
            request(10, id="a", max_tokens=9, sampling=LOGPROBS),
            request(10, id="b", max_tokens=9, n=3, sampling=Sampling(seed=4, logprobs=1)),
            request(10, id="c", max_tokens=5, beam_width=3, n=2),
            request(10, id="d", max_tokens=0),
        ):
            said.append([event async for event in watched.client.generate(wanted)])
        said.append((await watched.client.look()).steps)
    kinds = [(decision.request, decision.kind, decision.decode_tokens) for decision in watched.decisions]
    return [*said, watched.checkpoints, kinds]


async def test_a_thread_and_a_process_say_the_same() -> None:
    thread, process = await transcript(in_thread()), await transcript(in_process())

    assert thread == process
    assert len(thread) == 9


@both
async def test_loading_is_told_as_it_goes(make: Make) -> None:
    async with serving(make()) as watched:
        assert watched.progress == [("making it up", 0.5)]
        assert (watched.loaded.name, watched.loaded.num_blocks) == ("fake", 4_000)
        assert watched.client.is_alive


@both
async def test_many_requests_at_once_each_get_their_own_words(make: Make) -> None:
    async with serving(make()) as watched:
        wanted = [request(8 + n, id=f"r{n}", max_tokens=6, sampling=LOGPROBS) for n in range(20)]
        alone = [await ended(watched.client.generate(each)) for each in wanted]
        together = await asyncio.gather(*[ended(watched.client.generate(each)) for each in wanted])

    assert [_texts(done) for done in together] == [_texts(done) for done in alone]


@both
async def test_a_cancelled_generation_is_done_and_its_blocks_are_free(make: Make) -> None:
    async with serving(make()) as watched:
        generation = watched.client.generate(request(id="a", max_tokens=ENDLESS))
        await begun(generation)
        generation.cancel()
        done = await ended(generation)
        generation.cancel()  # it has ended: nothing happens
        seen = await watched.client.look()

    assert isinstance(done, Done)
    assert done.choices[0].finish is Finish.CANCELLED
    assert all(block.references == 0 for block in seen.blocks)


@pytest.mark.promise("llm.resume-identical")
@both
async def test_a_suspended_generation_goes_on_in_another_host(make: Make) -> None:
    wanted = request(id="a", max_tokens=900, sampling=Sampling(seed=3, logprobs=0, ignore_eos=True))
    async with serving(make()) as watched:
        whole = await ended(watched.client.generate(wanted))
        generation = watched.client.generate(wanted)
        await begun(generation)
        generation.suspend()
        done = await ended(generation)
    assert isinstance(done, Done)
    assert done.choices[0].finish is Finish.SUSPENDED
    snapshot = watched.checkpoints[-1]
    assert isinstance(snapshot, Suspended)
    assert decode_snapshot(snapshot.snapshot).kv

    for other in (in_thread, in_process):
        async with serving(other()) as watched:
            assert _texts(await ended(watched.client.restore("a", snapshot.snapshot, wanted))) == _texts(whole)


@both
async def test_stopping_suspends_what_runs(make: Make) -> None:
    async with serving(make()) as watched:
        generations = [watched.client.generate(request(id=f"r{n}", max_tokens=ENDLESS)) for n in range(12)]
        await begun(generations[0])
        await watched.client.stop()
        ends = [await ended(generation) for generation in generations]

    assert {choice.finish for end in ends if isinstance(end, Done) for choice in end.choices} == {Finish.SUSPENDED}
    assert sorted(each.id for each in watched.checkpoints if isinstance(each, Suspended)) == sorted(
        f"r{n}" for n in range(12)
    )
    assert "finished" not in {decision.kind for decision in watched.decisions}
    with pytest.raises(EngineStopped):
        watched.client.generate(request(id="late"))
    with pytest.raises(EngineStopped):
        await watched.client.look()


@both
async def test_five_hundred_clients_get_words_or_the_stated_refusal(make: Make) -> None:
    async with serving(make(max_waiting=100, checkpoint_tokens=0)) as watched:
        ends = await asyncio.gather(
            *[ended(watched.client.generate(request(id=f"r{n}", max_tokens=2))) for n in range(500)]
        )

    refused = [end.refused.code for end in ends if isinstance(end, NotTaken)]
    assert set(refused) <= {RefusalCode.OVERLOADED}
    assert {end.choices[0].finish for end in ends if isinstance(end, Done)} == {Finish.LENGTH}


@both
async def test_one_id_is_one_generation(make: Make) -> None:
    async with serving(make()) as watched:
        generation = watched.client.generate(request(id="a", max_tokens=ENDLESS))
        with pytest.raises(ValueError, match="a is on its way already"):
            watched.client.generate(request(id="a"))
        generation.cancel()
        await ended(generation)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@both
async def test_a_model_that_is_not_there_is_said(make: Make) -> None:
    watched = Watched(make(model="none"))

    with pytest.raises(ModelError, match="there is no model none"):
        await watched.client.start()
    assert not watched.client.is_alive
    with pytest.raises(EngineStopped, match="is not running"):
        watched.client.generate(request())
    await watched.client.stop()


@both
async def test_a_librarys_own_error_does_not_pass(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(make(model="odd"))

    with pytest.raises(EngineStopped):
        await watched.client.start()
    await watched.client.stop()


@both
async def test_an_engine_that_breaks_ends_every_generation(make: Make) -> None:
    async with serving(make(model="breaks")) as watched:
        generations = [watched.client.generate(request(id=f"r{n}")) for n in range(3)]
        for generation in generations:
            with pytest.raises(EngineStopped, match="the engine broke: RuntimeError"):
                await ended(generation)
            generation.cancel()  # nobody is there: nothing happens
        assert await watched.client.broken() == "the engine broke: RuntimeError"
        assert not watched.client.is_alive


@both
async def test_a_host_that_was_stopped_starts_again(make: Make) -> None:
    watched = Watched(make())
    wanted = request(id="a", max_tokens=5)
    ends = []
    for _ in range(2):
        await watched.client.start()
        ends.append(_texts(await ended(watched.client.generate(wanted))))
        await watched.client.stop()

    assert ends[0] == ends[1]


@both
async def test_a_start_that_is_called_off_leaves_nothing_running(make: Make) -> None:
    host = make(model="slow")
    loading = asyncio.Event()
    client = Client(host, on_progress=lambda doing, done: loading.set())
    starting = asyncio.create_task(client.start())
    await loading.wait()
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert "llm engine" not in {thread.name for thread in threading.enumerate()}
    assert not isinstance(host, ProcessHost) or host.pid is None


# ---- the child ------------------------------------------------------------------------------------------------------


@pytest.mark.promise("llm.resume-identical")
async def test_a_killed_child_is_said_and_its_checkpoints_go_on_in_the_next() -> None:
    host = in_process()
    assert isinstance(host, ProcessHost)
    wanted = [
        request(10 + n, id=f"r{n}", max_tokens=200, sampling=Sampling(seed=n, logprobs=0, ignore_eos=True))
        for n in range(6)
    ]
    async with serving(host) as watched:
        whole = [_texts(await ended(watched.client.generate(each))) for each in wanted]
        watched.checkpoints.clear()
        generations = [watched.client.generate(each) for each in wanted]
        await begun(generations[-1])
        assert host.pid is not None
        os.kill(host.pid, signal.SIGKILL)

        assert "signal 9" in await watched.client.broken()
        for generation in generations:
            with pytest.raises(EngineStopped, match="signal 9"):
                await ended(generation)
        last = {each.id: each.snapshot for each in watched.checkpoints}
        assert last.keys() == {each.id for each in wanted}

        await watched.client.start()
        again = [_texts(await ended(watched.client.restore(each.id, last[each.id], each))) for each in wanted]

    assert again == whole


async def test_a_child_that_ends_by_itself_is_said() -> None:
    async with serving(in_process(model="dies")) as watched:
        with pytest.raises(EngineStopped, match="status 3"):
            await ended(watched.client.generate(request(id="a")))


async def test_a_child_that_cannot_begin_is_said() -> None:
    watched = Watched(ProcessHost(FAKE, module="support.no_such_module", first_wait_s=0.0))

    with pytest.raises(EngineStopped, match=r"ended \(status 1\)"):
        await watched.client.start()
    await watched.client.stop()


async def test_the_child_is_given_no_secret_of_the_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "hush")
    host = in_process()
    assert isinstance(host, ProcessHost)
    async with serving(host):
        with open(f"/proc/{host.pid}/environ", "rb") as file:  # noqa: ASYNC230  (memory of the kernel's)
            environment = file.read()

    assert b"hush" not in environment
    assert b"PATH=" in environment


async def test_nothing_of_the_child_outlives_a_killed_parent() -> None:
    script = (
        "import asyncio, os, sys\n"
        "from unit.llmcore import test_hosts as tests\n"
        "async def main():\n"
        "    host = tests.in_process()\n"
        "    await host.start()\n"
        "    print(host.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", script), stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(TESTS)}
    )
    assert parent.stdout is not None
    child = os.pidfd_open(int(await parent.stdout.readline()))
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(child, gone.set)
    try:
        parent.kill()
        await parent.wait()
        async with asyncio.timeout(10):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)


def test_a_gateway_whose_engine_is_a_childs_has_no_torch() -> None:
    script = "import sys, gateway.bootstrap, llmcore.client, llmcore.text; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", script], check=True, timeout=60, capture_output=True, text=True
    )

    assert "llmcore.hosts.process" in loaded.stdout.split()
    assert {"torch", "transformers", "llguidance", "llmcore.runner"}.isdisjoint(loaded.stdout.split())


def _texts(end: Done | NotTaken) -> object:
    assert isinstance(end, Done), end
    return [(choice.index, choice.text, choice.finish, choice.tokens) for choice in end.choices]
