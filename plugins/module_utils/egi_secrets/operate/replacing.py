"""Changing who is a member of Raft, one change at a time: the decision is in membership.py, the asking and doing here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..api import Api
from ..cluster import NodeState, applied, observe_nodes
from ..errors import MembershipError
from ..reconcile.server import Server
from . import leadership, session
from .gate import AUTOPILOT, Leader
from .membership import DEAD, Host, Kind, Peer, Step, Wish, decide, notes, peers_of, plan

_PAUSE = 0.3
_SETTLE = 15.0  # seconds for Raft to commit a removal
_STEADY = (
    10.0  # seconds for which a peer that is removed as dead has to seem so: a new leader hears of the others one by one
)
_CONFIGURATION = "sys/storage/raft/configuration"


@dataclass(frozen=True)
class Outlook:
    """What is to be done.

    Attributes:
        steps: all of them, to the end or to what is in the way.
        notes: what of the wish is not done, a sentence each.
        peers: Raft node ids of all members of Raft.
    """

    steps: Sequence[Step]
    notes: Sequence[str]
    peers: Sequence[str]


@dataclass(frozen=True)
class Question:
    """What every look needs.

    Attributes:
        params: a module's, with `session.LOGIN`.
        apis: of the members that the inventory names, and of those that leave it.
        found: `name` and `remembers` of each member that the inventory names; see `membership.Host`.
        wish: what the operator asks for.
    """

    params: Mapping[str, Any]
    apis: list[Api]
    found: Sequence[Mapping[str, Any]]
    wish: Wish


def look_ahead(question: Question, patience: float) -> Outlook:
    """Return what is to be done, once nothing is left that time may mend.

    Args:
        question: of whom.
        patience: seconds to wait at most.

    Raises:
        ReconcileError: nobody is at the keyboard, or the login was refused.
    """
    deadline = time.monotonic() + patience
    with Leader(question.params) as leader:
        while True:
            hosts, peers = _look(question, leader)
            steps = plan(hosts, peers, question.wish)
            if steps[-1].kind is not Kind.WAIT or time.monotonic() > deadline:
                if peers is None and leader.refusal is not None:
                    raise leader.refusal
                return Outlook(steps, notes(hosts, peers, question.wish), [peer.name for peer in peers or ()])
            time.sleep(_PAUSE)


def remove(question: Question, name: str) -> leadership.Handover | None:
    """Remove a peer from Raft, if it is still what comes next.

    Args:
        question: of whom.
        name: the peer, a Raft node id.

    Returns:
        How it handed leadership over before; None where it did not lead.

    Raises:
        MembershipError: something else comes first by now, or the peer is still there afterwards.
    """
    handover = None
    step = _next(question, patience=0)
    if (step.kind, step.name) == (Kind.STEP_DOWN, name):
        leader, _ = session.leader_of(question.apis)
        with session.as_operator(question.params, leader) as server:
            handover = leadership.hand_over(server, question.apis, name)
        step = _next(question, patience=_SETTLE)  # the new leader's autopilot has to hear of the others first
    if step == Step(Kind.REMOVE, name, DEAD):
        time.sleep(_STEADY)
        step = _next(question, patience=0)
    if (step.kind, step.name) != (Kind.REMOVE, name):
        why = step.why or f"By now, what comes first is to {step.kind} {step.name}."
        raise MembershipError(f"{name} is not removed: {why} Run this again.")
    leader, _ = session.leader_of(question.apis)
    with session.as_operator(question.params, leader) as server:
        server.request("POST", "sys/storage/raft/remove-peer", {"server_id": name})
        _await_gone(server, name)
    return handover


def _next(question: Question, patience: float) -> Step:
    deadline = time.monotonic() + patience
    with Leader(question.params) as leader:
        while True:
            step = decide(*_look(question, leader), question.wish)
            if step.kind is not Kind.WAIT or time.monotonic() > deadline:
                return step
            time.sleep(_PAUSE)


def _look(question: Question, leader: Leader) -> tuple[list[Host], list[Peer] | None]:
    states = observe_nodes(question.apis)
    peers = leader.ask(question.apis, states, _peers)
    if peers is not None:
        indexes = applied(question.apis, states)
        serving = {state.name for state in states if state.role in ("active", "standby")}
        peers = [replace(peer, index=indexes.get(peer.name, peer.index), answers=peer.name in serving) for peer in peers]
    return hosts_of(states, question.found), peers


def _peers(server: Server) -> list[Peer]:
    return peers_of(server.read(_CONFIGURATION) or {}, server.read(AUTOPILOT) or {})


def hosts_of(states: Sequence[NodeState], found: Sequence[Mapping[str, Any]]) -> list[Host]:
    """Return the members that the inventory names, from what their API and their disk say."""
    roles = {state.name: state.role for state in states}
    return [Host(each["name"], roles.get(each["name"], "unreachable"), each["remembers"]) for each in found]


def _await_gone(server: Server, name: str) -> None:
    deadline = time.monotonic() + _SETTLE
    while True:
        config = (server.read(_CONFIGURATION) or {}).get("config") or {}
        if name not in [each["node_id"] for each in config.get("servers") or []]:
            return
        if time.monotonic() > deadline:
            raise MembershipError(
                f"{server.node.name} accepted the removal of {name}, and has it still after {_SETTLE:g} s: look at its "
                "journal, and run this again."
            )
        time.sleep(_PAUSE)
