"""Gate and change of members ask the nodes how far they are: autopilot hears of it late, and would hold them up."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.egi_secrets.api import SealStatus
from ansible.module_utils.egi_secrets.cluster import NodeState
from ansible.module_utils.egi_secrets.operate import gate, membership, replacing, rolling

OPEN = SealStatus(True, False, 2, 3, 0, "", "", "2.7.2")
STATES = [NodeState("a", "active", OPEN), NodeState("b", "standby", OPEN), NodeState("c", "standby", OPEN)]
LATE = {"a": 50_000, "b": 49_000, "c": 49_500}  # what autopilot has
EVEN = {"a": 50_100, "b": 50_101, "c": 50_102}  # what nodes say


@pytest.mark.parametrize(("told", "passed"), [(EVEN, True), ({}, False), ({"a": 50_100, "b": 50_101}, False)])
def test_the_gate_believes_the_nodes(monkeypatch: pytest.MonkeyPatch, told: dict[str, int], passed: bool) -> None:
    standing = rolling.Standing(1, {name: rolling.Peer(healthy=True, voter=True, index=at) for name, at in LATE.items()})
    monkeypatch.setattr(gate, "observe_nodes", lambda _: STATES)
    monkeypatch.setattr(gate, "applied", lambda *_: told)
    monkeypatch.setattr(gate.Leader, "ask", lambda *_: standing)
    assert (gate.await_well({}, [], {}, 0.0).problems == []) is passed


def test_so_does_the_change_of_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing, "observe_nodes", lambda _: STATES)
    monkeypatch.setattr(replacing, "applied", lambda *_: EVEN)
    leader: Any = gate.Leader({})
    monkeypatch.setattr(leader, "ask", lambda *_: [membership.Peer(name, index=at) for name, at in LATE.items()])
    _, peers = replacing._look(replacing.Question({}, [], [], membership.Wish()), leader)
    assert {peer.name: peer.index for peer in peers or ()} == EVEN
