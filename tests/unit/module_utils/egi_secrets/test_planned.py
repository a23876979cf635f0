"""Where names go before a site is stopped, whether it can be spared, and for how long resolvers remember it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.members import Autopilot, Member
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


ELSEWHERE, HERE, SILENT = {"at": "ifca", "error": ""}, {"at": "infn", "error": ""}, {"at": "", "error": "no answer"}


def named(**servers: dict[str, str]) -> dict[str, Any]:
    """What a checker says of a name."""
    return {"candidates": ["infn", "ifca"], "servers": servers}


@pytest.mark.parametrize(
    ("answers", "there", "left", "problems"),
    [
        ([ELSEWHERE, ELSEWHERE], False, True, []),
        ([ELSEWHERE, HERE], True, False, ["a is still at infn."]),
        ([SILENT, HERE], True, False, ["a is still at infn."]),
        ([SILENT, ELSEWHERE], False, False, []),  # waited for, and not for ever
        ([SILENT, SILENT], True, False, ["No DNS server says where a is."]),
        ([], True, False, ["No DNS server says where a is."]),
    ],
)
def test_a_name_of_which_no_dns_server_says_anything_may_be_anywhere(
    answers: list[dict[str, str]], there: bool, left: bool, problems: list[str]
) -> None:
    servers = {f"ns{number}": answer for number, answer in enumerate(answers)}
    seen = {"names": {"a": named(**servers), "b": named(ns0=ELSEWHERE)}}
    assert planned.at_site(seen, "infn") == (["a"] if there else [])
    assert planned.has_left(seen, "infn") is left
    assert planned.leaving_problems(seen, "infn") == problems
    assert planned.has_left(seen, "iisas"), "nobody gives a name to a site that is no candidate"
    assert planned.has_left({"names": {"a": named(ns0={"at": "iisas", "error": ""})}}, "iisas") is False, "but by hand"


def test_dns_servers_that_say_nothing_are_named() -> None:
    seen = {"names": {"a": named(ns1=ELSEWHERE, ns2=SILENT), "b": named(ns2=SILENT)}}
    assert planned.unheard(seen, "infn") == ["ns2"]
    assert planned.unheard(seen, "iisas") == []
    assert planned.unheard(None, "infn") == []
    assert not planned.has_left(None, "infn")
    assert planned.leaving_problems(None, "infn") == ["The checker does not say where the names are."]


def checker(observer: str, age: float, **given: object) -> dict[str, Any]:
    return {**report({"a": ["infn", "ifca"]}, {"a": "infn"}), "observer": observer, "age": age, "identity": True, **given}


def test_the_checkers_that_another_one_does_not_hear_are_told() -> None:
    alarms = [{"key": key} for key in ("observer infn", "site infn a", "cluster")]
    assert planned.unheard_checkers(checker("ifca", 1.0, alarms=alarms)) == ["infn"]
    assert planned.unheard_checkers(None) == []


def test_a_checker_that_the_cluster_does_not_know_is_asked_last() -> None:
    refused, well = checker("iisas", 1.0, identity=False), checker("ifca", 9.0)
    begun = checker("infn", 1.0, sites={"infn": {"names": {"a": {"serving": None, "why": ""}}}})
    assert planned.freshest([refused, begun, well]) is well
    assert planned.freshest([refused, begun]) is begun
    assert planned.freshest([refused]) is refused


# --- draining ------------------------------------------------------------------------------------------------------------

FOLLOWER = Member("", answers=True, initialized=True, sealed=False, active=False, cluster_id="c", leader="l", autopilot=None)
NAMED = report({"a": ["iisas", "infn", "ifca"]}, {"a": "iisas"})


def members(leader: str, autopilot: Autopilot | None, **changed: dict[str, Any]) -> dict[str, Member]:
    found = {}
    for site in ("iisas", "infn", "ifca"):
        leads: dict[str, Any] = {"active": True, "autopilot": autopilot} if site == leader else {}
        found[site] = replace(FOLLOWER, name=f"vault-{site}", **leads, **changed.get(site, {}))
    return found


def autopilot(tolerance: int, *ill: str) -> Autopilot:
    return Autopilot(not ill, tolerance, {f"vault-{site}": site not in ill for site in ("iisas", "infn", "ifca")})


def test_whoever_has_just_seen_all_members_well_is_asked_of_the_names_alone() -> None:
    assert planned.drain_problems(NAMED, "iisas", None) == []
    held = {
        **NAMED,
        "sites": {**NAMED["sites"], **{site: {**NAMED["sites"][site], "hold": {"by": "x"}} for site in ("infn", "ifca")}},
    }
    (problem,) = planned.drain_problems(held, "iisas", None)
    assert "a would have nowhere to go (infn: held; ifca: held)" in problem
    assert planned.drain_problems(None, "iisas", None) == planned.drain_problems(None, "iisas", {})


def test_a_site_is_spared_where_all_are_well() -> None:
    assert planned.drain_problems(NAMED, "iisas", members("infn", autopilot(1))) == []
    assert planned.drain_problems(NAMED, "iisas", members("iisas", autopilot(1))) == []


@pytest.mark.parametrize("leader", ["iisas", "infn"])
def test_who_answers_and_is_cut_off_from_the_leader_is_none_of_a_quorum(leader: str) -> None:
    (problem,) = planned.drain_problems(NAMED, "iisas", members(leader, autopilot(0, "ifca")))
    assert "only 1 of 3 members would be left, and 2 are needed: bring ifca back first" in problem


def test_a_member_that_does_not_vote_yet_is_none_of_a_quorum() -> None:
    (problem,) = planned.drain_problems(NAMED, "iisas", members("infn", autopilot(0)))
    assert "survives the loss of 0 members: it cannot spare iisas" in problem


def test_a_site_that_is_ill_itself_can_be_drained() -> None:
    ill = members("infn", autopilot(0, "iisas"), iisas={"sealed": True})
    assert planned.drain_problems(NAMED, "iisas", ill) == []


def test_where_no_leader_says_how_the_others_are_what_they_say_counts() -> None:
    assert planned.drain_problems(NAMED, "iisas", members("infn", None)) == []
    (problem,) = planned.drain_problems(NAMED, "iisas", members("infn", None, ifca={"sealed": True}))
    assert "only 1 of 3" in problem


@pytest.mark.parametrize(
    ("phase", "at", "wanted"),
    [
        ("done", 990.0, 51),
        ("done", 930.0, 0),
        ("moving", 990.0, 61),  # DNS was seen to have changed before the mover said so: it has just now
        ("moving", 900.0, 61),
        ("failed", 900.0, 61),  # its update has arrived all the same, nobody knows when
    ],
)
def test_resolvers_remember_a_site_for_the_ttl_from_when_the_name_left_it(phase: str, at: float, wanted: int) -> None:
    change = {"source": "iisas", "target": "infn", "phase": phase, "at": at}
    seen = {"cluster_time": 1000.0, "names": {"a": {"at": "infn", "ttl": 60, "last_change": change}}}
    assert planned.ttl_left(seen, "iisas") == wanted
    assert planned.ttl_left(seen, "ifca") == 0
