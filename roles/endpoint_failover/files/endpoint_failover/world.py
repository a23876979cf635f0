"""A model of all that the checkers deal with: sites, links, Raft, KV store, DNS, DynDNS, and the checkers' own processes.

It is made from what was measured of the real things (docs/failover.md), and knows nothing of how the checkers decide: it
carries out what they ask for, with delays, and may lose it. Time is simulated; everything random comes from one seeded
source, so a history can be told again.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .cycle import (
    Checker,
    Effect,
    Fence,
    Look,
    Looked,
    Memory,
    Pause,
    Publish,
    ReadShared,
    Send,
    Shared,
    Tell,
    WriteLease,
)
from .model import Answer, Consequence, Hold, Kind, Lease, Outcome, Reply, View
from .settings import Settings

# Seconds since the epoch when the simulated cluster's clock starts.
EPOCH = 1_800_000_000.0
# Measured: how long until another node leads, until a refused connection is refused, a write is committed, a name server
# has answered, an update is answered.
ELECTION = (1.5, 3.5)
REFUSED = 0.002
WRITE = (0.005, 0.15)
DNS = (0.001, 0.04)
UPDATE = (0.008, 0.05)
# The DynDNS server after the primary refused an update; and with its other name server down.
DOMAIN_LOCK = 120.0
SLOW_UPDATE = 2.0
# How long a laggy server takes, of the time-out; and a DNS server that is slow, s.
LAGGY = (0.3, 0.95)
SLOW_DNS = (0.3, 1.2)

# stalled: its audit devices are full, so it commits nothing while it leads. slow: nothing is answered in time; laggy: just.
SERVERS = ("ok", "dead", "hung", "sealed", "stalled", "slow", "laggy")
NAMESERVERS = ("up", "down", "slow", "refuses updates")
# refuses: the account, with an error; forgets: says that all is well and does nothing.
DYNDNS = ("up", "down", "hung", "refuses", "forgets")


class Monitor(Protocol):
    """Is told what happens in a world."""

    def changed(self, world: World) -> None:
        """Something in the world has changed that may change which site serves."""

    def sent(self, world: World, observer: str, name: str, target: str) -> None:
        """An update has arrived at the DynDNS server, which has not handled it yet."""

    def answered(self, world: World, observer: str, name: str, consequence: Consequence) -> None:
        """The DynDNS server has answered an update."""

    def moved(self, world: World, name: str, source: str, target: str) -> None:
        """The primary has a new record."""

    def told(self, world: World, observer: str, event: Tell) -> None:
        """A checker has told of something."""


@dataclass(slots=True)
class SiteState:
    """A site: its server (see SERVERS), whether its host is up, whether its certificate is valid."""

    server: str = "ok"
    power: bool = True
    certificate: bool = True


@dataclass(slots=True)
class Process:
    """A checker's process: its clock is `now` times `rate` plus `offset`. What a frozen one does next is `waiting`."""

    checker: Checker
    offset: float
    rate: float
    alive: bool = True
    frozen: bool = False
    waiting: Callable[[], None] | None = None
    life: int = 0
    running: Generator[Effect, Any, float] | None = None
    began: float = 0.0
    saved: Memory | None = None

    @property
    def works(self) -> bool:
        """Whether it runs, and goes on."""
        return self.alive and not self.frozen


@dataclass(slots=True)
class Nameserver:
    """A DNS server: name → site, and its state (see NAMESERVERS). One that refuses updates has the wrong key for them."""

    records: dict[str, str]
    state: str = "up"

    @property
    def up(self) -> bool:
        """Whether it answers, sooner or later."""
        return self.state != "down"

    @property
    def takes_updates(self) -> bool:
        """Whether its records can be changed: by the DynDNS server or by a transfer."""
        return self.up and self.state != "refuses updates"


@dataclass(slots=True)
class World:
    """Everything.

    Args:
        settings: of each observer.
        rng: the source of all that is random.
        monitor: is told what happens.
        primary_at: site of the DNS primary and of the DynDNS server.
        secondary_at: site of the DNS secondary.
        loss: share of requests that are lost for no reason.
        answer_loss: share of writes and updates that are carried out and not answered.
        lag: longest time that a change takes to reach the secondary, s.
    """

    settings: dict[str, Settings]
    rng: random.Random
    monitor: Monitor
    primary_at: str = "iisas"
    secondary_at: str = "ifca"
    loss: float = 0.0
    answer_loss: float = 0.0
    lag: float = 0.05
    now: float = 0.0
    sites: dict[str, SiteState] = field(default_factory=dict)
    cuts: set[tuple[str, str]] = field(default_factory=set)
    leader: str = ""
    store: dict[str, tuple[Any, int]] = field(default_factory=dict)
    holds: dict[str, tuple[Hold, float]] = field(default_factory=dict)
    primary: Nameserver = field(default_factory=lambda: Nameserver({}))
    secondary: Nameserver = field(default_factory=lambda: Nameserver({}))
    dyndns: str = "up"
    locked_until: float = 0.0
    revoked: set[str] = field(default_factory=set)
    losses: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    clock_skew: dict[str, float] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _election: int = 0

    @classmethod
    def make(cls, settings: dict[str, Settings], rng: random.Random, monitor: Monitor, at: str) -> World:
        """Return a world in which all is well and every name is at site `at`."""
        world = cls(settings, rng, monitor)
        some = next(iter(settings.values()))
        names = {name.name: at for name in some.names}
        world.sites = {site: SiteState() for site in some.sites}
        world.primary, world.secondary = Nameserver(dict(names)), Nameserver(dict(names))
        world.leader = rng.choice(list(some.sites))
        world.clock_skew = {site: rng.uniform(-2, 2) for site in some.sites}
        for observer, each in settings.items():
            offset, rate = rng.uniform(0, 1e5), rng.uniform(0.998, 1.002)
            checker = Checker(each, Memory(), lambda: 0.0)
            process = Process(checker, offset, rate)
            checker.clock = world._clock_of(process)
            world.processes[observer] = process
            world.later(rng.uniform(0, 2), lambda process=process: world._start(process))  # type: ignore[misc]
        monitor.changed(world)
        return world

    def _clock_of(self, process: Process) -> Callable[[], float]:
        return lambda: self.now * process.rate + process.offset

    # --- time

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Have something done `delay` seconds from now."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action))

    def run(self, until: float) -> None:
        """Let time pass until `until`."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action = heapq.heappop(heap)
            action()
        self.now = until

    # --- what is the case

    def linked(self, one: str, other: str) -> bool:
        """Whether TCP works between two sites: it needs both directions."""
        return one == other or ((one, other) not in self.cuts and (other, one) not in self.cuts)

    def takes_part(self, site: str) -> bool:
        """Whether a site's server is a voter that may lead."""
        state = self.sites[site]
        return state.power and state.server in ("ok", "stalled", "slow", "laggy")

    def _may_lead(self, site: str) -> bool:
        peers = sum(self.takes_part(other) and self.linked(site, other) for other in self.sites)
        return self.takes_part(site) and 2 * peers > len(self.sites)

    def commits(self, site: str) -> bool:
        """Whether a write through a site would be committed in time."""
        leader = self.leader
        return (
            bool(leader)
            and self.takes_part(site)
            and self.sites[site].server != "slow"
            and self.sites[leader].server in ("ok", "laggy")
            and self.linked(site, leader)
        )

    def serves(self, site: str) -> bool:
        """Whether a user could write a secret through a site now."""
        return self.sites[site].certificate and self.commits(site)

    def sees(self, observer: str, site: str) -> bool:
        """Whether a site serves an observer now."""
        return self.linked(observer, site) and self.serves(site)

    def cluster_now(self) -> float:
        """Return the clock of the node that leads, s since the epoch."""
        return EPOCH + self.now + self.clock_skew.get(self.leader, 0.0)

    def is_held(self, site: str) -> bool:
        """Whether a site is held now."""
        hold, _ = self.holds.get(site, (None, 0.0))
        return hold is not None and (hold.until == 0 or hold.until > self.cluster_now())

    # --- faults

    def touched(self) -> None:
        """To be called after anything of the world was changed from outside: elects a leader where that is needed."""
        if self.leader and not self._may_lead(self.leader):
            self.leader = ""
        if not self.leader:
            self._election += 1
            number = self._election
            self.later(self.rng.uniform(*ELECTION), lambda: self._elect(number))
        self.monitor.changed(self)

    def _elect(self, number: int) -> None:
        if number != self._election or self.leader:
            return
        able = [site for site in self.sites if self._may_lead(site)]
        if able:
            self.leader = self.rng.choice(able)
            self.monitor.changed(self)

    def cut(self, links: Iterable[tuple[str, str]], ways: tuple[bool, ...]) -> None:
        """Cut links there, and back, as `ways` says; none: mend them."""
        for one, other in links:
            self.cuts -= {(one, other), (other, one)}
            self.cuts |= {way for way, is_cut in zip(((one, other), (other, one)), ways, strict=False) if is_cut}

    def restart_checker(self, observer: str, to: str) -> None:
        """Kill a checker between any two of its steps, or start a killed one.

        Args:
            observer: the checker.
            to: `killed`, `frozen` (its requests go on, and it sees what comes of them when it goes on itself), `started` (a
                killed one with what it saved after its last complete check), `started without memory`.
        """
        process = self.processes[observer]
        if to == "killed":
            process.alive, process.running = False, None
            process.frozen, process.waiting = False, None
            process.life += 1
        elif to == "frozen":
            process.frozen = process.alive
        elif process.frozen:
            process.frozen = False
            if process.waiting is not None:
                self.later(0.0, process.waiting)
            process.waiting = None
        elif not process.alive:
            kept = None if to == "started without memory" else process.saved
            process.checker.memory = Memory() if kept is None else kept.snapshot()
            process.alive = True
            self._start(process)

    def hold(self, site: str, seconds: float | None) -> None:
        """Hold a site, as an operator does, for some seconds; 0: until it is released; None: release it."""
        if seconds is None:
            self.holds.pop(site, None)
            return
        until = self.cluster_now() + seconds if seconds else 0.0
        self.holds[site] = (Hold(until, "operator", "drained"), self.now)

    # --- the checkers

    def _start(self, process: Process) -> None:
        if not process.alive:
            return
        if process.frozen:
            process.waiting = lambda: self._start(process)
            return
        process.began = self.now
        process.running = process.checker.check()
        self._resume(process, process.life, None)

    def _resume(self, process: Process, life: int, result: Any) -> None:  # noqa: ANN401  # whatever the effect gives
        if life != process.life or process.running is None:
            return
        if process.frozen:
            process.waiting = lambda: self._resume(process, life, result)
            return
        try:
            effect = process.running.send(result)
        except StopIteration as end:
            process.saved = process.checker.memory.snapshot()
            wait = max(0.01, process.began + float(end.value) - self.now)
            self.later(wait, lambda: self._start(process) if life == process.life else None)
            return
        self._carry_out(process, life, effect)

    def _carry_out(self, process: Process, life: int, effect: Effect) -> None:
        observer = process.checker.settings.observer

        def answer(delay: float, result: Any) -> None:  # noqa: ANN401
            self.later(delay, lambda: self._resume(process, life, result))

        match effect:
            case Look():
                delay, looked = self._look(observer, effect)
                answer(delay, looked)
            case Publish():
                done = any(self._write(observer, site, f"views/{observer}", effect.view) for site in effect.via)
                answer(self._took(observer, effect.via, done), self.cluster_now() if done else None)
            case ReadShared():
                # Some requests one after the other: what they find is not of one moment.
                held = dict(self.holds)
                self.later(self._latency(WRITE), lambda: answer(*self._read(observer, effect, held)))
            case WriteLease():
                self.later(self._latency(WRITE), lambda: answer(*self._lease(observer, effect)))
            case Send():
                self.later(self._latency(UPDATE), lambda: answer(*self._update(observer, effect)))
            case Pause():
                answer(effect.seconds, None)
            case Fence():
                self.sites[observer].server = "dead"
                self.touched()
                answer(0.0, None)
            case Tell():
                self.monitor.told(self, observer, effect)
                answer(0.0, None)

    def _latency(self, bounds: tuple[float, float]) -> float:
        return self.rng.uniform(*bounds)

    def _took(self, observer: str, via: tuple[str, ...], done: bool) -> float:
        """Return how long a request took that was tried through some sites."""
        timeout = self.settings[observer].rules.timeout
        return self._answer_time(via[0], timeout) if done and via else max(1, len(via)) * timeout

    def _answer_time(self, site: str, timeout: float) -> float:
        """Return how long a write through a site takes."""
        laggy = "laggy" in (self.sites[site].server, self.sites[self.leader].server if self.leader else "")
        return timeout * self._latency(LAGGY) if laggy else self._latency(WRITE)

    def _look(self, observer: str, effect: Look) -> tuple[float, Looked]:
        settings = self.settings[observer]
        longest, stamp = 0.001, None
        found: dict[str, Outcome] = {}
        for site in effect.sites:
            took, outcome = self._probe(observer, site, effect.view)
            longest = max(longest, took)
            found[site] = outcome
            if outcome.kind is Kind.OK:
                stamp = self.cluster_now()
        answers = {}
        for name in effect.names:
            both = []
            for server, at, state in (
                ("primary", self.primary_at, self.primary),
                ("secondary", self.secondary_at, self.secondary),
            ):
                took = self._latency(SLOW_DNS if state.state == "slow" else DNS)
                reached = state.up and self.linked(observer, at) and self.rng.random() >= self.loss
                if reached and took <= settings.rules.dns_timeout:
                    longest = max(longest, took)
                    site = state.records.get(name, "")
                    both.append(Answer(server, (settings.sites[site].address,) if site else ()))
                else:
                    longest = max(longest, settings.rules.dns_timeout)
                    both.append(Answer(server, (), "no answer"))
            answers[name] = tuple(both)
        outcomes = {name.name: dict(found) for name in settings.names} if effect.sites else {}
        return longest, Looked(outcomes, answers, stamp)

    def _probe(self, observer: str, site: str, view: View) -> tuple[float, Outcome]:
        timeout = self.settings[observer].rules.timeout
        fault = self._fault(observer, site, timeout)
        if fault is not None:
            return fault
        role = "active" if site == self.leader else "standby"
        if not self.commits(site):
            took = 0.05 if self.leader and self.sites[self.leader].server == "stalled" else self.rng.choice((0.02, timeout))
            return took, Outcome(Kind.WRITE, "write failed", role)
        took = self._answer_time(site, timeout)
        if observer in self.revoked:
            return took, Outcome(Kind.FORWARDED, "403")
        if not self._write(observer, site, f"views/{observer}", view):
            return timeout, Outcome(Kind.WRITE, "no answer", role)
        return took, Outcome(Kind.OK)

    def _fault(self, observer: str, site: str, timeout: float) -> tuple[float, Outcome] | None:
        """Return how a probe ends that finds the site itself at fault."""
        state = self.sites[site]
        cut = not state.power or not self.linked(observer, site) or self._lost(observer, site, self.loss)
        faults = (
            (cut, timeout, "no answer"),
            (state.server == "dead", REFUSED, "refused"),
            (state.server == "hung", timeout, "TLS: no answer"),
            (not state.certificate, 0.01, "certificate has expired"),
            (state.server == "sealed", 0.01, "sealed"),
        )
        return next(((took, Outcome(Kind.LOCAL, why)) for so, took, why in faults if so), None)

    def _write(self, observer: str, site: str, key: str, value: Any) -> bool:  # noqa: ANN401
        """Write a key through a site if that works now; return whether it was answered."""
        if observer in self.revoked or not self.sees(observer, site):
            return False
        self.store[key] = (value, self.store.get(key, (None, 0))[1] + 1)
        return not self._lost(observer, site, self.answer_loss)

    def _read(self, observer: str, effect: ReadShared, held: dict[str, tuple[Hold, float]]) -> tuple[float, Shared | None]:
        """Return what is in the store, with the holds of a moment ago."""
        settings = self.settings[observer]
        for number, site in enumerate(effect.via):
            if observer in self.revoked or not self.sees(observer, site) or self._lost(observer, site, self.loss):
                continue
            shared = Shared(
                views={other: self.store.get(f"views/{other}", (None, 0)) for other in settings.others},
                holds={each: hold for each, (hold, _) in held.items()},
                leases={name: self.store.get(f"lease/{name}", (None, 0)) for name in effect.names},
            )
            timeout = settings.rules.timeout
            return number * timeout + self._answer_time(site, timeout), shared
        return self._took(observer, effect.via, done=False), None

    def _lost(self, observer: str, site: str, share: float) -> bool:
        """Whether a request is lost, or its answer; nothing is within a host."""
        lost = observer != site and self.rng.random() < share
        if lost:
            self.losses.setdefault((observer, site), []).append(self.now)
        return lost

    def _lease(self, observer: str, effect: WriteLease) -> tuple[float, int]:
        key, timeout = f"lease/{effect.name}", self.settings[observer].rules.timeout
        for number, site in enumerate(effect.via):
            if observer in self.revoked or not self.sees(observer, site) or self._lost(observer, site, self.loss):
                continue
            took = number * timeout + self._answer_time(site, timeout)
            version = self.store.get(key, (None, 0))[1]
            if version != effect.cas:
                return took, 0
            self.store[key] = (effect.lease, version + 1)
            if self.rng.random() < self.answer_loss:
                # It was written and not answered: the next site says that the version is another.
                return (number + 1) * timeout, 0
            return took, version + 1
        return self._took(observer, effect.via, done=False), 0

    def lease(self, name: str) -> Lease | None:
        """Return the lease of a name as the store has it."""
        value: Lease | None = self.store.get(f"lease/{name}", (None, 0))[0]
        return value

    # --- DNS and DynDNS

    def _update(self, observer: str, effect: Send) -> tuple[float, Reply]:
        timeout = self.settings[observer].rules.dyndns_timeout
        if self.dyndns == "down" and self.linked(observer, self.primary_at):
            return REFUSED, Reply(Consequence.RETRY, "refused")
        if self.dyndns in ("down", "hung") or not self.linked(observer, self.primary_at) or self.rng.random() < self.loss:
            return timeout, Reply(Consequence.RETRY, "no answer")
        self.monitor.sent(self, observer, effect.name, effect.site)
        took, reply = self._handle(effect)
        if self.rng.random() < self.answer_loss or took > timeout:
            took, reply = timeout, Reply(Consequence.RETRY, "no answer")
        self.monitor.answered(self, observer, effect.name, reply.consequence)
        return took, reply

    def _handle(self, effect: Send) -> tuple[float, Reply]:
        """Do as nsupdate.info does: compare with the *second* name server, update the first."""
        if self.dyndns == "refuses":
            return 0.01, Reply(Consequence.STOP, "badauth")
        if self.dyndns == "forgets":
            return 0.01, Reply(Consequence.SENT, "good")
        if self.now < self.locked_until:
            return 0.01, Reply(Consequence.LOCKED, "dnserr")
        reachable = self.secondary.up and self.linked(self.primary_at, self.secondary_at)
        took = 0.01 if reachable else SLOW_UPDATE
        if not self.primary.takes_updates:
            self.locked_until = self.now + DOMAIN_LOCK
            return took + SLOW_UPDATE, Reply(Consequence.LOCKED, "dnserr")
        known = self.secondary if reachable else self.primary
        if known.records.get(effect.name) == effect.site:
            return took, Reply(Consequence.UNCHANGED, "nochg")
        source = self.primary.records.get(effect.name, "")
        self.primary.records[effect.name] = effect.site
        if source != effect.site:
            self.monitor.moved(self, effect.name, source, effect.site)
            self.later(self.rng.uniform(0.003, self.lag), self._transfer)
        return took, Reply(Consequence.SENT, "good")

    def _transfer(self) -> None:
        """Bring the secondary up to date, again and again until that works."""
        if self.primary.up and self.secondary.takes_updates and self.linked(self.primary_at, self.secondary_at):
            self.secondary.records = dict(self.primary.records)
        else:
            self.later(1.0, self._transfer)
