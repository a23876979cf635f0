"""What is asserted of a load beside its history: that all programs worked until the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from load import Load, assert_served

from bench.workload.client import keys
from bench.workload.history import Figures, Gap, Request

BEGIN, END = 100.0, 130.0
LANES = {"vault-a": True, "vault-b": True, "vault-a-at-once": False, "vault-b-at-once": False}


def write(lane: str, begin: float, outcome: str = "done") -> Request:
    place, patient = lane.removesuffix("-at-once"), LANES[lane]
    return Request(lane, "write", f"{lane}-0", f"{lane}:{begin}", begin, begin + 0.01, outcome, place=place, patient=patient)


def with_last_reads(work: Sequence[Request]) -> list[Request]:
    there = {each.key: each.value for each in work if each.done}
    return [
        *work,
        *(
            Request(lane, "read", key, there.get(key), END + 1, END + 1.01, "done", last=True)
            for lane in LANES
            if LANES[lane]
            for key in keys(LANES)
        ),
    ]


WORK = [write(lane, BEGIN + number) for lane in LANES for number in range(31)]
WHOLE = with_last_reads(WORK)


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
    work = [each for each in WORK if each.lane != "vault-b-at-once" or each.end < END - 15]
    with pytest.raises(AssertionError, match="silent before the end: vault-b-at-once"):
        load(with_last_reads(work)).assert_sound()


def test_a_lane_that_only_reads_at_the_end_is_silent() -> None:
    work = [each for each in WORK if each.lane != "vault-b" or each.end < END - 15]
    with pytest.raises(AssertionError, match=r"silent before the end: vault-b\."):
        load(with_last_reads(work)).assert_sound()


def test_a_place_where_nothing_was_written_is_told() -> None:
    refused = [replace(each, outcome="refused") if each.place == "vault-b" else each for each in WORK]
    with pytest.raises(AssertionError, match="No write was acknowledged at: vault-b"):
        load(with_last_reads(refused)).assert_sound()


def test_a_place_that_is_down_at_the_end_is_not_silent() -> None:
    down = [replace(each, outcome="refused") if each.place == "vault-b" and each.end > END - 20 else each for each in WORK]
    assert load(with_last_reads(down)).assert_sound().failed == 21


def test_a_key_that_a_lane_did_not_read_at_the_end_is_named() -> None:
    missing = [each for each in WHOLE if (each.lane, each.key, each.last) != ("vault-b", "vault-a-at-once-2", True)]
    with pytest.raises(AssertionError, match="Not read at the end, 1 in all: vault-a-at-once-2 by vault-b"):
        load(missing).assert_sound()


def test_a_read_while_they_work_is_no_last_read() -> None:
    early = [replace(each, last=False) if each.key == "vault-a-2" else each for each in WHOLE]
    with pytest.raises(AssertionError, match="vault-a-2 by vault-a, vault-a-2 by vault-b"):
        load(early).assert_sound()


def test_a_place_that_was_down_for_too_long_is_told() -> None:
    early = [
        replace(each, outcome="refused") if each.place == "vault-b" and BEGIN + 2 < each.begin < END - 5 else each
        for each in WORK
    ]
    one = load(with_last_reads(early))
    with pytest.raises(AssertionError, match=r"longer than 20 s at: vault-b for 23\.0 s from 2\.0 s on\."):
        one.assert_sound(longest_down=20)
    assert one.assert_sound(longest_down=None) == one.assert_sound(longest_down=25) == one.assert_sound()


def test_a_place_that_answered_once_and_never_again_is_told_by_itself() -> None:
    once = [replace(each, outcome="refused") if each.place == "vault-b" and each.begin > BEGIN else each for each in WORK]
    one = load(with_last_reads([*once, *(write(lane, END + 70) for lane in LANES if "vault-a" in lane)]))
    one.marks = [("begin", BEGIN), ("end", END + 71)]
    one.requests = [replace(each, begin=END + 75, end=END + 75.1) if each.last else each for each in one.requests]
    one.requests += [write(lane, END + 70.5, "refused") for lane in LANES if "vault-b" in lane]
    with pytest.raises(AssertionError, match=r"longer than 90 s at: vault-b for 101\.0 s"):
        one.assert_sound()


def seen(together: float, **places: float) -> Figures:
    gaps = {place: Gap(0.0, length) for place, length in places.items()}
    return Figures(writes=1, reads=1, failed=0, failed_with_retry={}, gap=Gap(0.0, together), gaps=gaps)


def test_an_outage_of_all_nodes_or_of_the_name_is_told() -> None:
    assert_served(seen(5.9, infn=50, name=7.9))
    assert_served(seen(5.9, infn=50))
    with pytest.raises(AssertionError, match=r"anywhere for 12\.0 s"):
        assert_served(seen(12, infn=12, name=12))
    with pytest.raises(AssertionError, match=r"through the name for 7\.0 s"):
        assert_served(seen(1, infn=2, name=7), name=6)
