"""Which change of Raft's members comes next: told as stories, and held against a model of Raft that knows nothing of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.errors import MembershipError
from ansible.module_utils.egi_secrets.operate import replacing
from ansible.module_utils.egi_secrets.operate.membership import (
    DEAD,
    Host,
    Kind,
    Peer,
    Step,
    Wish,
    decide,
    notes,
    peers_of,
    plan,
    told,
)
from hypothesis import given, settings
from hypothesis import strategies as st

THREE = ("iisas", "infn", "ifca")
FIVE = (*THREE, "cesnet", "lip")
LOST: dict[str, Any] = {"role": "unreachable", "remembers": None}
BARE: dict[str, Any] = {"role": "unreachable", "remembers": False}


def hosts(*names: str, **others: dict[str, Any]) -> list[Host]:
    return [Host(name, **others.get(name, {})) for name in names]


def peers(*names: str, dead: tuple[str, ...] = (), leader: str = "iisas", joining: tuple[str, ...] = ()) -> list[Peer]:
    return [Peer(name, name not in joining, name not in dead, name == leader, 100) for name in names]


def wish(*remove: str, empty: bool = False) -> Wish:
    return Wish(remove, empty, frozenset(FIVE))


def words(steps: list[Step]) -> list[str]:
    return [f"{step.kind} {step.name}".strip() for step in steps]


def test_members_as_the_inventory_has_them_are_left_alone() -> None:
    assert words(plan(hosts(*THREE), peers(*THREE), wish())) == ["done"]
    assert told(plan(hosts(*THREE), peers(*THREE), wish())) == [
        "Raft's members are those of the inventory: nothing is to be done."
    ]


def test_a_host_that_is_lost_and_installed_anew_joins_as_a_stranger() -> None:
    found = hosts(*THREE, ifca=BARE)
    assert words(plan(found, peers(*THREE, dead=("ifca",)), wish("ifca"))) == ["remove ifca", "add ifca", "done"]


def test_nobody_leaves_while_a_member_that_was_not_given_up_is_lost() -> None:
    step = decide(hosts("iisas", "ifca", ifca=LOST), peers(*THREE, dead=("ifca",)), wish("infn"))
    assert (step.kind, step.name) == (Kind.WAIT, "ifca")
    assert "ifca cannot be reached by SSH: bring it back" in step.why


@pytest.mark.parametrize("role", ["uninitialised", "sealed", "unreachable"])
@pytest.mark.parametrize("dead", [(), ("ifca",)])
def test_a_host_with_an_empty_disk_is_never_taken_for_the_voter_that_it_was(role: str, dead: tuple[str, ...]) -> None:
    step = decide(hosts(*THREE, ifca={"role": role, "remembers": False}), peers(*THREE, dead=dead), wish())
    assert (step.kind, step.name) == (Kind.REFUSE, "ifca")
    assert "-e remove=ifca" in step.why


def test_a_host_that_moves_leaves_before_its_successor_of_the_same_name_joins() -> None:
    found = hosts(*THREE, infn=BARE)
    assert words(plan(found, peers(*THREE, leader="infn"), wish("infn"))) == [
        "step down infn",
        "remove infn",
        "add infn",
        "done",
    ]


def test_a_host_that_is_lost_and_not_there_yet_is_removed_and_added_later() -> None:
    found = hosts(*THREE, ifca=LOST)
    assert words(plan(found, peers(*THREE, dead=("ifca",)), wish("ifca"))) == ["remove ifca", "done"]
    assert "added by a later run" in notes(found, peers(*THREE, dead=("ifca",)), wish("ifca"))[0]


def test_a_site_is_replaced_by_another_after_that_has_joined() -> None:
    found = hosts("iisas", "infn", "lip", lip=BARE)
    assert words(plan(found, peers(*THREE, leader="ifca"), wish("ifca"))) == [
        "add lip",
        "step down ifca",
        "remove ifca",
        "done",
    ]


def test_a_live_site_that_the_inventory_forgot_is_not_shut_out_before_its_successor_votes() -> None:
    forgotten = Wish(("ifca",), known=frozenset({"iisas", "infn", "cesnet"}))
    step = decide(hosts("iisas", "infn", "cesnet", cesnet=BARE), peers(*THREE), forgotten)
    assert (step.kind, step.name) == (Kind.REFUSE, "ifca")
    assert "before cesnet votes" in step.why
    dead = decide(hosts("iisas", "infn", "cesnet", cesnet=BARE), peers(*THREE, dead=("ifca",)), forgotten)
    assert (dead.kind, dead.name) == (Kind.REMOVE, "ifca")


def test_a_site_that_answers_is_not_dead_whatever_the_leader_hears_of_it() -> None:
    """A blip, or a leader that has just taken over: it leaves after its successor has joined, as it was announced."""
    found, raft = hosts("iisas", "infn", "lip", lip=BARE), peers(*THREE, dead=("ifca",))
    raft[2] = replace(raft[2], answers=True)
    step = decide(found, raft, wish("ifca"))
    assert (step.kind, step.name) == (Kind.WAIT, "ifca")
    assert "it lives" in step.why


def test_whoever_is_dead_seems_so_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    dead, lives = Step(Kind.REMOVE, "ifca", DEAD), Step(Kind.ADD, "lip")
    answers, slept = iter([dead, lives]), list[float]()
    monkeypatch.setattr(replacing, "_next", lambda *_, **__: next(answers))
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(MembershipError, match="ifca is not removed: By now, what comes first is to add lip"):
        replacing.remove(replacing.Question({}, [], [], wish("ifca")), "ifca")
    assert slept == [replacing._STEADY]


def test_whose_server_nobody_stops_is_told() -> None:
    forgotten = Wish(("ifca",), known=frozenset({"iisas", "infn"}))
    told_of = notes(hosts("iisas", "infn"), peers(*THREE, dead=("ifca",)), forgotten)
    assert "stands for ifca, so nothing is stopped there" in told_of[0]


def test_a_dead_site_goes_before_its_successor_joins() -> None:
    found = hosts("iisas", "infn", "lip", lip=BARE)
    assert words(plan(found, peers(*THREE, dead=("ifca",)), wish("ifca"))) == ["remove ifca", "add lip", "done"]


def test_five_sites_and_back_to_three() -> None:
    grown = hosts(*FIVE, cesnet=BARE, lip=BARE)
    assert words(plan(grown, peers(*THREE), wish())) == ["add cesnet", "add lip", "done"]
    assert words(plan(hosts(*THREE), peers(*FIVE, leader="lip"), wish("cesnet", "lip"))) == [
        "remove cesnet",
        "step down lip",
        "remove lip",
        "done",
    ]


@pytest.mark.parametrize(
    ("found", "raft", "asked", "sentence"),
    [
        (hosts("iisas", "infn", infn=LOST), peers(*THREE, dead=("infn",)), wish("ifca"), "infn cannot be reached"),
        (hosts("iisas", "infn"), peers(*THREE, dead=("infn",)), wish("ifca"), "Autopilot calls infn unhealthy"),
        (hosts("iisas", "infn"), peers(*THREE), wish("ifca"), "could not lose one"),
        (hosts(*THREE), peers(*FIVE), wish("lip"), "-e remove=lip,cesnet"),
        (hosts(*FIVE, lip=BARE), peers(*FIVE[:4], dead=("cesnet",)), wish(), "Autopilot calls cesnet unhealthy"),
        (hosts(*FIVE[:4], cesnet={"role": "unreachable"}), peers(*THREE), wish(), "-e remove=cesnet -e wipe=true"),
        (hosts(*THREE, ifca=LOST), peers(*THREE), wish("ifca"), "it lives"),
        (hosts(*THREE), None, wish(), "or a member leads that the inventory's group vault does not name"),
        (
            hosts(*THREE, ifca={"role": "sealed"}, infn=LOST),
            None,
            wish(),
            "1 of 3 are seen unsealed: unseal a majority first",
        ),
        (hosts(*THREE, ifca={"role": "active"}), None, wish(), "ifca leads, and does not tell who the members are"),
        (hosts(*THREE, ifca={"role": "active"}, infn={"role": "active"}), None, wish(), "infn and ifca both lead"),
        (hosts(*FIVE, lip=BARE), peers(*FIVE[:4], joining=("cesnet",)), wish(), "cesnet does not vote yet"),
    ],
)
def test_what_is_refused(found: list[Host], raft: list[Peer] | None, asked: Wish, sentence: str) -> None:
    steps = plan(found, raft, asked)
    assert steps[-1].kind in (Kind.REFUSE, Kind.WAIT)
    assert len(steps) == 1
    assert sentence in steps[-1].why


def test_a_member_with_its_data_is_kept_whatever_is_asked() -> None:
    for role in ("active", "standby", "sealed", "unreachable"):
        found = hosts(*THREE, ifca={"role": role})
        assert all(step.name != "ifca" or step.kind is not Kind.REMOVE for step in plan(found, peers(*THREE), wish("ifca")))
        assert "is not removed" in notes(found, peers(*THREE), wish("ifca"))[0]


def test_the_same_wish_again_is_well_where_the_peer_is_gone() -> None:
    found = hosts("iisas", "infn", "lip", lip=BARE)
    assert words(plan(found, peers("iisas", "infn"), wish("paris"))) == ["add lip", "done"]
    assert "paris is no member of Raft (iisas, infn)" in notes(found, peers("iisas", "infn"), wish("paris"))[0]


def test_a_former_member_is_emptied_only_with_consent() -> None:
    found = hosts(*FIVE[:4], cesnet={"role": "unreachable"})
    assert words(plan(found, peers(*THREE), wish("cesnet", empty=True))) == ["empty cesnet", "add cesnet", "done"]


def test_a_member_that_lags_is_waited_for() -> None:
    raft = [*peers("iisas", "infn"), Peer("ifca", index=100)]
    raft[0] = Peer("iisas", leader=True, index=5000)
    raft[1] = Peer("infn", index=5000)
    assert "has entry 100 of 5000" in decide(hosts(*THREE), raft, wish()).why


def test_a_join_that_was_cut_off_goes_on() -> None:
    found = hosts(*FIVE[:4], cesnet={"role": "sealed", "remembers": False})
    assert words(plan(found, peers(*FIVE[:4], dead=("cesnet",), joining=("cesnet",)), wish()))[0] == "add cesnet"


def test_raft_is_read_as_the_server_tells_it() -> None:
    configuration = {"config": {"servers": [{"node_id": "iisas", "address": "x:8201", "leader": True, "voter": True}]}}
    autopilot = {"servers": {"iisas": {"healthy": True, "last_index": 7}}}
    assert peers_of(configuration, autopilot) == [Peer("iisas", leader=True, index=7)]
    assert peers_of(configuration, {"servers": {}}) == [Peer("iisas", healthy=False, leader=True)]
    with pytest.raises((KeyError, TypeError)):
        peers_of({}, {})


# --- a model of Raft -----------------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """A host of the inventory, or a peer that it no longer names. `log`: what it has acknowledged of what was committed."""

    alive: bool = True
    reached: bool = True
    log: set[int] | None = None  # None: an empty disk


@dataclass
class Raft:
    """What Raft is: a configuration, logs, and majorities. It knows nothing of health, consent or inventories."""

    machines: dict[str, Machine]
    voters: set[str]
    learners: set[str] = field(default_factory=set)
    leader: str = ""
    committed: set[int] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)  # by the leader, which has just taken over, say

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def working(self) -> set[str]:
        """Voters that take part in an election: alive, and with what they had acknowledged."""
        return {name for name in self.voters if self.machines[name].alive and self.machines[name].log is not None}

    @property
    def has_quorum(self) -> bool:
        return len(self.working) >= self.majority

    @property
    def safe(self) -> bool:
        """Whether every majority that could elect a leader has somebody who knows each entry that was committed."""
        return all(
            sum(entry not in (self.machines[name].log or set()) for name in self.voters) < self.majority
            for entry in self.committed
        )

    def elect(self) -> None:
        if self.leader not in self.working:
            full = [name for name in sorted(self.working) if self.committed <= (self.machines[name].log or set())]
            self.leader = full[0] if self.has_quorum and full else ""

    def commit(self, entry: int) -> None:
        """Replicate an entry to everybody who is there."""
        if self.leader:
            self.committed.add(entry)
            for name in self.voters | self.learners:
                machine = self.machines[name]
                if machine.alive and machine.log is not None:
                    machine.log.add(entry)


def seen(raft: Raft, named: list[str]) -> tuple[list[Host], list[Peer] | None]:
    """Return what is found of the model."""
    found = []
    for name in named:
        machine = raft.machines[name]
        serves = machine.alive and machine.log is not None and name in raft.voters | raft.learners
        role = ("active" if name == raft.leader else "standby") if serves and raft.leader else "unreachable"
        remembers = machine.log is not None if machine.reached and machine.alive else None
        found.append(Host(name, role, remembers))
    if not raft.leader:
        return found, None
    members = sorted(raft.voters) + sorted(raft.learners)
    return found, [
        Peer(
            name,
            name in raft.voters,
            raft.machines[name].alive and raft.machines[name].log is not None and name not in raft.unheard - {raft.leader},
            name == raft.leader,
            len(raft.machines[name].log or ()),
            raft.machines[name].reached and raft.machines[name].alive and raft.machines[name].log is not None,
        )
        for name in members
    ]


@dataclass(frozen=True)
class World:
    """What the model starts from, what an operator asks for, and what goes wrong meanwhile."""

    states: dict[str, Machine]
    voters: set[str]
    named: set[str]
    consented: set[str]
    empty: bool
    faults: list[tuple[int, str, str]]  # turn, machine, what
    deaf: list[tuple[int, str]]  # turn, whom the leader does not hear

    @property
    def order(self) -> list[str]:
        return [name for name in FIVE if name in self.named]

    @property
    def wish(self) -> Wish:
        return Wish(tuple(sorted(self.consented)), self.empty, frozenset(FIVE))

    def begin(self) -> Raft:
        """Return a cluster that may have lost disks, and has a quorum of those that have not."""
        copies = {name: Machine(each.alive, each.reached, each.log) for name, each in self.states.items()}
        raft = Raft(copies, set(self.voters))
        for name, machine in raft.machines.items():
            machine.log = None if machine.log is None else set()
            if name in raft.voters and machine.log is None and len(raft.working) < raft.majority:
                machine.log = set()
        raft.elect()
        raft.commit(0)
        return raft

    def strike(self, raft: Raft, turn: int) -> None:
        """Let happen what happens at a turn."""
        raft.unheard = {name for when, name in self.deaf if when == turn}
        for when, name, fault in self.faults:
            if when == turn:
                raft.machines[name].alive = fault != "die"
                if fault == "reinstall":
                    raft.machines[name].log = None
        raft.elect()


def removed(raft: Raft, world: World, name: str) -> None:
    machine, members = raft.machines[name], raft.voters | raft.learners
    works = machine.alive and machine.log is not None
    assert name in world.consented, "nobody is removed whom the operator did not name"
    assert name != raft.leader, "a leader steps down first"
    assert not (name in world.named and works and machine.reached), "a member that is named, and has its data, stays"
    if works and (name not in raft.unheard or (machine.reached and name in raft.voters)):
        dead = {each for each in members if not raft.machines[each].alive or raft.machines[each].log is None}
        assert not dead, "the dead go first"
        assert not raft.learners, "one change at a time"
    raft.voters.discard(name)
    raft.learners.discard(name)


def added(raft: Raft, world: World, name: str) -> None:
    machine, staying = raft.machines[name], (raft.voters | raft.learners) - world.consented
    assert name in world.named
    assert machine.log is None, "who joins brings nothing along"
    assert all(raft.machines[each].alive for each in staying - {name}), "nobody joins while another is unwell"
    assert not raft.learners - {name}, "one change at a time"
    assert name not in raft.voters, "nobody votes on joining"
    raft.learners.add(name)
    if machine.alive:
        machine.log = set(raft.committed)
        raft.learners.discard(name)
        raft.voters.add(name)


def emptied(raft: Raft, world: World, name: str) -> None:
    assert world.empty
    assert name in world.consented
    assert name not in raft.voters | raft.learners
    raft.machines[name].log = None


def stepped_down(raft: Raft, _: World, name: str) -> None:
    assert name == raft.leader
    assert raft.working - {name}, "somebody else can lead"
    raft.leader = min(raft.working - {name})


def done(raft: Raft, world: World, _: str) -> None:
    members = raft.voters | raft.learners
    assert members >= world.named - world.consented
    assert members <= world.named


CARRY_OUT = {
    Kind.REMOVE: removed,
    Kind.ADD: added,
    Kind.EMPTY: emptied,
    Kind.STEP_DOWN: stepped_down,
    Kind.DONE: done,
    Kind.WAIT: lambda *_: None,
    Kind.REFUSE: lambda *_: None,
}
names = st.sampled_from(FIVE)
machines = st.builds(
    lambda dead, unreached, fresh: Machine(dead > 0, unreached > 0, set() if fresh else None),
    st.integers(0, 4),
    st.integers(0, 6),
    st.integers(0, 5),
)
worlds = st.builds(
    World,
    states=st.fixed_dictionaries(dict.fromkeys(FIVE, machines)),
    voters=st.sets(names, min_size=1),
    named=st.sets(names, min_size=1),
    consented=st.sets(names),
    empty=st.booleans(),
    faults=st.lists(st.tuples(st.integers(0, 7), names, st.sampled_from(["die", "wake", "reinstall"])), max_size=4),
    deaf=st.lists(st.tuples(st.integers(0, 7), names), max_size=6),
)


@settings(max_examples=600, deadline=None)
@given(world=worlds)
def test_no_change_ever_costs_the_quorum_or_an_entry(world: World) -> None:
    raft = world.begin()
    for turn in range(10):
        world.strike(raft, turn)
        before = raft.safe, raft.has_quorum
        step = decide(*seen(raft, world.order), world.wish)
        CARRY_OUT[step.kind](raft, world, step.name)
        assert raft.has_quorum or not before[1], step
        assert raft.safe or not before[0], step
        raft.elect()
        raft.commit(turn + 1)


@settings(max_examples=300, deadline=None)
@given(
    start=st.sets(st.sampled_from(FIVE), min_size=3),
    named=st.sets(st.sampled_from(FIVE), min_size=3),
    dead=st.sampled_from(FIVE),
    leader=st.sampled_from(FIVE),
)
def test_what_is_consented_to_comes_about(start: set[str], named: set[str], dead: str, leader: str) -> None:
    """With one dead peer at most, and consent to all removals, the plan ends with the inventory's members."""
    raft = peers(*sorted(start), dead=(dead,) if dead in start else (), leader=min(start - {dead, leader} or start - {dead}))
    found = [Host(name) if name in start - {dead} else Host(name, "unreachable", False) for name in FIVE if name in named]

    steps = plan(found, raft, Wish(tuple(sorted((start - named) | {dead})), False, frozenset(FIVE)))

    assert steps[-1].kind is Kind.DONE, steps
    gone = [step.name for step in steps if step.kind is Kind.REMOVE]
    assert not gone or dead not in start or gone[0] == dead
    joined = {step.name for step in steps if step.kind is Kind.ADD}
    assert (start - set(gone)) | joined == named
