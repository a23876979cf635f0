"""The server writes the same value in more than one way."""

from __future__ import annotations

import pytest
from ansible.module_utils.egi_secrets.reconcile.compare import differences, same, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("1h30m", 5400), ("2d", 172800), ("200ms", 0.2), ("1x", None), ("", None)],
)
def test_durations(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("declared", "live"),
    [
        ("1h", 3600),
        (3600, "1h0m0s"),
        (["a", "b"], ["b", "a"]),
        ("a,b", ["a", "b"]),
        ([], None),
        ("", None),
        (False, ""),
        (True, "true"),
        ("text\n", "text"),
        (["10.0.0.1/32"], ["10.0.0.1"]),
        (["2001:db8::1/128"], ["2001:db8::1"]),
        ({"azp": ["a"]}, {"azp": ["a"]}),
        ({"version": "1"}, {"version": "1", "empty": None}),
        (50, 50.0),
    ],
)
def test_the_same_in_other_words(declared: object, live: object) -> None:
    assert same(declared, live)


@pytest.mark.parametrize(
    ("declared", "live"),
    [
        ("1h", 3601),
        (["a"], ["a", "b"]),
        ("a", "b"),
        (True, False),
        (True, None),
        (["10.0.0.0/24"], ["10.0.0.0"]),
        ({"azp": ["a"]}, {"azp": ["a"], "sub": ["b"]}),
        ({"azp": ["a"]}, {}),
        ({"azp": ["a"]}, None),
        ("1h", "soon"),
    ],
)
def test_something_else(declared: object, live: object) -> None:
    assert not same(declared, live)


def test_what_nobody_declared_is_reset_where_it_holds_something() -> None:
    live = {"ttl": 60, "period": 100, "type": "default", "uses": 0, "claims": {"a": "b"}, "urls": ["x"], "verbose": True}
    assert differences({"ttl": "60s"}, live | {"token_type": "default", "bound_claims_type": "string"}, exact=True) == {
        "period": 0,
        "type": "",
        "claims": {},
        "urls": [],
        "verbose": False,
    }


def test_what_is_on_by_default_and_was_turned_off_is_reset_too() -> None:
    assert differences({"ttl": "60s"}, {"ttl": 60, "bind_secret_id": False}, exact=True) == {"bind_secret_id": True}
    assert differences({"ttl": "60s"}, {"ttl": 60, "bind_secret_id": True, "verbose": False}, exact=True) == {}
    assert differences({"bind_secret_id": False}, {"bind_secret_id": False}, exact=True) == {}


def test_what_nobody_declared_may_stay_where_it_is_not_exact() -> None:
    assert differences({"ttl": "60s"}, {"ttl": 60, "period": 100}, exact=False) == {}
