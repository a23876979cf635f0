"""The lock of a run: of two at once one has it, whatever the moment; what a killed run left is taken over, with a word."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from ansible.module_utils.egi_secrets.errors import LockedError, RefusedError
from ansible.module_utils.egi_secrets.operate import controller, lock
from ansible.module_utils.egi_secrets.operate.controller import Entry, Process
from ansible.module_utils.egi_secrets.operate.lock import Found, Lease, Outcome, Run
from ansible.module_utils.egi_secrets.reconcile.server import Server
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000
LEASE = 600
ALICE = Run("alice", "playbooks/operate/upgrade-cluster.yml", Process("laptop", "ann", "boot-1", 4711, 99))
BOB = Run("bob", "playbooks/site.yml", Process("desk", "bob", "boot-2", 4711, 99))


@dataclass
class Kv:
    """A key with check-and-set, and something that happens just before a write."""

    content: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    before_write: list[Callable[[], object]] = field(default_factory=list)

    def read(self, path: str) -> dict[str, Any]:
        return {"current_version": self.version} if "/metadata/" in path else {"data": self.content}

    def write(self, _path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.before_write:
            self.before_write.pop()()
        if body["options"]["cas"] != self.version:
            raise RefusedError("n1", 400, ["check-and-set parameter did not match the current version"], "")
        self.version += 1
        self.content = copy.deepcopy(body["data"])
        return {"data": {"version": self.version}}

    @property
    def server(self) -> Server:
        return cast("Server", self)


def take(kv: Kv, run: Run, now: int = NOW, **arguments: Any) -> Outcome:
    return lock.take(kv.server, run, now, **{"lease": LEASE, "ended": lambda _process: False, **arguments})


def refused(kv: Kv, run: Run, now: int = NOW, **arguments: Any) -> str:
    with pytest.raises(LockedError) as caught:
        take(kv, run, now, **arguments)
    return str(caught.value)


def test_the_second_is_told_who_has_it_and_since_when_and_writes_nothing() -> None:
    kv = Kv()
    take(kv, ALICE)
    before = copy.deepcopy(kv.content)

    told = refused(kv, BOB, NOW + 125)

    assert "alice has held the lock since 2027-01-15 08:00:00 UTC (2 min)" in told
    assert "playbooks/operate/upgrade-cluster.yml, process 4711 of ann on laptop" in told
    assert "runs out at 2027-01-15 08:10:00 UTC" in told
    assert (kv.content, kv.version) == (before, 1)


def test_the_same_run_has_it_again_and_since_the_same_moment() -> None:
    kv = Kv()
    first = take(kv, ALICE)
    again = take(kv, ALICE, NOW + 60)

    assert again.after == replace(cast("Lease", first.after), until=NOW + 60 + LEASE)
    assert again.messages == ()


def test_it_is_given_back_by_who_has_it_alone() -> None:
    kv = Kv()
    take(kv, ALICE)
    lock.give_back(kv.server, BOB)
    assert "alice has held" in refused(kv, BOB)

    lock.give_back(kv.server, ALICE)
    assert take(kv, BOB).held


def test_one_that_ran_out_is_taken_over_with_a_word() -> None:
    kv = Kv()
    take(kv, ALICE)
    assert "alice" in refused(kv, BOB, NOW + LEASE - 1)

    (told,) = take(kv, BOB, NOW + LEASE).messages
    assert "alice has held the lock since" in told
    assert "ran out at 2027-01-15 08:10:00 UTC" in told


def test_one_whose_process_is_gone_is_taken_over_at_once() -> None:
    kv = Kv()
    take(kv, ALICE)

    (told,) = take(kv, BOB, ended=lambda process: process.pid == 4711).messages
    assert "process 4711 on this controller is gone" in told


def test_one_that_is_known_to_be_dead_is_taken_by_its_label_and_a_later_one_is_not() -> None:
    kv = Kv()
    label = cast("Lease", take(kv, ALICE).after).label
    assert f"-e take_over={label}" in refused(kv, BOB)
    assert "you said" in take(kv, BOB, take_over=label).messages[0]
    assert "bob has held" in refused(kv, ALICE, take_over=label)


def test_a_run_that_lost_it_stops_even_where_it_is_free_again() -> None:
    kv = Kv()
    kept = take(kv, ALICE).version
    take(kv, BOB, NOW + LEASE)
    lost = refused(kv, ALICE, NOW + LEASE + 1, kept=kept)
    assert "did not renew it in time: now bob has held" in lost

    lock.give_back(kv.server, BOB)
    assert "has taken it and given it back since" in refused(kv, ALICE, NOW + LEASE + 2, kept=kept)


def test_one_that_ran_out_and_that_nobody_took_is_renewed() -> None:
    kv = Kv()
    kept = take(kv, ALICE).version
    assert take(kv, ALICE, NOW + 3 * LEASE, kept=kept).held


def test_check_mode_tells_and_writes_nothing() -> None:
    kv = Kv()
    assert not take(kv, ALICE, check_mode=True).held
    assert kv.version == 0
    take(kv, BOB)
    assert "bob has held" in refused(kv, ALICE, check_mode=True)
    lock.give_back(kv.server, BOB, check_mode=True)
    assert "bob has held" in refused(kv, ALICE)


def test_what_somebody_else_wrote_there_is_no_lease() -> None:
    assert Lease.read({"run": "alice"}) is None
    assert Lease.read({}) is None


RUNS = [replace(ALICE, operator=name, process=replace(ALICE.process, pid=pid)) for pid, name in enumerate("abc")]
STEP = st.tuples(
    st.sampled_from(range(len(RUNS))),
    st.sampled_from(["take", "give back", "renew", "die"]),
    st.integers(0, LEASE),  # s that pass before
    st.lists(st.tuples(st.sampled_from(range(len(RUNS))), st.sampled_from(["take", "give back"])), max_size=2),
)


@given(st.lists(STEP, max_size=30))
def test_no_two_runs_have_it_at_once(steps: list[tuple[int, str, int, list[tuple[int, str]]]]) -> None:
    """Runs come, renew, give back and die at any moment, in between another's look and write as well."""
    kv, now = Kv(), NOW
    has: dict[int, tuple[int, int]] = {}  # run → version, until
    dead: set[int] = set()

    def act(number: int, deed: str) -> None:
        if number in dead:
            return
        if deed == "give back":
            lock.give_back(kv.server, RUNS[number])
            has.pop(number, None)
            return
        kept = has.get(number, (0, 0))[0] if deed == "renew" else 0
        try:
            outcome = take(kv, RUNS[number], now, kept=kept, ended=lambda process: process.pid in dead)
        except LockedError:
            has.pop(number, None)  # it stops
            return
        has[number] = (outcome.version, outcome.until)

    for number, deed, passes, between in steps:
        now += passes
        if deed == "die":
            dead.add(number)
        else:
            kv.before_write = [lambda each=each: act(*each) for each in between]  # type: ignore[misc]
            act(number, deed)
        having = [each for each, (_, until) in has.items() if each not in dead and until > now]
        assert len(having) <= 1


def test_it_is_decided_without_asking_where_it_is_free() -> None:
    def never(_process: Process) -> bool:
        raise AssertionError

    assert lock.decide(Found(None, 0), ALICE, NOW, kept=0, take_over="", ended=never) == "free"


# --- the controller's processes -------------------------------------------------------------------------------------------

PLAY = ("/venv/bin/python3.11", "/venv/bin/ansible-playbook", "-i", "inventories/lab", "playbooks/operate/drain-site.yml")


def processes(*entries: tuple[int, int, tuple[str, ...]]) -> Callable[[int], Entry | None]:
    table = {pid: Entry(parent, 1, arguments) for pid, parent, arguments in entries}
    return table.get


def test_a_module_works_for_the_outermost_fork_of_its_playbook() -> None:
    look = processes(
        (1, 0, ("init",)), (5, 1, ("bash",)), (6, 5, PLAY), (7, 6, PLAY), (8, 7, ("sh", "-c", "…")), (9, 8, ("python3",))
    )
    assert controller.playbook_process(9, look) == 6


def test_without_a_playbook_it_works_for_what_started_it() -> None:
    assert controller.playbook_process(9, processes((5, 1, ("pytest",)), (9, 5, ("python3",)), (1, 0, ("init",)))) == 5


@pytest.mark.parametrize(
    ("arguments", "playbook"),
    [
        (PLAY, "playbooks/operate/drain-site.yml"),
        (("ansible-playbook", "-i", "hosts.yml", "/srv/x/playbooks/site.yml", "-e", "@secret.yml"), "playbooks/site.yml"),
        (("ansible-playbook", "-i", "hosts.yml", "/srv/mine.yml", "-e", "password=x"), "mine.yml"),
        (("ansible-console",), "a run of its own"),
    ],
)
def test_of_the_arguments_the_playbook_alone_is_told(arguments: tuple[str, ...], playbook: str) -> None:
    assert controller.playbook_of(arguments) == playbook


def test_a_process_has_ended_when_its_number_is_nobodys_or_another_ones() -> None:
    mine = controller.current()[0]
    boot = controller.this_boot()
    assert not controller.ended(mine, boot)
    assert controller.ended(replace(mine, started=mine.started + 1), boot)
    assert controller.ended(replace(mine, pid=2**22 + 1), boot)
    assert not controller.ended(replace(mine, pid=2**22 + 1, boot="another's"), boot)
    assert controller.ended(mine, boot, lambda _pid: Entry(1, mine.started, (), dead=True))
    # /proc of somebody else's process may be hidden.
    assert not controller.ended(replace(mine, pid=os.getpid()), boot, lambda _pid: None)
