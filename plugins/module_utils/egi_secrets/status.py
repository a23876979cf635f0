"""How the service stands and what needs doing, from what each node and each checker says; no token is needed.

`Status` is what scripts get (`-e output=json`), and docs/runbooks/show-status.md describes; status_screen lays it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Protocol

from .members import Member, cluster_problems, expelled, forgetful, standby_problems, voter_problems
from .operate.planned import freshest
from .ports import taken
from .raft import BEHIND
from .status_names import checkers_todo, holds, places
from .status_tls import days_left, idle_authorities, served_by, soonest, tls_todo
from .todo import INDEX, REPLACE, ROTATE, STAND_UP, UNSEAL, Todo

DISK_PERCENT = 10.0  # less room than this on a filesystem of the server needs doing
CLOCK_SECONDS = 1.0  # members' clocks that are surely further apart need doing
SPARING = 3  # members of the smallest cluster that can lose one
AUDIT_SECONDS = 120.0  # checkers write every few seconds: the leader's audit file may not be older

OPEN = ("active", "standby")
RUNBOOKS = {
    "unreachable": INDEX,
    "failed": INDEX,
    "stopped": INDEX,
    "no answer": INDEX,
    "not joined": UNSEAL,
    "sealed": UNSEAL,
}


class RootToken(Protocol):
    """What the unseal bundle knows of the first root token."""

    @property
    def operator(self) -> str:
        """Who can decrypt it."""

    @property
    def revoked_at(self) -> str | None:
        """When it was revoked, None while it is valid."""


@dataclass(frozen=True)
class NodeStatus:
    """How a node stands; None is what nobody knows.

    Attributes:
        node: its Raft node id.
        site: its site.
        state: active, standby, sealed, not joined, stopped, no answer, unreachable, failed or not asked.
        why: why it is unreachable, or what failed; otherwise empty.
        version: that its process runs.
        up: since when it does, s.
        voter: whether it votes in Raft.
        behind: entries that it has applied fewer than the leader.
        clock: how far its clock is ahead of the controller's, s; and by how much that may be wrong.
        tls_days: days that the certificate which clients see has left; None where no listener serves one.
        disk_free: percent of the fuller of the data's and the audit file's filesystems.
        audit_age: since when nothing was written to the audit file, s.
        restart_pending: why what it runs is not what it should run.
    """

    node: str
    site: str
    state: str
    why: str = ""
    version: str | None = None
    up: float | None = None
    voter: bool | None = None
    behind: int | None = None
    clock: tuple[float, float] | None = None
    tls_days: float | None = None
    disk_free: float | None = None
    audit_age: float | None = None
    restart_pending: tuple[str, ...] = ()


@dataclass(frozen=True)
class Elsewhere:
    """What is known beside what the nodes say of themselves.

    Attributes:
        clocks: node → how far its clock is ahead of the controller's, s, and by how much that may be wrong.
        clocks_unread: why none could be read; empty: those that are missing gave no answer.
        checkers: what each checker reports; None of one that reports nothing.
        snapshot: the newest snapshot on this controller: file and age in s; None without one.
        lock: who holds the lock of changing runs, a sentence; empty: nobody; None: nobody could ask.
        lock_unasked: why that could not be asked with the login that was given.
        names: generic names of the inventory, which checkers are to move.
    """

    clocks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    clocks_unread: str = ""
    checkers: Sequence[Mapping[str, Any] | None] = ()
    snapshot: tuple[str, float] | None = None
    lock: str | None = None
    lock_unasked: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Status:
    """How the service stands.

    Attributes:
        nodes: each member of the inventory.
        cluster: a sentence about the cluster as a whole.
        names: generic name → where each DNS server has it (a site, several, nothing, or why it does not say).
        holds: site → who holds it, until when (s since the epoch; 0: until released), what for.
        lock: who changes the service at this moment; empty: nobody; None: nobody at the keyboard could ask.
        snapshot: newest snapshot on this controller: its file, and its age in s.
        todo: what needs doing; empty when all is well.
        notes: what an operator should know and need not act on at once.
    """

    nodes: list[NodeStatus]
    cluster: str
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: str | None = None
    snapshot: tuple[str, float] | None = None
    todo: list[Todo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def status_of(
    hosts: Sequence[Mapping[str, Any]],
    root_token: RootToken | None,
    bundle_todo: Sequence[Todo] = (),
    elsewhere: Elsewhere | None = None,
) -> Status:
    """Put together what the nodes say.

    Args:
        hosts: of each node `node_id`, `site` and `state`, which is what the module vault_node_state returned, or None
            where it did not; then also `unseen`, the word for that (unreachable, failed, not asked), and `why`. Where only
            the module vault_cluster_member failed, `why` is what it said. `unaddressed` is why the addresses of members are
            not known, empty or missing where they are.
        root_token: the first root token as the unseal bundle has it, or None where no copy of a bundle was found.
        bundle_todo: what the nodes' copies of the bundle tell that needs doing.
        elsewhere: what is known beside that.

    Returns:
        The service's status.
    """
    beside = elsewhere or Elsewhere()
    expected = [str(host["node_id"]) for host in hosts]
    members = {str(host["node_id"]): Member.from_node_state(str(host["node_id"]), host["state"]) for host in hosts}
    newest = _leaders_index(hosts, members)
    nodes = [_node(host, members, expected, newest, beside.clocks) for host in hosts]
    report = freshest(beside.checkers)
    told = {**_outside_todo(hosts, members), **_disks_todo(hosts, list(members.values()))}
    todo = list(told.values())
    todo += [
        Todo(_state_sentence(node), RUNBOOKS[node.state])
        for node in nodes
        if node.state in RUNBOOKS and node.node not in told
    ]
    todo += [
        Todo(f"{host['node_id']} did not tell of its unseal bundle and of root tokens: {host['why']}.", INDEX)
        for host in hosts
        if host["state"] and host.get("why")
    ]
    todo += _addresses_todo(hosts)
    open_ones = [members[node.node] for node in nodes if node.state in OPEN]
    all_open = len(open_ones) == len(nodes)
    todo += [Todo(each, INDEX) for each in cluster_problems(open_ones, expected, all_open=all_open, apart=told)]
    todo += [Todo(each, INDEX) for each in standby_problems(open_ones, all_open=all_open)]
    if all_open and len(expected) < SPARING:
        few = "one member" if len(expected) == 1 else f"{len(expected)} members"
        todo.append(Todo(f"A cluster of {few} cannot lose any: add a site.", REPLACE))
    todo += [
        Todo(f"How far {node.node} is behind the leader is not known: its metrics do not tell. Run this again.", INDEX)
        for node in nodes
        if node.state == "standby" and node.behind is None and newest is not None
    ]
    todo += bundle_todo
    for host, node in zip(hosts, nodes, strict=True):
        if host["state"]:
            todo += _todo_of(node, host["state"], watched=bool(beside.names) or report is not None)
    todo += _clock_todo(beside.clocks)
    todo += checkers_todo(beside.checkers, beside.names, [str(host["site"]) for host in hosts if host["state"]])
    return Status(
        nodes=nodes,
        cluster=_cluster(list(members.values())),
        names=places(report),
        holds=holds(report),
        lock=beside.lock,
        snapshot=beside.snapshot,
        todo=todo,
        notes=[*_partly(nodes), *_without_clock(nodes, beside), *_notes(root_token, beside), *idle_authorities(hosts)],
    )


def _disks_todo(hosts: Sequence[Mapping[str, Any]], members: Sequence[Member]) -> dict[str, Todo]:
    """Say, by node, where disk and Raft contradict each other: unsealing does not help there."""
    remembers = {str(host["node_id"]): (host["state"] or {}).get("remembers") for host in hosts}
    bare, full = ([name for name, known in remembers.items() if known is wanted] for wanted in (False, True))
    run = "playbooks/operate/replace-site.yml -e remove={}"
    sentences = {
        name: f"{name} is a member of Raft, and its disk is empty: what it had acknowledged must not count any more. Run "
        f"{run.format(name)}, which takes it in afresh."
        for name in forgetful(members, bare)
    }
    serving = {member.name for member in members if member.answers and not member.sealed}
    sentences |= {
        name: f"{name} is no member of Raft, and its disk holds the log of one that was removed. "
        f"{'If it is not one in a minute, run' if name in serving else 'Run'} "
        f"{run.format(name)} -e wipe=true, which empties it and takes it in afresh."
        for name in expelled(members, full)
    }
    return {name: Todo(sentence, REPLACE) for name, sentence in sentences.items()}


def _outside_todo(hosts: Sequence[Mapping[str, Any]], members: Mapping[str, Member]) -> dict[str, Todo]:
    """Say, by node, where a host has no data of a member and is none: there is nothing to start or to unseal yet."""
    remembers = {str(host["node_id"]): (host["state"] or {}).get("remembers") for host in hosts}
    running = {str(host["node_id"]): bool((host["state"] or {}).get("running")) for host in hosts}
    led = any(member.active for member in members.values())
    found = {}
    for name, member in members.items():
        joining = running[name] and (not member.answers or member.initialized)
        if remembers[name] is not False or joining:
            continue
        if led:
            what = f"{name} has not joined the cluster. Run playbooks/operate/replace-site.yml, which takes it in."
            found[name] = Todo(what, REPLACE)
        elif not any(remembers.values()):
            what = f"{name} has no data of a cluster, nor has another node that was reached: run playbooks/site.yml."
            found[name] = Todo(what, STAND_UP)
        elif not running[name]:
            what = f"{name} has not joined the cluster. Once another node leads, run playbooks/operate/replace-site.yml."
            found[name] = Todo(what, REPLACE)
    return found


def _addresses_todo(hosts: Sequence[Mapping[str, Any]]) -> list[Todo]:
    """Say why firewalls could not be compared; it is the same on each host."""
    reasons = dict.fromkeys(str(host["unaddressed"]) for host in hosts if host["state"] and host.get("unaddressed"))
    return [
        Todo(f"Firewalls could not be compared with the members' addresses, and no playbook changes one: {why}.", STAND_UP)
        for why in reasons
    ]


def _cluster(members: Sequence[Member]) -> str:
    active = [member for member in members if member.active and member.autopilot]
    if not active or not active[0].autopilot:
        return "No node that was reached leads the cluster."
    autopilot = active[0].autopilot
    health = "healthy" if autopilot.healthy else "not healthy"
    return (
        f"{active[0].name} leads {len(autopilot.nodes)} servers; autopilot calls them {health}, "
        f"and the cluster survives the loss of {autopilot.failure_tolerance}."
    )


def _leaders_index(hosts: Sequence[Mapping[str, Any]], members: Mapping[str, Member]) -> int | None:
    found = [_applied(host["state"]) for host in hosts if members[str(host["node_id"])].active]
    return found[0] if len(found) == 1 else None


def _applied(state: Mapping[str, Any] | None) -> int | None:
    index = ((state or {}).get("server") or {}).get("applied_index")
    return int(index) if index is not None else None


def _node(
    host: Mapping[str, Any],
    members: Mapping[str, Member],
    expected: Sequence[str],
    newest: int | None,
    clocks: Mapping[str, tuple[float, float]],
) -> NodeStatus:
    name, site, state = str(host["node_id"]), str(host["site"]), host["state"]
    if not state:
        word, why = str(host.get("unseen") or "unreachable"), str(host.get("why") or "")
        return NodeStatus(name, site, word, why, voter=_votes(name, members, expected))
    process = state["process"]
    served = soonest(served_by(state))
    room = [fs["free_percent"] for fs in state["filesystems"].values() if fs]
    written = [audit["modified"] for audit in state["audit"].values() if audit]
    applied, word = _applied(state), _state_word(members[name], running=bool(state["running"]))
    return NodeStatus(
        node=name,
        site=site,
        state=word,
        version=state["versions"]["running"],
        up=state["time"] - process["started"] if process else None,
        voter=_votes(name, members, expected),
        # Nodes are asked one after the other: one that was asked later than the leader may seem to be ahead.
        behind=None if applied is None or newest is None or word not in OPEN else max(0, newest - applied),
        clock=clocks.get(name),
        tls_days=round(days_left(served, state["time"]), 1) if served else None,
        disk_free=min(room, default=None),
        audit_age=round(state["time"] - max(written), 1) if written else None,
        restart_pending=tuple(state["restart_pending"]),
    )


def _votes(name: str, members: Mapping[str, Member], expected: Sequence[str]) -> bool | None:
    """Tell whether a node votes: without a token it is known of none or of all, see members.voter_problems."""
    autopilot = next((member.autopilot for member in members.values() if member.active and member.autopilot), None)
    if autopilot is None:
        return None
    if name not in autopilot.nodes:
        return False
    whole = len(autopilot.nodes) == len(expected) and not voter_problems(autopilot, expected)
    return True if whole or autopilot.failure_tolerance == (len(autopilot.nodes) - 1) // 2 else None


def _state_word(member: Member, *, running: bool) -> str:
    if not running:
        return "stopped"
    if not member.answers:
        return "no answer"
    if not member.initialized:
        return "not joined"
    if member.sealed:
        return "sealed"
    return "active" if member.active else "standby"


def _state_sentence(node: NodeStatus) -> str:
    return {
        "unreachable": f"{node.node} was not reached by SSH{f' ({node.why})' if node.why else ''}: is its host up?",
        "failed": f"{node.node} could not be looked at: {node.why or 'no reason given'}. "
        "If that is about sudo, add --ask-become-pass.",
        "stopped": f"The server on {node.node} is stopped: start it (systemctl start on the host), then unseal it.",
        "no answer": f"{node.node} does not answer on its Unix socket: look at its journal there.",
        "not joined": f"{node.node} has not joined the cluster yet; it does once another node is unsealed.",
        "sealed": f"{node.node} is sealed: unseal it with playbooks/operate/unseal.yml.",
    }[node.state]


def _todo_of(node: NodeStatus, state: Mapping[str, Any], *, watched: bool) -> list[Todo]:
    name, todo = node.node, []
    if state["restart_pending"]:
        why = "; ".join(state["restart_pending"])
        todo.append(Todo(f"Restart pending on {name}: {why}.", "docs/runbooks/restart-pending.md"))
    if state["reload_pending"]:
        why = "; ".join(state["reload_pending"])
        todo.append(Todo(f"Reload pending on {name}: {why}. Run playbooks/operate/rotate-tls.yml.", ROTATE))
    todo += tls_todo(name, state) + _host_todo(name, state) + _ports_todo(node, state)
    todo += [
        Todo(f"The filesystem of {path} on {name} cannot be looked at: is {path} there, and its disk mounted?", INDEX)
        for path, room in state["filesystems"].items()
        if room is None
    ]
    todo += [
        Todo(
            f"Only {room['free_percent']} % is free where {path} lies on {name}. A full audit disk stops the server.", INDEX
        )
        for path, room in state["filesystems"].items()
        if room and room["free_percent"] < DISK_PERCENT
    ]
    if node.behind is not None and node.behind > BEHIND:
        todo.append(Todo(f"{name} is {node.behind} entries behind the leader. Has it caught up in a minute?", INDEX))
    return todo + _audit_todo(node, state, watched=watched)


def _host_todo(name: str, state: Mapping[str, Any]) -> list[Todo]:
    """Look at what keeps a running server's cluster port closed to strangers, and starts it at the next boot."""
    if not state["running"]:
        return []
    found = []
    if state["firewall_sound"] is False:  # None: it could not be compared
        found.append(
            f"The firewall of {name} does not let exactly the members to the cluster port. Run playbooks/site.yml, or the "
            "replace-site.yml that was cut off once more."
        )
    if not state["starts_at_boot"]:
        found.append(f"The server on {name} does not start at the next boot: run playbooks/site.yml.")
    return [Todo(each, STAND_UP) for each in found]


def _ports_todo(node: NodeStatus, state: Mapping[str, Any]) -> list[Todo]:
    """Look for ports that the server does not have: without its cluster port it is unsealed, and may lead, all the same."""
    lacking = {port: f"{who} has it" for port, who in taken(state["ports"], state["process"]).items()}
    if node.state in OPEN and not state["restart_pending"]:  # with which a new port may come
        lacking |= {port: "nobody listens there" for port, holder in state["ports"].items() if holder is None}
    return [
        Todo(
            f"The server on {node.node} lacks port {port}: {why}. Whoever is to reach it there cannot. Where the inventory "
            "has just got this port: playbooks/site.yml, then operate/upgrade-cluster.yml. Otherwise free the port, restart "
            "the server (systemctl restart on the host) and unseal it.",
            UNSEAL,
        )
        for port, why in lacking.items()
    ]


def _audit_todo(node: NodeStatus, state: Mapping[str, Any], *, watched: bool) -> list[Todo]:
    """Look at the leader's audit files: a standby forwards requests, and writes next to nothing."""
    if node.state != "active":
        return []
    found = []
    for path, audit in state["audit"].items():
        if audit is None:
            found.append(Todo(f"{node.node} leads, and its audit file {path} is not there.", INDEX))
        elif audit.get("open") is False:
            found.append(
                Todo(f"{node.node} writes its audit to another file than {path}, which was replaced: reload it.", INDEX)
            )
        elif watched and state["time"] - audit["modified"] > AUDIT_SECONDS:
            age = state["time"] - audit["modified"]
            found.append(Todo(f"{node.node} leads, and has written nothing to {path} for {age:.0f} s.", INDEX))
    return found


def _clock_todo(clocks: Mapping[str, tuple[float, float]]) -> list[Todo]:
    # Each pair: the two that look furthest apart may be those that least is known of.
    surely = {
        (behind, ahead): clocks[ahead][0] - clocks[ahead][1] - clocks[behind][0] - clocks[behind][1]
        for behind, ahead in permutations(clocks, 2)
    }
    behind, ahead = max(surely, key=surely.__getitem__, default=("", ""))
    if surely.get((behind, ahead), 0.0) <= CLOCK_SECONDS:
        return []
    apart = clocks[ahead][0] - clocks[behind][0]
    return [Todo(f"The clock of {ahead} is {apart:.1f} s ahead of that of {behind}: start time synchronisation.", INDEX)]


def _partly(nodes: Sequence[NodeStatus]) -> list[str]:
    unasked = [node.node for node in nodes if node.state == "not asked"]
    if not unasked:
        return []
    return [f"Only a part of the service was looked at (--limit): nobody asked {', '.join(unasked)}."]


def _without_clock(nodes: Sequence[NodeStatus], beside: Elsewhere) -> list[str]:
    unread = [node.node for node in nodes if node.state in OPEN and node.clock is None]
    if not unread:
        return []
    why = beside.clocks_unread or "its API does not answer this controller"
    return [f"The clock of {', '.join(unread)} could not be read, and may be wrong: {why.rstrip('.')}."]


def _notes(root_token: RootToken | None, beside: Elsewhere) -> list[str]:
    notes = []
    if root_token is None:
        notes.append("No node that answered has an unseal bundle. See docs/key-ceremony.md.")
    elif root_token.revoked_at is None:
        notes.append(
            f"The first root token is still valid; {root_token.operator} can decrypt it. playbooks/site.yml, run by that "
            "operator with an access token, hands over to the operators' logins and revokes it."
        )
    if beside.lock_unasked:
        notes.append(f"Who is changing the service could not be asked: {beside.lock_unasked}")
    if beside.snapshot is None:
        notes.append("There is no snapshot on this controller.")
    return notes
