"""Membership is decided from gauges, without a token: the decision must not be fooled by any of their combinations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.members import (
    Autopilot,
    Member,
    expelled,
    forgetful,
    forgotten,
    is_settled,
    member_problems,
    standby_problems,
    voter_problems,
)
from ansible.module_utils.egi_secrets.standing import wait_until_settled
from hypothesis import given
from hypothesis import strategies as st

EXPECTED = ["vault-ifca", "vault-iisas", "vault-infn"]
ADDRESSES = {"vault-iisas": "https://a:8200", "vault-infn": "https://b:8200", "vault-ifca": "https://c:8200"}
GOOD = Autopilot(healthy=True, failure_tolerance=1, nodes=dict.fromkeys(EXPECTED, True))
STANDBY = Member(
    name="vault-infn", answers=True, initialized=True, sealed=False, active=False, cluster_id="c", leader="https://a:8200",
    autopilot=None,
)  # fmt: skip
ACTIVE = replace(STANDBY, name="vault-iisas", active=True, autopilot=GOOD)
CLUSTER = [ACTIVE, STANDBY, replace(STANDBY, name="vault-ifca")]


def test_three_voters_are_fine() -> None:
    assert member_problems(CLUSTER, EXPECTED) == []


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (replace(GOOD, failure_tolerance=0), "survives"),
        (replace(GOOD, nodes={**GOOD.nodes, "stranger": True}), "stranger"),
        (replace(GOOD, nodes={"vault-iisas": True, "vault-infn": True}, failure_tolerance=0), "vault-ifca"),
        (replace(GOOD, nodes={**GOOD.nodes, "vault-infn": False}), "unhealthy"),
    ],
)
def test_each_flaw_is_named(wrong: Autopilot, word: str) -> None:
    problems = member_problems([replace(ACTIVE, autopilot=wrong), *CLUSTER[1:]], EXPECTED)
    assert any(word in problem for problem in problems)
    assert not is_settled(replace(ACTIVE, autopilot=wrong), EXPECTED)


@pytest.mark.parametrize(
    ("member", "word"),
    [
        (replace(STANDBY, answers=False), "does not answer"),
        (replace(STANDBY, initialized=False), "not joined"),
        (replace(STANDBY, sealed=True), "sealed"),
        (replace(STANDBY, cluster_id="other"), "different clusters"),
        (replace(STANDBY, active=True, autopilot=GOOD), "Several nodes"),
    ],
)
def test_a_node_that_differs_is_named(member: Member, word: str) -> None:
    problems = member_problems([ACTIVE, member, CLUSTER[2]], EXPECTED)
    assert any(word in problem and member.name in problem for problem in problems)


def test_a_host_that_was_not_reached_is_named() -> None:
    assert "vault-ifca" in member_problems(CLUSTER[:2], EXPECTED)[0]


def test_standbys_that_do_not_follow_the_leader_are_named() -> None:
    lost, astray = replace(STANDBY, leader=None), replace(STANDBY, leader="https://c:8200")
    assert standby_problems(CLUSTER, all_open=True) == []
    assert "No leader is seen by vault-infn" in standby_problems([ACTIVE, lost, CLUSTER[2]], all_open=True)[0]
    assert "No leader is seen by vault-infn" in standby_problems([lost], all_open=False)[0]
    assert standby_problems([lost], all_open=True) == [], "that no node is active is told then"
    assert "named by vault-infn (https://c:8200)" in standby_problems([ACTIVE, astray, CLUSTER[2]], all_open=True)[0]


def test_no_leader_is_a_problem() -> None:
    assert "No node is active" in member_problems([replace(m, active=False) for m in CLUSTER], EXPECTED)[0]


@given(voters=st.sets(st.sampled_from(EXPECTED), min_size=1), healthy=st.sets(st.sampled_from(EXPECTED)))
def test_the_tolerance_tells_whether_all_of_an_odd_cluster_vote(voters: set[str], healthy: set[str]) -> None:
    """Autopilot's own arithmetic: healthy voters less the quorum of the voters."""
    tolerance = max(0, len(voters & healthy) - (len(voters) // 2 + 1))
    told = Autopilot(
        healthy=healthy == set(EXPECTED), failure_tolerance=tolerance, nodes={n: n in healthy for n in EXPECTED}
    )
    assert (voter_problems(told, EXPECTED) == []) == (voters == set(EXPECTED) == healthy)


def test_a_member_with_an_empty_disk_is_told_from_a_host_that_is_to_join() -> None:
    stranger = replace(STANDBY, name="vault-lip", answers=False)
    assert forgetful([ACTIVE, STANDBY, stranger], ["vault-infn", "vault-lip"]) == ["vault-infn"]
    assert forgetful([STANDBY, stranger], ["vault-infn"]) == [], "nobody leads, and says who is a member"


def test_one_that_was_removed_is_told_from_a_member_and_from_one_that_nobody_can_tell_of() -> None:
    two = replace(ACTIVE, autopilot=replace(GOOD, nodes=dict.fromkeys(["vault-iisas", "vault-infn"], True)))
    assert expelled([two, STANDBY], ["vault-iisas", "vault-infn", "vault-ifca"]) == ["vault-ifca"]
    assert expelled([STANDBY], ["vault-ifca"]) == [], "nobody leads, and says who is a member"
    assert expelled([replace(two, autopilot=replace(GOOD, nodes={}))], ["vault-ifca"]) == [], "its gauges have expired"


def test_a_member_that_lives_and_that_the_inventory_forgot_is_named() -> None:
    assert forgotten(CLUSTER, ADDRESSES) == []
    two = {name: ADDRESSES[name] for name in ("vault-iisas", "vault-infn")}
    assert forgotten([ACTIVE, STANDBY], two) == ["vault-ifca"]
    dead = replace(ACTIVE, autopilot=replace(GOOD, nodes={**GOOD.nodes, "vault-ifca": False}))
    assert forgotten([dead, STANDBY], two) == [], "nobody is shut out who is not there"


def test_a_leader_that_the_inventory_forgot_is_named_by_its_followers() -> None:
    followers = [STANDBY, replace(STANDBY, name="vault-ifca")]
    two = {each.name: ADDRESSES[each.name] for each in followers}
    assert forgotten(followers, two) == ["https://a:8200"]
    just = replace(STANDBY, name="vault-iisas", leader=None)
    assert forgotten([*followers, just], ADDRESSES) == [], "it has just stepped down, or is sealed"
    silent = replace(STANDBY, name="vault-iisas", answers=False)
    assert forgotten([*followers, silent], ADDRESSES) == [], "the one that does not answer may be the one that leads"
    assert forgotten([replace(each, leader=None) for each in followers], ADDRESSES) == [], "nobody leads"
    assert forgotten([replace(ACTIVE, autopilot=None), *followers], ADDRESSES) == [], "its autopilot has said nothing yet"


def test_waiting_ends_where_it_cannot_help() -> None:
    assert is_settled(replace(STANDBY, sealed=True), EXPECTED)
    assert not is_settled(replace(STANDBY, leader=None), EXPECTED)
    assert not is_settled(replace(STANDBY, answers=False), EXPECTED)
    assert not is_settled(replace(ACTIVE, autopilot=None), EXPECTED)


def test_waiting_is_bounded_and_returns_what_was_seen_last(tmp_path: Path) -> None:
    seen = wait_until_settled(tmp_path / "no.sock", EXPECTED, timeout=0.3)
    assert not seen.settled
    assert seen.waited >= 0.3
    sealed = {"health": {"initialized": True, "sealed": True}}
    assert wait_until_settled(tmp_path, EXPECTED, timeout=60, look=lambda _: sealed).settled


def test_a_nodes_state_is_read() -> None:
    server = {
        "health": {"initialized": True, "sealed": False, "cluster_id": "c"},
        "leader": {"is_self": True, "leader_address": "https://a:8200"},
        "autopilot": {"healthy": True, "failure_tolerance": 1, "nodes": dict.fromkeys(EXPECTED, True)},
    }
    assert Member.from_node_state("vault-iisas", {"server": server}) == ACTIVE


@pytest.mark.parametrize(
    "state", [None, {}, {"server": None}, {"server": {"health": None, "leader": None, "autopilot": None}}]
)
def test_a_node_that_says_nothing_is_sealed_and_silent(state: dict[str, object] | None) -> None:
    member = Member.from_node_state("vault-infn", state)
    assert (member.answers, member.sealed, member.active) == (False, True, False)
