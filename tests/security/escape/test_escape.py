"""What hostile code gets out of each driver's sandbox: nothing. What it gets without each defence: what that stops."""

import os
from typing import Final

import pytest
from security.escape.defences import WEAKENED
from security.escape.judge import MISSING, Report
from security.escape.probes.table import PROBES
from security.escape.shore import Shore
from support.drivers import DRIVERS

every_driver = pytest.mark.parametrize("driver", DRIVERS)

STILL_STOPPED: Final = {
    ("mounts", "runc"): {"file-of-another-user"},
    ("mounts", "gvisor"): {"file-of-another-user"},
    ("mounts", "vm"): {"root-of-the-first-process"},
}
"""Who gets no further although this defence is out. An engine cannot map owners, so the file is not even mounted; the
first process of a guest has the guest's own root."""

OF_SOME_KERNELS: Final = {"proc-sysrq-trigger": "/proc/sysrq-trigger", "proc-kcore": "/proc/kcore"}


@every_driver
@pytest.mark.promise("escape-files")
def test_no_file_of_the_host_is_reached(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "files", "proc") == {}


@every_driver
@pytest.mark.promise("escape-network")
def test_no_address_and_no_socket_of_the_host_is_reached(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "network") == {}


@every_driver
@pytest.mark.promise("escape-control")
def test_nothing_of_the_gateway_is_reached(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "control") == {}


@every_driver
@pytest.mark.promise("escape-kernel")
def test_no_risky_door_of_the_hosts_kernel_opens(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "kernel") == {}


@every_driver
@pytest.mark.promise("escape-time")
def test_neither_the_clock_nor_anybody_elses_time_is_touched(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "times") == {}


@every_driver
@pytest.mark.promise("escape-resources")
def test_no_limit_is_passed(there: Shore, driver: str) -> None:
    assert got_out(there, driver, "resources") == {}


@pytest.mark.parametrize(
    ("defence", "driver"), [(defence, driver) for defence, drivers in WEAKENED.items() for driver in drivers]
)
def test_what_a_defence_stops_gets_through_without_it(there: Shore, defence: str, driver: str) -> None:
    report = there.weakened(defence, driver)
    stopped = report.outcomes.keys() - report.through - missing(report) - STILL_STOPPED.get((defence, driver), set())
    assert {name: report.outcomes[name].said for name in stopped} == {}
    assert report.through, "or nothing was shown"


def test_each_of_many_probes_is_stopped_by_a_defence_that_can_be_taken_out() -> None:
    assert len(PROBES) >= 80
    assert {one.stopped_by for one in PROBES.values()} == WEAKENED.keys()
    for (defence, driver), names in STILL_STOPPED.items():
        others = [name for name in WEAKENED[defence] if name != driver]
        assert any(not names & STILL_STOPPED.get((defence, other), set()) for other in others), (
            "seen with another driver"
        )


def got_out(there: Shore, driver: str, *groups: str) -> dict[str, str]:
    """Who got through, and who proved nothing: broken, or out of time and not stopped."""
    report = there.defended(driver, resources="resources" in groups)
    bad = {f"a mark of {number}": what for number, what in enumerate(report.complaints)}
    for name, one in report.outcomes.items():
        if one.probe.group in groups and (name in report.through or one.broken or one.late):
            bad[name] = f"{one.said} {one.landed}"
    assert {one.probe.group for one in report.outcomes.values()} >= set(groups)
    return bad


def missing(report: Report) -> set[str]:
    """Probes of what this machine's kernel was built without: there, nobody gets through."""
    files = {name for name, path in OF_SOME_KERNELS.items() if not os.path.exists(path)}
    return {name for name, one in report.outcomes.items() if one.errno in MISSING or name in files}
