"""Where names go before a site is stopped."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.egi_secrets.operate import planned

WELL = {"serving": True, "why": ""}
ILL = {"serving": False, "why": "sealed"}


def report(candidates: dict[str, list[str]], at: dict[str, str], ill: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "sites": {
            site: {"hold": None, "names": dict.fromkeys(candidates, ILL if site in ill else WELL)}
            for site in ("iisas", "infn", "ifca")
        },
        "names": {name: {"candidates": sites, "servers": {"ns1": {"at": at[name]}}} for name, sites in candidates.items()},
    }


@pytest.mark.parametrize(
    ("candidates", "ill", "wanted"),
    [
        (["ifca", "infn", "iisas"], (), {"iisas": ["a"]}),  # ifca is the first choice, and its turn is to come
        (["iisas", "infn", "ifca"], (), {"iisas": ["a"]}),
        (["infn", "ifca"], (), {}),  # the only other choice is to be stopped too: left to the checkers
        (["ifca", "infn", "iisas"], ("iisas",), {}),
    ],
)
def test_names_go_to_a_site_that_is_not_to_be_stopped_as_well(
    candidates: list[str], ill: tuple[str, ...], wanted: dict[str, list[str]]
) -> None:
    seen = report({"a": candidates, "b": candidates}, {"a": "infn", "b": "ifca"}, ill)
    assert planned.destinations(seen, "infn", ["infn", "ifca"]) == wanted


def test_names_go_together_where_they_can() -> None:
    seen = report({"a": ["infn", "iisas"], "b": ["infn", "ifca"], "c": ["infn", "iisas"]}, dict.fromkeys("abc", "infn"))
    assert planned.destinations(seen, "infn", ["infn"]) == {"iisas": ["a", "c"], "ifca": ["b"]}


def test_no_name_goes_to_a_site_that_an_operator_holds() -> None:
    seen = report({"a": ["iisas", "infn", "ifca"]}, {"a": "infn"})
    seen["sites"]["iisas"]["hold"] = {"by": "alice"}
    assert planned.destinations(seen, "infn", ["infn"]) == {"ifca": ["a"]}
    assert planned.destinations(seen, "infn", ["infn", "ifca"]) == {}


def test_where_nothing_is_known_nothing_is_moved() -> None:
    assert planned.destinations(None, "infn", ["infn"]) == {}
