"""Who is to be a member of Raft: which one change comes next, or why none may.

A pure function of what the leader says of Raft, what the hosts of the inventory are found to be, and whose removal an
operator has consented to by name. Each change leaves a majority of the voters alive, and the next waits until all is well:

1. peers that are dead and given up are removed, which costs no quorum;
2. hosts that Raft does not have are added, each as a non-voter that autopilot makes a voter once it has caught up;
3. peers that live are removed, when what remains is enough.

A host that was installed anew under its old name is no member: its log is gone, and with it what it had acknowledged. Raft
would take it for the voter that it was (OpenBao 2.7: it votes at once, with an empty log), and could elect a leader that
lacks what a majority had acknowledged. So its old peer is removed first, and it joins as anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..raft import BEHIND

# A cluster that is to survive the loss of one.
ENOUGH = 3
DEAD = "it is dead"  # why a peer is removed before others join


class Kind(StrEnum):
    """What comes next. `wait` is for something that passes by itself, or else must be mended."""

    EMPTY = "empty"
    STEP_DOWN = "step down"
    REMOVE = "remove"
    ADD = "add"
    WAIT = "wait"
    REFUSE = "refuse"
    DONE = "done"


CHANGES = (Kind.EMPTY, Kind.REMOVE, Kind.ADD)


@dataclass(frozen=True)
class Step:
    """One thing to do, or why there is nothing to do.

    Attributes:
        kind: what.
        name: whom it is about, a Raft node id; empty where it is about nobody.
        why: a sentence.
    """

    kind: Kind
    name: str = ""
    why: str = ""


@dataclass(frozen=True)
class Peer:
    """A server in Raft's configuration.

    Attributes:
        name: its Raft node id.
        voter: it votes.
        healthy: autopilot's verdict.
        leader: it leads.
        index: last entry that it is known to have.
        answers: its own API says that it serves, whatever the leader hears of it.
    """

    name: str
    voter: bool = True
    healthy: bool = True
    leader: bool = False
    index: int = 0
    answers: bool = False


@dataclass(frozen=True)
class Host:
    """A member that the inventory names.

    Attributes:
        name: its Raft node id.
        role: what its API says: active, standby, sealed, uninitialised or unreachable.
        remembers: its disk holds a log of Raft; None: the host cannot be reached, and nobody knows.
    """

    name: str
    role: str = "standby"
    remembers: bool | None = True

    @property
    def serves(self) -> bool:
        """Whether it is a member that works."""
        return self.role in ("active", "standby")

    @property
    def bare(self) -> bool:
        """Whether nothing would be lost with it: it was never a member, or was installed anew."""
        return self.remembers is False and not self.serves

    @property
    def lost(self) -> bool:
        """Whether nothing is heard of it in any way."""
        return self.remembers is None and self.role == "unreachable"


@dataclass(frozen=True)
class Wish:
    """What an operator asks for.

    Attributes:
        remove: Raft node ids whose removal they consent to.
        empty: whether the disks of these may be emptied, of hosts that are no members (any more).
        known: names and Raft node ids of the inventory's members, and of hosts that it has for those that leave.
    """

    remove: tuple[str, ...] = ()
    empty: bool = False
    known: frozenset[str] = frozenset()


def peers_of(configuration: Mapping[str, object], autopilot: Mapping[str, object]) -> list[Peer]:
    """Read the answers of sys/storage/raft/configuration and sys/storage/raft/autopilot/state.

    Args:
        configuration: who is a member, and who votes.
        autopilot: how they are; one that it does not know yet is not healthy.

    Raises:
        KeyError, TypeError, ValueError: they are none.
    """
    config, states = configuration["config"], autopilot["servers"]
    if not isinstance(config, Mapping) or not isinstance(states, Mapping):
        raise TypeError("Raft's configuration or autopilot's servers are no object")
    return [
        Peer(
            name=str(each["node_id"]),
            voter=bool(each["voter"]),
            healthy=bool(states.get(each["node_id"], {}).get("healthy")),
            leader=bool(each["leader"]),
            index=int(states.get(each["node_id"], {}).get("last_index") or 0),
        )
        for each in config["servers"]
    ]


def decide(hosts: Sequence[Host], peers: Sequence[Peer] | None, wish: Wish) -> Step:
    """Return the one step that comes next.

    Args:
        hosts: all members that the inventory names, in its order.
        peers: all servers of Raft; None where no leader could be asked.
        wish: what the operator asks for.
    """
    if peers is None:
        return Step(Kind.WAIT, why=_nobody_to_ask(hosts))
    view = _View(hosts, peers, wish)
    for look in (view.unaccounted, view.unreached, view.given_up, view.unwell, view.joining, view.leaving):
        step = look()
        if step is not None:
            return step
    return Step(Kind.DONE)


def _nobody_to_ask(hosts: Sequence[Host]) -> str:
    """Say why no leader could be asked: one may lead that the inventory lacks, and nobody asks it."""
    leading = [host.name for host in hosts if host.role == "active"]
    if len(leading) == 1:
        return f"{leading[0]} leads, and does not tell who the members are: see its journal, and run this again."
    if leading:
        return f"{' and '.join(leading)} both lead, as they say: one of them has not heard of the other yet. Run this again."
    serving = sum(host.serves for host in hosts)
    seen = f"None of the inventory's members leads, and {serving} of {len(hosts)} are seen unsealed"
    if serving <= len(hosts) // 2:
        return f"{seen}: unseal a majority first (playbooks/operate/unseal.yml)."
    return (
        f"{seen}: an election is under way, or a member leads that the inventory's group vault does not name. Run this "
        "again; where it stays so, put that member back there (`sys/leader` of the others tells the active node's address)."
    )


def notes(hosts: Sequence[Host], peers: Sequence[Peer] | None, wish: Wish) -> list[str]:
    """Say what of a wish is not done, and is no reason to stop."""
    if peers is None:
        return []
    view = _View(hosts, peers, wish)
    kept = [
        f"{name} is not removed: the inventory's group vault names it, and its disk holds its data. To have it leave, take "
        "it out of that group."
        for name in wish.remove
        if name in view.peers and name in view.hosts and name not in view.doomed
    ]
    later = [
        f"{host.name} cannot be reached by SSH (UNREACHABLE above says why: a machine that was installed anew has another "
        "host key), and is added by a later run: install it, and run this again."
        for host in hosts
        if host.name in wish.remove and host.remembers is None and not host.serves
    ]
    # The same wish again, after a run that was cut off or that waited for other operators' shares, is well.
    gone = [
        f"{name} is no member of Raft ({', '.join(view.peers)}) and no host of the inventory: an earlier run removed it, or "
        "its name is another."
        for name in wish.remove
        if name not in view.peers and name not in wish.known
    ]
    strangers = [
        f"No host of the inventory's groups vault and spare stands for {name}, so nothing is stopped there: switch it off "
        "where it still runs."
        for name in view.doomed
        if name not in wish.known
    ]
    return kept + later + gone + strangers


def plan(hosts: Sequence[Host], peers: Sequence[Peer] | None, wish: Wish) -> list[Step]:
    """Return all steps to the end, if each succeeds.

    Args:
        hosts: all members that the inventory names, in its order.
        peers: all servers of Raft; None where no leader could be asked.
        wish: what the operator asks for.

    Returns:
        The last is `done`, or why it does not come to that.
    """
    found: list[Step] = []
    now, then = list(hosts), None if peers is None else list(peers)
    while not found or found[-1].kind not in (Kind.DONE, Kind.REFUSE, Kind.WAIT):
        step = decide(now, then, wish)
        found.append(step)
        if then is not None:
            now, then = _after(step, now, then)
    return found


def told(steps: Sequence[Step]) -> list[str]:
    """Say a plan, a line each."""
    words = {
        Kind.EMPTY: "stop {name}, which is no member, and empty its disk",
        Kind.STEP_DOWN: "have another node lead than {name}",
        Kind.REMOVE: "remove {name} from Raft: {why}",
        Kind.ADD: "install {name}, have it join, and wait until it is a voter that has caught up",
    }
    doing = [step for step in steps if step.kind in words]
    if steps[-1].kind is Kind.DONE and not doing:
        return ["Raft's members are those of the inventory: nothing is to be done."]
    return [f"{place}. {words[step.kind].format(name=step.name, why=step.why)}" for place, step in enumerate(doing, start=1)]


def _after(step: Step, hosts: list[Host], peers: list[Peer]) -> tuple[list[Host], list[Peer]]:
    """Return what is so once a step has succeeded."""
    if step.kind is Kind.REMOVE:
        return hosts, [peer for peer in peers if peer.name != step.name]
    if step.kind is Kind.EMPTY:
        return [Host(step.name, "unreachable", remembers=False) if host.name == step.name else host for host in hosts], peers
    if step.kind is Kind.STEP_DOWN:
        heir = next(peer.name for peer in peers if peer.voter and peer.healthy and peer.name != step.name)
        return hosts, [replace(peer, leader=peer.name == heir) for peer in peers]
    if step.kind is Kind.ADD:
        newest = max((peer.index for peer in peers), default=0)
        others = [peer for peer in peers if peer.name != step.name]
        joined = [Host(step.name) if host.name == step.name else host for host in hosts]
        return joined, [*others, Peer(step.name, index=newest)]
    return hosts, peers


class _View:
    """What is to be decided from, by name."""

    def __init__(self, hosts: Sequence[Host], peers: Sequence[Peer], wish: Wish) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.peers = {peer.name: peer for peer in peers}
        self.wish = wish
        # A host that has its data, and that the inventory names, is never removed, whatever somebody wishes.
        self.doomed = [
            name
            for name in wish.remove
            if name in self.peers and (name not in self.hosts or self.hosts[name].bare or self.hosts[name].lost)
        ]

    def unaccounted(self) -> Step | None:
        """A member whom nobody accounts for, or who would be shut out."""
        undeclared = [name for name in self.peers if name not in self.hosts and name not in self.wish.remove]
        if undeclared:
            return Step(
                Kind.REFUSE,
                undeclared[0],
                f"Raft has a member {undeclared[0]} that the inventory's group vault does not name: put it back there, or "
                f"consent to its removal with -e remove={','.join([*self.wish.remove, *undeclared])}.",
            )
        forgotten = [name for name in self.doomed if self.peers[name].healthy and name not in self.wish.known]
        added = [name for name in self.hosts if name not in self.peers]
        if forgotten and added:
            return Step(
                Kind.REFUSE,
                forgotten[0],
                f"{forgotten[0]} is a member that lives, and the inventory has it no more: the members' firewalls would "
                f"shut it out before {added[0]} votes in its place. Put it into the inventory's group spare until it has "
                "left.",
            )
        return None

    def unreached(self) -> Step | None:
        """Every member that stays must be reached: its firewall lets members in."""
        for host in self.hosts.values():
            if host.remembers is None and (host.serves or host.name not in self.wish.remove):
                return Step(
                    Kind.WAIT,
                    host.name,
                    f"{host.name} cannot be reached by SSH: bring it back. Where it is lost for good, consent to the "
                    f"removal of its peer with -e remove={host.name}.",
                )
        return None

    def given_up(self) -> Step | None:
        """Dead peers go first: without them the same voters make a quorum more easily."""
        for name in self.doomed:
            peer, host = self.peers[name], self.hosts.get(name)
            if peer.healthy and host is not None and host.lost:
                return Step(
                    Kind.WAIT,
                    name,
                    f"{name} cannot be reached from here, and the other members hear it: it lives. Switch it off, or "
                    "mend the way to it.",
                )
            if peer.healthy and peer.voter:
                continue
            if peer.answers and peer.voter:
                return Step(
                    Kind.WAIT,
                    name,
                    f"Autopilot calls {name} unhealthy, and it answers as a member that works: it lives, and leaves "
                    "after the others are well. Mend the way between it and the leader, or stop its server if that is lost.",
                )
            short = self._short_of(name)
            if short:  # a node that has just taken over has to hear of the others first
                return Step(Kind.WAIT, name, short)
            return Step(Kind.REMOVE, name, DEAD if not peer.healthy else "it has no vote")
        return None

    def unwell(self) -> Step | None:
        """Nothing further is changed while a member that stays is not well, or still on its way."""
        for name, host in self.hosts.items():
            peer = self.peers.get(name)
            if peer is None or name in self.doomed:
                continue
            if host.bare and not peer.voter:
                return Step(Kind.ADD, name)  # it had begun to join
            if host.bare:
                return Step(
                    Kind.REFUSE,
                    name,
                    f"{name} was installed anew, and Raft still counts on what its disk held: consent to the removal of its "
                    f"old peer with -e remove={name}.",
                )
        newest = max((peer.index for peer in self.peers.values()), default=0)
        for name, peer in self.peers.items():
            if name in self.doomed:
                continue
            ill = self._illness(peer, newest)
            if ill:
                return Step(Kind.WAIT, name, ill)
        return None

    def joining(self) -> Step | None:
        """Hosts that Raft does not have, one after the other."""
        for name, host in self.hosts.items():
            if name in self.peers or (host.remembers is None and name in self.wish.remove):
                continue
            if not host.remembers:
                return Step(Kind.ADD, name)
            if self.wish.empty and name in self.wish.remove:
                return Step(Kind.EMPTY, name)
            return Step(
                Kind.REFUSE,
                name,
                f"{name} is no member of Raft, and its disk holds the log of one: of this cluster before it was removed, or "
                f"of another. With nothing on it that anybody needs, run this with -e remove={name} -e wipe=true.",
            )
        return None

    def leaving(self) -> Step | None:
        """Peers that live, once all that were to join have."""
        for name in self.doomed:
            peer = self.peers[name]
            host = self.hosts.get(name)
            remaining = sum(each.voter for each in self.peers.values() if each.name != name)
            short = self._short_of(name)
            if not short and host is None and remaining < ENOUGH:
                short = (
                    f"Without {name} Raft would have {remaining} voters, and the cluster could not lose one: add a member "
                    "first, or leave it."
                )
            if short:
                return Step(Kind.REFUSE, name, short)
            if peer.leader:
                return Step(Kind.STEP_DOWN, name)
            why = "the inventory does not name it" if host is None else "its host was installed anew, or is another"
            return Step(Kind.REMOVE, name, why)
        return None

    def _short_of(self, name: str) -> str:
        """Say why the voters that remain without a peer would make no quorum; empty where they would."""
        voters = [peer for peer in self.peers.values() if peer.voter and peer.name != name]
        alive = sum(peer.healthy for peer in voters)
        if alive >= len(voters) // 2 + 1:
            return ""
        return f"Without {name} {alive} of {len(voters)} voters would be alive, which is no quorum: bring others back first."

    def _illness(self, peer: Peer, newest: int) -> str:
        host = self.hosts.get(peer.name)
        also = f" Where it is lost for good: -e remove={peer.name}." if host and host.lost else ""
        if not peer.healthy:
            state = (
                f"it is {host.role}"
                if host is not None and not host.serves
                else "see its journal, disk and clock; where its address changed, playbooks/site.yml lets it in"
            )
            return f"Autopilot calls {peer.name} unhealthy ({state}): nothing else is changed until it is well.{also}"
        if not peer.voter:
            return f"{peer.name} does not vote yet."
        if newest - peer.index > BEHIND:
            return f"{peer.name} has entry {peer.index} of {newest}."
        return ""
