"""The decisions of the rolling restart."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.egi_secrets.operate.rolling import (
    Node,
    Peer,
    Seen,
    Standing,
    gate_problems,
    newest,
    notes_to_read,
    order,
    plan,
    room_problems,
    version_problems,
)
from ansible.module_utils.egi_secrets.products import OPENBAO
from ansible.module_utils.egi_secrets.raft import BEHIND
from hypothesis import given
from hypothesis import strategies as st

A = Node("a", "2.7.1", "2.7.2", ("it runs 2.7.1",))
SEEN = {"a": Seen("active", "2.7.2"), "b": Seen("standby", "2.7.2"), "c": Seen("standby", "2.7.1")}
WELL = Standing(1, {name: Peer(healthy=True, voter=True, index=5000) for name in SEEN})


def versions(running: str | None, wanted: str) -> list[str]:
    return version_problems(OPENBAO, [replace(A, running=running, wanted=wanted)])


@pytest.mark.parametrize(
    ("running", "wanted"), [("2.7.1", "2.7.2"), ("2.5.0", "2.7.2"), ("2.7.2", "2.7.2"), (None, "2.7.2"), ("2.9.9", "2.10.0")]
)
def test_newer_within_the_major_version_is_an_upgrade(running: str | None, wanted: str) -> None:
    assert versions(running, wanted) == []


@pytest.mark.parametrize(
    ("running", "wanted", "words"),
    [
        ("2.7.2", "2.7.1", "which is older"),
        ("2.10.0", "2.9.9", "which is older"),
        ("1.9.0", "2.0.0", "another major version"),
        ("2.7.2", "latest", "latest is no version"),
        ("/opt/mine/bao", "2.7.2", "/opt/mine/bao is no version"),
    ],
)
def test_what_upstream_does_not_support_is_refused(running: str, wanted: str, words: str) -> None:
    (problem,) = versions(running, wanted)

    assert words in problem
    assert "vault_version" in problem


def test_the_newest_version_is_by_numbers_and_may_have_written_the_data() -> None:
    assert newest([replace(A, running=each) for each in ("2.9.9", None, "2.10.0", "2.7.2")]) == "2.10.0"
    assert newest([replace(A, running=None)]) == "unknown"


def test_one_version_for_all() -> None:
    assert "vault_version differs" in version_problems(OPENBAO, [A, replace(A, name="b", wanted="2.7.3")])[0]


def test_the_notes_of_every_minor_version_on_the_way_are_named() -> None:
    assert notes_to_read([replace(A, running="2.5.3"), A]) == ["2.6", "2.7"]
    assert notes_to_read([A]) == []


def test_a_filesystem_without_room_is_named() -> None:
    (problem,) = room_problems([replace(A, rooms={"/var/log/openbao": 3.2, "/var/lib/openbao": 50.0})], 5)

    assert "3.2 % of the filesystem of /var/log/openbao" in problem


def test_standbys_then_holders_of_a_name_then_the_active_node() -> None:
    leader = replace(A, name="leader", active=True)
    holder = replace(A, name="holder", names=("secrets:443",))
    done = replace(A, name="done", pending=())

    assert order([leader, holder, done, A]) == ["a", "holder", "leader"]
    assert plan([leader, holder, done, A]) == [
        "1. a: it runs 2.7.1",
        "2. holder: it runs 2.7.1 (first, secrets:443 leaves it)",
        "3. leader: it runs 2.7.1 (first, hands leadership over)",
    ]
    assert "nothing is restarted" in plan([done])[0]


@given(
    st.lists(
        st.builds(Node, st.text(), st.none(), st.just("2.7.2"), st.sampled_from([(), ("x",)]), st.booleans()), max_size=5
    )
)
def test_every_node_that_waits_has_one_turn_and_the_active_one_the_last(nodes: list[Node]) -> None:
    nodes = [replace(node, name=str(number)) for number, node in enumerate(nodes)]

    turns = order(nodes)

    assert sorted(turns) == [node.name for node in nodes if node.pending]
    active = {node.name for node in nodes if node.active}
    assert [name in active for name in turns] == sorted(name in active for name in turns)


def test_the_gate_is_open_when_all_is_well() -> None:
    assert gate_problems(SEEN, WELL, {"a": "2.7.2", "b": "2.7.2"}) == []


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (Peer(healthy=False, voter=True, index=5000), "Autopilot calls c unhealthy"),
        (Peer(healthy=True, voter=False, index=5000), "c does not vote yet"),
        (Peer(healthy=True, voter=True, index=5000 - BEHIND - 1), "c has entry 4799 of 5000"),
        (None, "c is no member of Raft"),
    ],
)
def test_a_member_that_is_not_well_shuts_the_gate(peer: Peer | None, words: str) -> None:
    peers = {name: each for name, each in {**WELL.peers, "c": peer}.items() if each}

    assert words in " ".join(gate_problems(SEEN, Standing(1, peers), {}))


def test_so_does_all_else() -> None:
    assert gate_problems({**SEEN, "c": Seen("sealed", "2.7.2")}, WELL, {}) == ["c is sealed."]
    assert gate_problems(SEEN, None, {}) == ["No leader says how Raft stands."]
    assert gate_problems(SEEN, replace(WELL, tolerance=0), {})[0].startswith("The cluster survives the loss of 0 members")
    assert gate_problems(SEEN, replace(WELL, tolerance=0), {}, tolerance=0) == [], "nothing is restarted"
    assert gate_problems(SEEN, WELL, {"c": "2.7.2"}) == ["c runs 2.7.1, and should run 2.7.2 by now."]
    late = Standing(1, {**WELL.peers, "c": Peer(healthy=True, voter=True, index=1)})
    assert gate_problems(SEEN, late.with_indexes({"a": 5000, "c": 4990}), {}) == [], "what it says itself is newer"
    stranger = Standing(1, {**WELL.peers, "d": Peer(healthy=True, voter=True, index=5000)})
    assert gate_problems(SEEN, stranger, {}) == ["Raft has a member d that the inventory does not name."]


def test_autopilots_answer_is_read() -> None:
    state = {
        "failure_tolerance": 1,
        "servers": {
            "a": {"healthy": True, "status": "leader", "last_index": 7},
            "b": {"healthy": False, "status": "non-voter", "last_index": 3},
        },
    }

    assert Standing.from_autopilot(state) == Standing(1, {"a": Peer(True, True, 7), "b": Peer(False, False, 3)})
    for odd in ({}, {"failure_tolerance": 1, "servers": []}):
        with pytest.raises((KeyError, TypeError)):
            Standing.from_autopilot(odd)
