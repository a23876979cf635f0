"""What is made of what was seen: when DNS servers agree, how often a name moved, how a user fared."""

from __future__ import annotations

import math

import pytest
from watch import (
    NOTHING,
    SILENT,
    Change,
    Operation,
    Update,
    agreed,
    experience,
    is_calm,
    moves,
    read_update,
    settled_at,
)

ONE, TWO = "ns-one", "ns-two"
OLD, NEW = "192.0.2.1", "192.0.2.2"


def changes(*rows: tuple[float, str, str]) -> list[Change]:
    return [Change(at, server, "name.test", said) for at, server, said in rows]


def operation(at: float, *, error: str = "", retry_error: str = "", took: float = 0.1, address: str = OLD) -> Operation:
    return Operation(at, took, address, error, took + 1 if error else 0.0, address if error else "", retry_error)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({ONE: NEW, TWO: NEW}, True),
        ({ONE: NEW, TWO: OLD}, False),
        ({ONE: NEW, TWO: SILENT}, True),  # a server that is down gives nobody a wrong answer
        ({ONE: SILENT, TWO: SILENT}, False),
        ({ONE: NEW, TWO: NOTHING}, False),
        ({ONE: OLD, TWO: OLD}, False),
    ],
)
def test_servers_agree_when_all_that_answer_say_the_same_allowed_address(said: dict[str, str], *, expected: bool) -> None:
    assert agreed(said, [NEW]) is expected


def test_a_name_is_settled_from_the_moment_when_the_last_server_followed() -> None:
    seen = changes((0, ONE, OLD), (0, TWO, OLD), (5.0, ONE, NEW), (5.1, TWO, NEW))
    assert settled_at(seen, [NEW], [ONE, TWO]) == 5.1


def test_a_name_that_left_again_is_settled_from_its_return() -> None:
    seen = changes((0, ONE, NEW), (0, TWO, NEW), (5, TWO, OLD), (7, TWO, NEW))
    assert settled_at(seen, [NEW], [ONE, TWO]) == 7


def test_a_name_that_is_not_there_at_the_end_is_not_settled() -> None:
    seen = changes((0, ONE, NEW), (0, TWO, NEW), (5, TWO, OLD))
    assert math.isinf(settled_at(seen, [NEW], [ONE, TWO]))


def test_another_of_several_allowed_addresses_is_settled_once_all_agree_on_it() -> None:
    seen = changes((0, ONE, OLD), (0, TWO, OLD), (5, ONE, NEW), (6, TWO, NEW))
    assert settled_at(seen, [OLD, NEW], [ONE, TWO]) == 6


def test_silence_between_two_equal_answers_is_no_move() -> None:
    seen = changes((0, ONE, OLD), (0, TWO, OLD), (3, ONE, SILENT), (5, ONE, OLD), (6, TWO, NEW), (7, TWO, OLD))
    assert moves(seen, [ONE, TWO]) == {ONE: 0, TWO: 2}


def test_a_user_who_never_failed_was_never_away() -> None:
    found = experience([operation(1), operation(2)], since=0)
    assert (found.operations, found.failed, found.back_after, found.settled_after) == (2, 0, 0.0, 0.0)
    assert found.served_by == {OLD: 2}


def test_a_users_outage_ends_with_the_first_success_after_a_failure() -> None:
    told = [
        operation(9),
        operation(10.5, error="refused"),
        operation(11, error="refused", retry_error="refused"),
        operation(12, address=NEW),
        operation(13, error="reset"),
        operation(14, address=NEW),
    ]
    found = experience(told, since=10)
    assert found.first_failure == 0.5
    assert found.back_after == pytest.approx(2.1)
    assert found.settled_after == pytest.approx(4.1)
    assert (found.failed, found.failed_with_retry) == (3, 1)
    assert found.errors == {"refused": 2, "reset": 1}
    assert found.served_by == {NEW: 2}


def test_a_user_who_does_not_come_back_says_so() -> None:
    found = experience([operation(1), operation(2, error="timed out", retry_error="timed out")], since=0)
    assert found.back_after is None
    assert found.settled_after is None


def test_only_operations_begun_in_the_window_count() -> None:
    told = [operation(at, error="refused") for at in (1, 2, 3, 4)]
    assert experience(told, since=2, until=3).failed == 2


# --- updates and checkers ----------------------------------------------------------------------------------------------

HOSTS = {"vault-infn": "192.0.2.12", "vm": "192.0.2.40"}


def test_an_update_is_read_from_a_line_of_the_access_log() -> None:
    line = (
        '::ffff:192.0.2.12 "GET /nic/update?hostname=name.test&myip=192.0.2.13 HTTP/1.1" 200 17 64ms "endpoint-failover/1"'
    )
    assert read_update(line, 5.0, HOSTS) == Update(5.0, "vault-infn", "name.test", "192.0.2.13", 200)


@pytest.mark.parametrize(
    "line",
    [
        '192.0.2.12 "GET /nic/update HTTP/1.1" 401 7 5ms "-"',
        '192.0.2.12 "GET / HTTP/1.1" 200 7 5ms "-"',
        "INFO name.test - received good update -> ip: 192.0.2.13",
    ],
)
def test_what_moves_nothing_is_no_update(line: str) -> None:
    assert read_update(line, 5.0, HOSTS) is None


def status(**changes: object) -> dict[str, object]:
    serving = {"serving": True, "why": ""}
    return {
        "running": True,
        "identity": True,
        "age": 1.0,
        "sites": {site: {"names": {"name.test": serving}} for site in ("infn", "ifca")},
        "names": {"name.test": {"at": "infn", "candidates": ["infn", "ifca"], "why": ""}},
        "observers": {"ifca": {"fresh": None}},
    } | changes


def test_a_checker_to_whom_all_is_well_is_calm() -> None:
    assert is_calm(status())


@pytest.mark.parametrize(
    "amiss",
    [
        {"running": False},
        {"identity": False},
        {"age": None},
        {"age": 60.0},
        {"observers": {"ifca": {"fresh": False}}},
        {"names": {"name.test": {"at": None, "candidates": ["infn"], "why": ""}}},
        {"names": {"name.test": {"at": "infn", "candidates": ["infn"], "why": "the update is on its way"}}},
        {"sites": {"infn": {"names": {"name.test": {"serving": None, "why": ""}}}}},
        {"sites": {"infn": {"names": {"name.test": {"serving": True, "why": "connection refused"}}}}},
    ],
)
def test_a_checker_that_has_something_to_do_is_not(amiss: dict[str, object]) -> None:
    assert not is_calm(status(**amiss))
