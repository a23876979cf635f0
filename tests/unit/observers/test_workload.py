"""The check of histories: sound ones pass, and whatever is planted is found."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.workload.history import NEVER, Request, figures, longest_gap, violations


def write(value: str, begin: float, end: float, outcome: str = "done", *, retry: bool = False) -> Request:
    return Request("a", "write", "k", value, begin, end, outcome, retry=retry)


def read(value: str | None, begin: float, end: float) -> Request:
    return Request("b", "read", "k", value, begin, end, "done")


def kinds(*requests: Request) -> list[str]:
    return [each.kind for each in violations(requests)]


ONE, TWO = write("1", 0, 1), write("2", 2, 3)


@pytest.mark.parametrize(
    "history",
    [
        (ONE, TWO, read("2", 4, 5)),
        (ONE, TWO, read("1", 2.5, 4)),  # while the second is being written
        (ONE, TWO, read("2", 2.5, 2.6)),
        (read(None, 0, 0.5), ONE),
        (ONE, write("2", 2, 3, "unknown"), read("1", 4, 5), read("2", 6, 7)),  # it was still on its way
        (ONE, write("2", 2, 3, "unknown"), write("3", 4, 5), read("3", 6, 7), read("2", 8, 9)),
        (ONE, write("2", 2, 3, "refused"), write("2", 4, 5, retry=True), read("2", 6, 7)),
        (write("1", 0, 1, "unknown"), write("1", 2, 3, retry=True), read("1", 0.5, 0.7)),
    ],
)
def test_what_can_be_passes(history: tuple[Request, ...]) -> None:
    assert kinds(*history) == []


@pytest.mark.parametrize(
    ("history", "kind"),
    [
        ((ONE, TWO, read("1", 4, 5)), "lost"),
        ((ONE, TWO, read("1", 4, 5), read("2", 6, 7)), "stale"),
        ((ONE, read(None, 2, 3)), "lost"),
        ((ONE, read("7", 2, 3)), "invented"),
        ((ONE, write("2", 2, 3, "refused"), read("2", 4, 5)), "invented"),
        ((ONE, read("2", 1.1, 1.5), TWO), "invented"),  # before it was begun
        # Once it was read it has been written, and what replaced it stays.
        ((write("1", 0, 1, "unknown"), read("1", 2, 3), write("2", 4, 5), read("1", 6, 7)), "lost"),
        ((ONE, write("2", 2, 3, "unknown"), read("2", 4, 5), read("1", 6, 7)), "lost"),
    ],
)
def test_what_cannot_be_is_found(history: tuple[Request, ...], kind: str) -> None:
    assert kinds(*history) == [kind]


FATES = ("done", "done", "unknown, at once", "unknown, late", "unknown, never", "refused", "read", "read")


def register(seed: int, steps: int) -> list[Request]:
    """Make a history of a true register: writes that take effect once, some unheard, and reads of what is there."""
    chance = random.Random(seed)  # noqa: S311 - a history, not a secret
    value: str | None = None
    late: list[str] = []
    now, history = 0.0, []
    for number in range(steps):
        begin, now = now, now + chance.random()
        fate = chance.choice(
            ["done", "done", "unknown, at once", "unknown, late", "unknown, never", "refused", "read", "read"]
        )
        if late and chance.random() < 0.3:
            value = late.pop()
        if fate == "read":
            history.append(read(value, begin, now))
            continue
        if fate in ("done", "unknown, at once"):
            value = str(number)
        elif fate == "unknown, late":
            late.append(str(number))
        history.append(write(str(number), begin, now, fate.partition(",")[0]))
    return history


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 60))
def test_a_true_register_is_never_accused(seed: int, steps: int) -> None:
    assert violations(register(seed, steps)) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["invented", "emptied", "old"]))
def test_whatever_is_planted_is_found(seed: int, what: str) -> None:
    history = [each for each in register(seed, 60) if each.kind == "read" or each.outcome == "done"]
    first, second = write("first", -4, -3), write("second", -2, -1)
    after = max((each.end for each in history), default=0.0) + 1
    planted = {"invented": "nobody's", "emptied": None, "old": "first"}[what]
    whole = [first, second, *(replace(each, begin=each.begin) for each in history if each.value is not None)]
    assert [each for each in violations([*whole, read(planted, after, after + 1)]) if each.read.begin == after]


def test_who_does_not_wait_measures_a_gap_shorter_than_the_wait_of_others() -> None:
    patient = [write("1", 0, 0.1), write("2", 0.5, 0.6, "unknown"), write("2", 1.6, 1.7, retry=True)]
    at_once = [write("1", 0, 0.1), write("2", 0.5, 0.6, "refused"), write("3", 1.0, 1.1), write("4", 1.5, 1.6)]
    hers = [replace(each, lane="a-at-once", key="h", place="a", patient=False) for each in at_once]

    told = figures([*patient, *hers])

    assert (told.failed, told.failed_with_retry, list(told.gaps)) == (1, {}, ["a"])
    assert sum(told.errors.values()) == 1
    assert told.gap.length == told.gaps["a"].length == pytest.approx(1.0)
    assert violations([*patient, *hers]) == []


def test_figures_tell_gaps_and_failures() -> None:
    history = [
        write("1", 0, 0.1),
        write("2", 0.5, 2.5, "unknown"),
        write("2", 3.5, 3.6, retry=True),
        replace(write("3", 1.0, 1.2), lane="other"),
        replace(write("4", 5, 5.1, "refused"), lane="other"),
        replace(write("4", 6.1, 6.2, "refused", retry=True), lane="other"),
        read("2", 4, 4.1),
    ]

    told = figures(history)

    assert (told.writes, told.reads, told.failed, told.failed_with_retry) == (3, 1, 2, {"other": 1})
    assert json.loads(json.dumps(asdict(told)))["failed_with_retry"] == {"other": 1}, "it is kept as JSON"
    assert told.gap.length == pytest.approx(2.4)
    assert told.gaps["a"].length == pytest.approx(3.5)
    assert longest_gap([1.0]).length == NEVER
    assert figures(history, 3, 4.5).failed == 0
