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
LATE, THREE = write("2", 2, 3, "unknown"), write("3", 4, 5)


@pytest.mark.parametrize(
    "history",
    [
        (ONE, TWO, read("2", 4, 5)),
        (ONE, TWO, read("1", 2.5, 4)),  # while the second is being written
        (ONE, TWO, read("2", 2.5, 2.6)),
        (read(None, 0, 0.5), ONE),
        (ONE, write("2", 2, 3, "unknown"), read("1", 4, 5), read("2", 6, 7)),  # it was still on its way
        (ONE, write("2", 2, 3, "unknown"), write("3", 4, 5), read("3", 6, 7), read("2", 8, 9)),
        (ONE, write("2", 2, 3, "refused"), write("2'", 4, 5, retry=True), read("2'", 6, 7)),
        (write("1", 0, 1, "unknown"), write("1'", 2, 3, retry=True), read("1", 0.5, 0.7), read("1'", 4, 5)),
        (write("1", 0, 1, "unknown"), write("1'", 2, 3, retry=True), read("1'", 4, 5), read("1", 6, 7)),
        (ONE, LATE, THREE, read("3", 6, 9), read("2", 7, 8)),  # at once: 3 was read before 2 took effect
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


def in_turn(*values: str | None, begin: float) -> list[Request]:
    """Reads of these, one after the other."""
    return [read(value, begin + 2 * number, begin + 2 * number + 1) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("3", []),
        ("32", []),
        ("323", ["lost"]),
        ("3233", ["stale", "lost"]),
        ("32323", ["stale", "lost"]),
        ("3222", []),
        ("321", ["lost"]),
    ],
)
def test_what_a_late_write_replaced_does_not_come_back(values: str, expected: list[str]) -> None:
    assert kinds(ONE, LATE, THREE, *in_turn(*values, begin=6)) == expected


def test_nor_does_it_after_many_other_writes() -> None:
    many = [write(str(number), 2.0 * number, 2.0 * number + 1) for number in range(3, 50)]
    assert kinds(ONE, LATE, *many, *in_turn("49", "2", "49", "2", begin=200)) == ["stale"]


def test_a_value_that_was_sent_twice_is_no_history_to_judge() -> None:
    with pytest.raises(ValueError, match="2 was written twice"):
        violations([ONE, LATE, write("2", 4, 5, retry=True)])


FATES = ("done", "done", "unknown, at once", "unknown, late", "unknown, never", "refused")


def register(seed: int, writes: int, readers: int = 3) -> list[Request]:
    """Make a history of a true register, which has "second" at first: one lane writes, others read at the same time.

    Of writes whose outcome is unknown some take effect within the request, some at any time later, among and after others.
    """
    chance = random.Random(seed)  # noqa: S311 - a history, not a secret
    history: list[Request] = []
    effects: list[tuple[float, str]] = [(0.0, "second")]
    now = 0.0
    for number in range(writes):
        begin = now + chance.random()
        now = begin + chance.random()
        outcome, _, when = chance.choice(FATES).partition(", ")
        history.append(write(str(number), begin, now, outcome))
        if outcome == "done" or when == "at once":
            effects.append((chance.uniform(begin, now), str(number)))
        elif when == "late":
            effects.append((begin + chance.choice([1, 3, writes]) * chance.random(), str(number)))
    effects.sort()
    for _ in range(readers):
        moment = 0.0
        while moment < now:
            begin = moment + chance.random()
            moment = begin + chance.choice([0.1, 1, 4]) * chance.random()
            looked = chance.uniform(begin, moment)
            history.append(read([value for at, value in effects if at <= looked][-1], begin, moment))
    return [write("first", -4, -3), write("second", -2, -1), *history]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 60))
def test_a_true_register_is_never_accused(seed: int, writes: int) -> None:
    assert violations(register(seed, writes)) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(["invented", "emptied", "old", "newest, late, newest"]))
def test_whatever_is_planted_is_found(seed: int, what: str) -> None:
    history = register(seed, 60)
    after = max(each.end for each in history) + 100
    late, newest = write("late", after, after + 1, "unknown"), write("newest", after + 2, after + 3)
    planted: dict[str, list[str | None]] = {
        "invented": ["nobody's"],
        "emptied": [None],
        "old": ["first"],
        "newest, late, newest": ["newest", "late", "newest"],
    }
    reads = in_turn(*planted[what], begin=after + 4)
    assert [each.read for each in violations([*history, late, newest, *reads])] == reads[-1:]


def explained(history: list[Request]) -> bool:
    """Whether an order explains a history, by trying all of them."""

    def go_on(value: str | None, left: frozenset[Request]) -> bool:
        if not any(each.done for each in left):
            return True
        latest = min(each.end for each in left if each.done)  # what begins after this one's end is after it
        return any(
            go_on(each.value, left - {each})
            for each in left
            if each.begin < latest and (each.kind == "write" or each.value == value)
        )

    return go_on(None, frozenset(each for each in history if each.outcome != "refused"))


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**9))
def test_what_is_refused_is_what_no_order_explains(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a history, not a secret
    # No two moments are the same.
    moments = [number + 1.0 for number in range(8)]
    history = [
        write(str(number), moments[2 * number], moments[2 * number + 1], chance.choice(["done", "unknown", "refused"]))
        for number in range(3)
    ]
    for _ in range(chance.randrange(1, 6)):
        begin, end = sorted(chance.uniform(0, 10) for _ in range(2))
        history.append(read(chance.choice([None, "0", "1", "2"]), begin, end))
    assert bool(violations(history)) == (not explained(history))


def test_who_does_not_wait_measures_a_gap_shorter_than_the_wait_of_others() -> None:
    patient = [write("1", 0, 0.1), write("2", 0.5, 0.6, "unknown"), write("2'", 1.6, 1.7, retry=True)]
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
        write("2'", 3.5, 3.6, retry=True),
        replace(write("3", 1.0, 1.2), lane="other"),
        replace(write("4", 5, 5.1, "refused"), lane="other"),
        replace(write("4'", 6.1, 6.2, "refused", retry=True), lane="other"),
        read("2", 4, 4.1),
    ]

    told = figures(history)

    assert (told.writes, told.reads, told.failed, told.failed_with_retry) == (3, 1, 2, {"other": 1})
    assert json.loads(json.dumps(asdict(told)))["failed_with_retry"] == {"other": 1}, "it is kept as JSON"
    assert told.gap.length == pytest.approx(2.4)
    assert told.gaps["a"].length == pytest.approx(3.5)
    assert longest_gap([1.0]).length == NEVER
    assert figures(history, 3, 4.5).failed == 0


def test_the_gap_has_what_was_before_the_first_write_and_after_the_last() -> None:
    early = [write(str(number), number / 10, number / 10 + 0.01) for number in range(100)]
    assert figures(early, 0, 600).gap.length == pytest.approx(590, abs=0.2)
    assert figures(early, -50, 10).gap == figures(early, -50, 10).gaps["a"]
    assert figures(early, -50, 10).gap.length == pytest.approx(50, abs=0.2)


def test_a_place_without_an_acknowledged_write_has_a_gap_as_long_as_the_load() -> None:
    none = [replace(write(f"b{number}", number, number + 0.1, "refused"), lane="b") for number in range(10)]
    assert figures([ONE, *none], 0, 10).gaps["b"].length == 10
    assert figures([ONE, *none], 11, 20).gaps["a"].length == 9, "also one that fell silent"


def test_a_second_attempt_after_the_end_belongs_to_the_first_before_it() -> None:
    trailing = [ONE, write("2", 9, 9.9, "unknown"), write("2'", 10.9, 11, "unknown", retry=True)]
    assert figures(trailing, 0, 10).failed_with_retry == {"a": 1}
    leading = [write("0", -2, -1, "unknown"), write("0'", 0.5, 0.6, "refused", retry=True), TWO]
    assert figures(leading, 0, 10).failed_with_retry == {}
