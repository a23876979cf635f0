"""What is asserted of a load beside its history: that all programs worked until the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from load import Load

from bench.workload.history import Request

BEGIN, END = 100.0, 130.0
LANES = {"vault-a": True, "vault-b": True, "vault-a-at-once": False, "vault-b-at-once": False}


def write(lane: str, begin: float, outcome: str = "done") -> Request:
    place, patient = lane.removesuffix("-at-once"), LANES[lane]
    return Request(lane, "write", f"{lane}-0", f"{lane}:{begin}", begin, begin + 0.01, outcome, place=place, patient=patient)


def last_read(lane: str, key: str) -> Request:
    return Request(lane, "read", key, None, END + 1, END + 1.01, "done")


WHOLE = [
    *(write(lane, BEGIN + number) for lane in LANES for number in range(31)),
    *(last_read(lane, "vault-a-1") for lane in LANES if LANES[lane]),
]


def load(requests: Sequence[Request], status: int = 0, said: str = "") -> Load:
    lab: Any = SimpleNamespace(addresses={"vault-a": "192.0.2.1", "vault-b": "192.0.2.2"}, nodes=["vault-a", "vault-b"])
    one = Load(lab, name=False, ca="PEM")
    one.requests, one.status, one.said, one.marks = list(requests), status, said, [("begin", BEGIN), ("end", END)]
    return one


def test_a_load_that_worked_until_the_end_is_sound() -> None:
    assert load(WHOLE).assert_sound().writes == len(LANES) * 31


def test_programs_that_broke_down_are_told() -> None:
    with pytest.raises(AssertionError, match="ended with 1: one broke down"):
        load(WHOLE, status=1, said="one broke down").assert_sound()


def test_a_lane_that_fell_silent_is_told() -> None:
    with pytest.raises(AssertionError, match="silent before the end: vault-b-at-once"):
        load([each for each in WHOLE if each.lane != "vault-b-at-once" or each.end < END - 15]).assert_sound()


def test_a_place_where_nothing_was_written_is_told() -> None:
    refused = [replace(each, outcome="refused") if each.place == "vault-b" else each for each in WHOLE]
    with pytest.raises(AssertionError, match="No write was acknowledged at: vault-b"):
        load(refused).assert_sound()


def test_a_place_that_is_down_at_the_end_is_not_silent() -> None:
    down = [replace(each, outcome="refused") if each.place == "vault-b" and each.end > END - 20 else each for each in WHOLE]
    assert load(down).assert_sound().failed == 21
