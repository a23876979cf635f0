"""Whether a history is whole: it proves nothing of a lane that fell silent, nor of a place where nothing was written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from bench.workload.history import Request


def silent(requests: Sequence[Request], lanes: Iterable[str], since: float) -> list[str]:
    """Return the lanes that told of no request that ended since a moment."""
    heard = {each.lane for each in requests if each.end >= since}
    return sorted(set(lanes) - heard)


def unserved(requests: Sequence[Request], places: Iterable[str], begin: float, end: float) -> list[str]:
    """Return the places where no write was acknowledged that was begun between two moments."""
    served = {
        each.place or each.lane for each in requests if each.kind == "write" and each.done and begin <= each.begin <= end
    }
    return sorted(set(places) - served)


def unread(requests: Sequence[Request], lanes: Iterable[str], keys: Iterable[str]) -> list[tuple[str, str]]:
    """Return each lane and key that the lane did not read at the end."""
    answered = {(each.lane, each.key) for each in requests if each.last and each.done}
    return sorted(set(product(lanes, keys)) - answered)
