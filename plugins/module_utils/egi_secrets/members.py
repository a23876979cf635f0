"""Are the members of the Raft cluster those of the inventory, and are they all healthy voters?

Decided from what each node tells about itself through its own Unix socket, so that neither a person's login nor a root
token is needed to assert it: Raft's configuration cannot be read without a token, but the gauges that autopilot publishes
on the active node say the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Autopilot:
    """What the active node's autopilot says.

    Attributes:
        healthy: every server is healthy.
        failure_tolerance: voters that may fail with the cluster still in quorum.
        nodes: health of each server in Raft's configuration, voter or not, by its Raft node id.
    """

    healthy: bool
    failure_tolerance: int
    nodes: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """What one node says of itself.

    Attributes:
        name: its Raft node id, as the inventory gives it.
        answers: the server answered on its Unix socket.
        initialized: it holds a cluster's data, or has been told to join one.
        sealed: it cannot serve.
        active: it leads.
        cluster_id: None while it is sealed.
        leader: API address of the active node as this node sees it; None where it sees none.
        autopilot: None unless it is the active node.
    """

    name: str
    answers: bool
    initialized: bool
    sealed: bool
    active: bool
    cluster_id: str | None
    leader: str | None
    autopilot: Autopilot | None

    @classmethod
    def from_node_state(cls, name: str, state: Mapping[str, Any] | None) -> Member:
        """Read what the module vault_node_state returned of one node.

        Args:
            name: the node's Raft node id.
            state: the module's `state`; None where the host was not reached.

        Returns:
            The part of it that membership is decided by.
        """
        server = (state or {}).get("server") or {}
        health, leader, autopilot = (server.get(part) or {} for part in ("health", "leader", "autopilot"))
        return cls(
            name=name,
            answers=bool(health),
            initialized=bool(health.get("initialized")),
            sealed=bool(health.get("sealed", True)),
            active=bool(leader.get("is_self")),
            cluster_id=health.get("cluster_id") or None,
            leader=leader.get("leader_address") or None,
            autopilot=Autopilot(**autopilot) if autopilot else None,
        )


def voter_problems(autopilot: Autopilot, expected: Sequence[str], apart: Collection[str] = ()) -> list[str]:
    """Say what keeps the servers in Raft's configuration from being exactly the expected ones, all healthy voters.

    A cluster of n voters, all healthy, survives the loss of (n - 1) // 2 of them, and one with a non-voter among its n
    servers survives fewer wherever n is odd. For an even n the gauges cannot tell n voters from n - 1.

    Args:
        autopilot: what the active node says.
        expected: Raft node ids that the inventory names.
        apart: those of them of which it is told elsewhere that they are no members.

    Returns:
        Sentences, none of them when all is well.
    """
    problems = []
    strangers = sorted(set(autopilot.nodes) - set(expected))
    missing = sorted(set(expected) - set(autopilot.nodes))
    if strangers:
        problems.append(
            f"Raft has members that the inventory's group vault does not name: {', '.join(strangers)}. Add them to the "
            "inventory, or remove them (playbooks/operate/replace-site.yml)."
        )
    if joining := [name for name in missing if name not in apart]:
        problems.append(
            f"Raft does not have these members of the inventory's group vault: {', '.join(joining)}. They have not joined; "
            "their journal says why, and retry_join goes on trying."
        )
    ill = sorted(name for name, healthy in autopilot.nodes.items() if not healthy)
    if ill:
        problems.append(
            f"Autopilot calls these members unhealthy: {', '.join(ill)}. Look at their journal and clock; where it is all "
            "but the leader, see whether the leader has its cluster port (playbooks/operate/show-status.yml)."
        )
    tolerance = (len(expected) - 1) // 2
    if not problems and not missing and autopilot.failure_tolerance != tolerance:
        problems.append(
            f"The cluster survives the loss of {autopilot.failure_tolerance} of its members, and would of {tolerance} if "
            f"all {len(expected)} were voters. Autopilot makes a new member a voter after ten stable seconds."
        )
    return problems


def member_problems(members: Sequence[Member], expected: Sequence[str]) -> list[str]:
    """Say what keeps the nodes from being one cluster of exactly the expected members.

    Args:
        members: what each node that could be asked says of itself.
        expected: Raft node ids that the inventory names.

    Returns:
        Sentences, none of them when all is well.
    """
    problems = []
    unheard = sorted(set(expected) - {member.name for member in members})
    if unheard:
        problems.append(f"Nothing is known of {', '.join(unheard)}: the host was not reached.")
    for member in members:
        if not member.answers:
            problems.append(f"The server on {member.name} does not answer on its Unix socket. Look at its journal there.")
        elif not member.initialized:
            problems.append(f"{member.name} has not joined the cluster yet. It does once another node is unsealed.")
        elif member.sealed:
            problems.append(f"{member.name} is sealed. Unseal it with playbooks/operate/unseal.yml.")
    return problems + cluster_problems(members, expected, all_open=not problems)


def cluster_problems(
    members: Sequence[Member], expected: Sequence[str], *, all_open: bool, apart: Collection[str] = ()
) -> list[str]:
    """Say what keeps nodes that answer from being one cluster of exactly the expected members.

    Args:
        members: what each node that could be asked says of itself.
        expected: Raft node ids that the inventory names.
        all_open: whether every expected member answers and is unsealed; otherwise that none leads is no wonder.
        apart: expected ones of which it is told elsewhere that they are no members.

    Returns:
        Sentences, none of them when all is well.
    """
    problems = []
    clusters = {member.cluster_id for member in members if member.cluster_id}
    if len(clusters) > 1:
        told = ", ".join(f"{m.name} is in {m.cluster_id}" for m in members if m.cluster_id)
        problems.append(f"The nodes are in {len(clusters)} different clusters: {told}.")
    active = [member for member in members if member.active]
    if len(active) > 1:
        problems.append(f"Several nodes call themselves active: {', '.join(m.name for m in active)}. Ask again in a moment.")
    elif active:
        autopilot = active[0].autopilot
        if autopilot is None:
            problems.append(f"{active[0].name} is active and its autopilot has said nothing yet.")
        else:
            problems += voter_problems(autopilot, expected, apart)
    elif all_open and not problems:
        problems.append("No node is active, though all are unsealed: an election is going on, or there is no quorum.")
    return problems


def standby_problems(members: Sequence[Member], *, all_open: bool) -> list[str]:
    """Say which open standbys do not follow the node that leads.

    Args:
        members: open nodes.
        all_open: whether every expected member is; that none leads is told by `cluster_problems` then.

    Returns:
        Sentences, none of them when all is well. An election makes them true for a second.
    """
    active = [member for member in members if member.active]
    standbys = [member for member in members if not member.active]
    again = "Run this again in a few seconds; where it lasts, look at their journal and at the cluster port."
    problems = []
    lost = [member.name for member in standbys if member.leader is None]
    if lost and (active or not all_open):
        problems.append(
            f"No leader is seen by {', '.join(lost)}: no quorum, an election, or cut off from the others. {again}"
        )
    if len(active) == 1 and (leader := active[0].leader):
        astray = [f"{each.name} ({each.leader})" for each in standbys if each.leader not in (None, leader)]
        if astray:
            problems.append(f"{active[0].name} leads, and another is named by {', '.join(astray)}. {again}")
    return problems


def forgetful(members: Sequence[Member], bare: Sequence[str]) -> list[str]:
    """Return who is in Raft's configuration and has an empty disk.

    Args:
        members: what each node that could be asked says of itself.
        bare: names of those whose disk holds no log of Raft.

    Returns:
        Raft node ids; none where no node leads, since then nobody says who is a member.
    """
    known = {name for member in members if member.active and member.autopilot for name in member.autopilot.nodes}
    return [name for name in bare if name in known]


def expelled(members: Sequence[Member], remembering: Sequence[str]) -> list[str]:
    """Return who holds the data of a member and is none, as far as the leader's autopilot knows.

    One that was removed cannot join with it. One that has just joined is in the gauges within a minute.

    Args:
        members: what each node that could be asked says of itself.
        remembering: names of those whose disk holds a log of Raft.

    Returns:
        Raft node ids; none where no node leads.
    """
    known = [member.autopilot.nodes for member in members if member.active and member.autopilot and member.autopilot.nodes]
    return [name for name in remembering if known and not any(name in nodes for nodes in known)]


def forgotten(members: Sequence[Member], expected: Mapping[str, str]) -> list[str]:
    """Return members of Raft that live and that the inventory does not name.

    Args:
        members: what each node that the inventory names says of itself.
        expected: their Raft node ids, each with its API address.

    Returns:
        Raft node ids; the API address of one that leads, of which its followers know no more. One that was removed is in
        the leader's gauges for another minute (the server's `prometheus_retention_time`).
    """
    nodes = {name for member in members if member.active and member.autopilot
             for name, healthy in member.autopilot.nodes.items() if healthy}  # fmt: skip
    if nodes or not all(member.answers for member in members):
        return sorted(nodes - set(expected))
    leaders = {member.leader for member in members if member.leader and not any(each.active for each in members)}
    return sorted(leaders - set(expected.values()))


def is_settled(member: Member, expected: Sequence[str]) -> bool:
    """Tell whether there is nothing to wait for on this node.

    Args:
        member: what the node says of itself.
        expected: Raft node ids that the inventory names.

    Returns:
        True for a standby that knows its leader, for an active node whose members are all voters, and for a node that
        waiting cannot help, because it is sealed and needs shares.
    """
    if not member.answers:
        return False
    if member.sealed:
        return True
    if not member.active:
        return member.leader is not None
    return member.autopilot is not None and not voter_problems(member.autopilot, expected)
