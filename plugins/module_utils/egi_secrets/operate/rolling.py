"""The rolling restart: whether it may begin, in which order nodes take their turn, and what must be so before the next one.

Pure functions over what nodes and the leader's autopilot say; the role `rolling_restart` acts. Nothing here depends on which
change is rolled out: another version, configuration or unit, all are what a node runs against what it should run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..products import Product
from ..raft import BEHIND

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")

Numbers = tuple[int, int, int]


@dataclass(frozen=True)
class Node:
    """A member, as it is and as it should be.

    Attributes:
        name: inventory name.
        running: version that its process runs; None: no server runs.
        wanted: version that the inventory asks for.
        pending: why what it runs is not what it should run; none: it is.
        active: it leads.
        names: generic names that are at its site.
        rooms: path → share of the filesystem that is free, in percent.
    """

    name: str
    running: str | None
    wanted: str
    pending: tuple[str, ...] = ()
    active: bool = False
    names: tuple[str, ...] = ()
    rooms: Mapping[str, float] = field(default_factory=dict)


def numbers(version: str) -> Numbers | None:
    """Return major, minor and patch of a version; None where it is none, as of a binary from elsewhere."""
    match = _VERSION.fullmatch(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def version_problems(product: Product, nodes: Sequence[Node]) -> list[str]:
    """Say why nodes may not go from the versions that they run to those that the inventory wants, a sentence each.

    Args:
        product: what they run.
        nodes: all members.
    """
    problems = []
    if len({node.wanted for node in nodes}) > 1:
        told = ", ".join(f"{node.name}: {node.wanted}" for node in nodes)
        problems.append(f"vault_version differs between the members ({told}): set it once, for the group vault.")
    for node in nodes:
        if node.running is None or node.running == node.wanted:
            continue
        old, new = numbers(node.running), numbers(node.wanted)
        if old is None or new is None:
            odd = node.running if old is None else node.wanted
            problems.append(
                f"{node.name} runs {node.running} and vault_version is '{node.wanted}': {odd} is no version such as 2.7.2, "
                "so nobody can tell which is newer. Set vault_version to the release's number."
            )
        else:
            problems += _step_problems(product, node, old, new)
    return problems


def newest(nodes: Sequence[Node]) -> str:
    """Return the newest version that any node runs: the one that may have written the data; `unknown` where none tells."""
    running = [node.running for node in nodes if node.running]
    return max(running, key=lambda version: numbers(version) or (0, 0, 0), default="unknown")


def _step_problems(product: Product, node: Node, old: Numbers, new: Numbers) -> list[str]:
    if new < old:
        return [
            f"{node.name} runs {product.title} {node.running} and vault_version is '{node.wanted}', which is older: a "
            "server may not open data that a newer one has written, and upstream supports no way back but a snapshot from "
            f"before. Set vault_version to {node.running} or newer."
        ]
    if new[0] != old[0]:
        return [
            f"{node.name} runs {product.title} {node.running} and vault_version is '{node.wanted}': another major version "
            f"is no rolling upgrade. Upgrade within {old[0]}.x, and plan that change by upstream's guide."
        ]
    return []


def notes_to_read(nodes: Sequence[Node]) -> list[str]:
    """Return the minor versions whose upgrade notes are to be read first: on that condition upstream supports a jump.

    Args:
        nodes: all members.

    Returns:
        Such as 2.5, 2.6, 2.7; none where the minor version stays.
    """
    found: set[tuple[int, int]] = set()
    for node in nodes:
        old, new = numbers(node.running or ""), numbers(node.wanted)
        if old and new and old[0] == new[0]:
            found |= {(new[0], minor) for minor in range(old[1] + 1, new[1] + 1)}
    return [f"{major}.{minor}" for major, minor in sorted(found)]


def room_problems(nodes: Sequence[Node], least: float) -> list[str]:
    """Say which filesystems lack room, since a server that cannot write its log or audit file stalls.

    Args:
        nodes: all members.
        least: percent that must be free.
    """
    return [
        f"{node.name} has {free:g} % of the filesystem of {path} free, and rolling_restart_min_free is {least:g}: make room "
        "first."
        for node in nodes
        for path, free in node.rooms.items()
        if free < least
    ]


def order(nodes: Sequence[Node]) -> list[str]:
    """Return in which order nodes take their turn: those alone that run something else than they should.

    Standbys before the active node, and among standbys those at whose site no generic name is before the others: leadership
    and names then move as late as they can, to nodes that had their turn.

    Args:
        nodes: all members, in the inventory's order.
    """
    waiting = [node for node in nodes if node.pending]
    return [node.name for node in sorted(waiting, key=lambda node: (node.active, len(node.names)))]


def plan(nodes: Sequence[Node]) -> list[str]:
    """Say what is going to happen, a line each.

    Args:
        nodes: all members, in the inventory's order.
    """
    by_name = {node.name: node for node in nodes}
    turns = order(nodes)
    if not turns:
        return ["Every node runs what the inventory asks for: nothing is restarted."]
    lines = []
    for place, name in enumerate(turns, start=1):
        node = by_name[name]
        first = (["hands leadership over"] if node.active else []) + [f"{each} leaves it" for each in node.names]
        lines.append(f"{place}. {name}: {'; '.join(node.pending)}{' (first, ' + ', '.join(first) + ')' if first else ''}")
    notes = notes_to_read(nodes)
    if notes:
        lines.append(f"Upstream asks that the upgrade notes of {', '.join(notes)} have been read.")
    return lines


@dataclass(frozen=True)
class Peer:
    """A member of Raft, as the leader's autopilot has it.

    Attributes:
        healthy: autopilot's verdict.
        voter: it votes.
        index: last entry that it is known to have.
    """

    healthy: bool
    voter: bool
    index: int


@dataclass(frozen=True)
class Standing:
    """How the cluster stands.

    Attributes:
        tolerance: voters that may fail with the cluster still in quorum.
        peers: by Raft node id.
    """

    tolerance: int
    peers: Mapping[str, Peer]

    @classmethod
    def from_autopilot(cls, state: Mapping[str, object]) -> Standing:
        """Read the answer of sys/storage/raft/autopilot/state.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        servers = state["servers"]
        if not isinstance(servers, Mapping):
            raise TypeError("autopilot's servers are no object")
        return cls(
            int(str(state["failure_tolerance"])),
            {
                name: Peer(
                    healthy=bool(each["healthy"]),
                    voter=each["status"] in ("leader", "voter"),
                    index=int(each["last_index"]),
                )
                for name, each in servers.items()
            },
        )

    def with_indexes(self, applied: Mapping[str, int]) -> Standing:
        """Return it with what nodes themselves say that they have applied."""
        peers = {name: replace(peer, index=applied.get(name, peer.index)) for name, peer in self.peers.items()}
        return replace(self, peers=peers)


@dataclass(frozen=True)
class Seen:
    """What a node says of itself.

    Attributes:
        role: active, standby, sealed, uninitialised or unreachable.
        version: of its server; empty where it does not answer.
    """

    role: str
    version: str


def gate_problems(
    seen: Mapping[str, Seen], standing: Standing | None, versions: Mapping[str, str], *, tolerance: int = 1
) -> list[str]:
    """Say what keeps the next node from taking its turn, a sentence each.

    Args:
        seen: every member that the inventory names, by Raft node id.
        standing: None where no leader could be asked.
        versions: node → version that it must run by now; of those alone that had their turn.
        tolerance: members that the cluster must be able to lose: one that is restarted; none for what restarts nothing.
    """
    problems = [f"{name} is {each.role}." for name, each in seen.items() if each.role not in ("active", "standby")]
    problems += [
        f"{name} runs {seen[name].version}, and should run {wanted} by now."
        for name, wanted in versions.items()
        if seen[name].version not in ("", wanted)
    ]
    if standing is None:
        return [*problems, "No leader says how Raft stands."]
    newest = max((peer.index for peer in standing.peers.values()), default=0)
    for name in seen:
        peer = standing.peers.get(name)
        if peer is None:
            problems.append(f"{name} is no member of Raft.")
        elif not peer.healthy:
            problems.append(f"Autopilot calls {name} unhealthy.")
        elif not peer.voter:
            problems.append(f"{name} does not vote yet.")
        elif newest - peer.index > BEHIND:
            problems.append(f"{name} has entry {peer.index} of {newest}.")
    problems += [
        f"Raft has a member {name} that the inventory does not name." for name in standing.peers if name not in seen
    ]
    if not problems and standing.tolerance < tolerance:
        problems.append(
            f"The cluster survives the loss of {standing.tolerance} members: with {len(seen)} of them no restart is "
            "without an outage."
        )
    return problems
