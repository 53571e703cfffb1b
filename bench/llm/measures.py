"""How fair a schedule was, from what was played."""

from collections.abc import Iterator
from math import ceil

from bench.llm.play import Moment, Played


def percentile(values: list[float], share: float) -> float:
    """The least value that so great a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def jain(values: list[float]) -> float:
    """1: all equal; 1/n: one has everything (Jain, Chiu and Hawe, 1984)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def jain_of_backlogged(played: Played, window_s: float) -> float:
    """Mean over windows of the index of service, among those who had something waiting for all of a window.

    Windows with fewer than two of them say nothing about fairness.
    """
    indices = [jain(list(served.values())) for served in _windows(played.moments, window_s) if len(served) > 1]
    return sum(indices) / len(indices) if indices else 1.0


def largest_gap(moments: list[Moment]) -> float:
    """Over all pairs of tenants and all intervals in which both always had something waiting: by how much the service
    of one exceeded that of the other. VTC bounds it by 2 max(w_p L, w_q M)."""
    service: dict[str, float] = {}
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    """Of each pair that waits: the least and greatest difference so far."""
    backlogged: set[str] = set()
    worst = 0.0
    for moment in moments:
        for tenant, amount in moment.served.items():
            service[tenant] = service.get(tenant, 0.0) + amount
        if moment.began:
            for other in backlogged:
                difference = _difference(service, _pair(moment.began, other))
                spans[_pair(moment.began, other)] = difference, difference
            backlogged.add(moment.began)
        if moment.ended:
            backlogged.discard(moment.ended)
            for other in backlogged:
                del spans[_pair(moment.ended, other)]
        for one in backlogged & moment.served.keys():
            for other in backlogged - {one}:
                pair = _pair(one, other)
                difference = _difference(service, pair)
                least, greatest = spans[pair]
                spans[pair] = least, greatest = min(least, difference), max(greatest, difference)
                worst = max(worst, greatest - least)
    return worst


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _difference(service: dict[str, float], pair: tuple[str, str]) -> float:
    return service.get(pair[0], 0.0) - service.get(pair[1], 0.0)


def _windows(moments: list[Moment], window_s: float) -> Iterator[dict[str, float]]:
    """For each window: the service of those who had something waiting throughout it."""
    backlogged: set[str] = set()
    throughout: set[str] = set()
    served: dict[str, float] = {}
    ends_s = window_s
    for moment in moments:
        while moment.time_s >= ends_s:
            yield {tenant: served.get(tenant, 0.0) for tenant in throughout & backlogged}
            throughout, served = set(backlogged), {}
            ends_s += window_s
        for tenant, amount in moment.served.items():
            served[tenant] = served.get(tenant, 0.0) + amount
        if moment.began:
            backlogged.add(moment.began)
        if moment.ended:
            backlogged.discard(moment.ended)
            throughout.discard(moment.ended)
