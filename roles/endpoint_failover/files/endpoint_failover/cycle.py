"""One check: look, remember, decide, act. It does nothing itself: it yields what is to be done and is sent the result.

So the same steps run against real servers (loop.py), and against a model of them, interleaved with other observers'
(simulation).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from . import decide
from .model import (
    Act,
    Alarm,
    Answer,
    Consequence,
    Decision,
    Hold,
    Kind,
    Lease,
    NameMemory,
    Outcome,
    Place,
    Reply,
    Score,
    Standing,
    View,
    Watched,
)
from .settings import Name, Settings

# An alarm is told, and its end, once it has been so for this many checks: one lost datagram is no news.
STEADY = 3
# What has been amiss for so long is looked at no more often than what is well.
PATIENCE = 300.0
# A fenced node stays stopped until a person has seen to it; the request is not repeated sooner.
FENCE_REPEAT = 600.0
# After an update the DNS servers are asked this often within the same check, and so many seconds apart.
POLLS, POLL = 8, 0.25
# A step is a lease taken, an update, a lease given back; one check makes a handful.
MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class Look:
    """Probe sites, each by a write of `view` through it, and ask the DNS servers of names; all at once."""

    sites: tuple[str, ...]
    names: tuple[str, ...]
    view: View


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of it.

    Args:
        outcomes: name → site → outcome.
        answers: name → of each DNS server.
        stamp: the cluster's clock at the last write, s since the epoch; None without one.
    """

    outcomes: Mapping[str, Mapping[str, Outcome]]
    answers: Mapping[str, tuple[Answer, ...]]
    stamp: float | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the view through one of these sites; the result is the cluster's clock, or None."""

    view: View
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadShared:
    """Read the other observers' views, the holds, and the leases of names, through one of these sites."""

    names: tuple[str, ...]
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """What was read: value and version of each key, None and 0 where there is none."""

    views: Mapping[str, tuple[View | None, int]]
    holds: Mapping[str, Hold]
    leases: Mapping[str, tuple[Lease | None, int]]


@dataclass(frozen=True, slots=True)
class WriteLease:
    """Write a lease if it still has version `cas`; the result is its new version, or 0."""

    name: str
    lease: Lease
    cas: int
    via: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a DynDNS update; the result is a Reply."""

    name: str
    site: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fence:
    """Ask root to stop this site's server."""

    why: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell people and the journal of something that happened.

    Args:
        event: moved, alarm, cleared, fence, would.
        text: a sentence.
        fields: the same for machines.
    """

    event: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)


Effect = Look | Publish | ReadShared | WriteLease | Send | Pause | Fence | Tell


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm, from its first sight.

    Args:
        text: the sentence, as it is now.
        since: when it was first seen, monotonic.
        seen: checks in a row that it was seen.
        missed: checks in a row that it was not.
        told_at: when it was last told; None: not yet.
    """

    text: str
    since: float
    seen: int = 1
    missed: int = 0
    told_at: float | None = None


@dataclass(slots=True)
class Memory:
    """All that an observer remembers from one check to the next; state.py keeps it from one run to the next.

    Args:
        scores: name → site → history.
        outcomes: name → site → last outcome, for people.
        checked: site → when it was last probed.
        views: other observer → view, as watched.
        holds: site → hold, as last read.
        leases: name → lease, as watched.
        names: name → what is remembered of it.
        places: name → where it is, as last seen.
        last: name → what was last decided, for people.
        alarms: key → alarm.
        checked_at: when the last check began; None: never.
        served_at: when any site last served us.
        shared_at: when views and holds were last read.
        cluster_offset: the cluster's clock minus ours, s; None: not known.
        stalled: checks in a row that our node led and nobody could write.
        fenced_at: when the fence was last asked for; None: never.
        identity: whether the cluster did not know us in the last check.
        alert: whether something was in doubt in the last check.
    """

    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    checked: dict[str, float] = field(default_factory=dict)
    views: dict[str, Watched[View]] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    leases: dict[str, Watched[Lease]] = field(default_factory=dict)
    names: dict[str, NameMemory] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    alarms: dict[str, Raised] = field(default_factory=dict)
    checked_at: float | None = None
    served_at: float = float("-inf")
    shared_at: float = float("-inf")
    cluster_offset: float | None = None
    stalled: int = 0
    fenced_at: float | None = None
    identity: bool = False
    alert: bool = True

    def snapshot(self) -> Memory:
        """Return a copy that later checks do not change: what the dictionaries hold is immutable."""
        copy = replace(self)
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, dict):
                setattr(copy, each.name, {key: dict(v) if isinstance(v, dict) else v for key, v in value.items()})
        return copy


@dataclass(slots=True)
class Checker:
    """An observer.

    Args:
        settings: its settings.
        memory: what it remembers; changed by each check.
        clock: this host's monotonic clock, s.
        dry_run: decide, and send nothing.
        accounts: name → fingerprint of its DynDNS account.
        wishes: name → site where an operator at this site wants it.
        further: alarms that do not come from what is seen here.
    """

    settings: Settings
    memory: Memory
    clock: Callable[[], float]
    dry_run: bool = False
    accounts: Mapping[str, str] = field(default_factory=dict)
    wishes: Mapping[str, str] = field(default_factory=dict)
    further: Iterable[Alarm] = ()
    _asked: bool = False
    _now: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    _would: dict[str, str] = field(default_factory=dict)

    def check(self) -> Generator[Effect, Any, float]:
        """Make one check.

        Yields:
            What is to be done; the result is to be sent back.

        Returns:
            Seconds from this check's beginning to the next one's.
        """
        began = self.clock()
        self._asked = False
        self._begin(began)
        yield from self._look(began)
        yield from self._tell_others()
        alarms = [*self.further, *self._alarms()]
        for name in self.settings.names:
            decision = yield from self._settle(name)
            alarms.extend(decision.alarms)
            self.memory.last[name.name] = decision.why
        alarms.extend((yield from self._fence()))
        yield from self._tell_alarms(alarms)
        self.memory.alert = self._in_doubt()
        return self.settings.rules.retry if self.memory.alert else self.settings.rules.interval

    def _is_late(self) -> bool:
        """Whether what this check saw is too old to act on: we stood still meanwhile, or an update took its time."""
        began = self.memory.checked_at
        return began is None or self.clock() - began > self.settings.rules.view_ttl

    # --- looking

    def _begin(self, now: float) -> None:
        memory, rules = self.memory, self.settings.rules
        pause = now - memory.checked_at if memory.checked_at is not None else 0.0
        if not 0 <= pause <= rules.view_ttl:
            memory.scores = {name: decide.forget(scores) for name, scores in memory.scores.items()}
            memory.alert = True
        memory.checked_at = now

    def _look(self, now: float) -> Generator[Effect, Any, None]:
        memory = self.memory
        due = self._due(now)
        view = self.view()
        looked: Looked = yield Look(due, tuple(name.name for name in self.settings.names), view)
        self._now = {name: dict(outcomes) for name, outcomes in looked.outcomes.items()}
        self._heed(looked)
        rest = tuple(site for site in self.settings.sites if site not in due)
        if rest and (self._surprised() or not self._via()):
            # Whether that site is at fault or all of the cluster shows only in comparison with the others.
            looked = yield Look(rest, (), view)
            for name, outcomes in looked.outcomes.items():
                self._now.setdefault(name, {}).update(outcomes)
            self._heed(looked)
        if any(outcome.serves for outcomes in self._now.values() for outcome in outcomes.values()):
            memory.served_at = now
        elif now - memory.served_at > self.settings.rules.view_ttl:
            memory.scores = {name: decide.distrust(scores) for name, scores in memory.scores.items()}
        for name, outcomes in self._now.items():
            old = memory.scores.get(name, {})
            memory.scores[name] = decide.score(old, outcomes, self.settings.rules, self.clock())
            memory.outcomes.setdefault(name, {}).update(outcomes)
            memory.checked.update(dict.fromkeys(outcomes, now))
        memory.identity = any(each.kind is Kind.FORWARDED for outcomes in self._now.values() for each in outcomes.values())

    def _heed(self, looked: Looked) -> None:
        for name, answers in looked.answers.items():
            primary = self.settings.name(name).primary
            self.memory.places[name] = decide.place_of(answers, self.settings.site_of, primary)
        self._set_clock(looked.stamp)

    def _set_clock(self, stamp: float | None) -> None:
        if stamp is not None:
            self.memory.cluster_offset = stamp - self.clock()

    def _due(self, now: float) -> tuple[str, ...]:
        memory = self.memory
        holding = {site for place in memory.places.values() for site in place.places}
        return tuple(
            site
            for site in self.settings.sites
            if memory.alert
            or site in holding
            or now - memory.checked.get(site, float("-inf")) >= self.settings.rules.idle_interval
        )

    def _surprised(self) -> bool:
        return any(
            not outcome.serves and self._standing(name, site) is not Standing.DOWN
            for name, outcomes in self._now.items()
            for site, outcome in outcomes.items()
        )

    def _standing(self, name: str, site: str) -> Standing:
        return decide.standing(self.memory.scores.get(name, {}).get(site, Score()), self.settings.rules)

    def view(self) -> View:
        """Return what this observer has seen, for the others."""
        return View(
            {
                name.name: {site: self._standing(name.name, site) for site in self.settings.sites}
                for name in self.settings.names
            }
        )

    # --- the others

    def _tell_others(self) -> Generator[Effect, Any, None]:
        """Publish the view and read the others', where something is in doubt, and once in a while."""
        now = self.clock()
        if not self._via() or self._is_late():
            return
        if self._in_doubt():
            # The probes carried the view from before this check.
            self._set_clock((yield Publish(self.view(), self._via())))
        elif now - self.memory.shared_at < self._shared_interval():
            return
        yield from self._ask()

    def _shared_interval(self) -> float:
        """Return how often the others' views are read while nothing is in doubt, s.

        Where a name may have to be moved, they have to be fresh for as long as that takes: a refusal of the DynDNS server is
        waited out for longer than anybody is on the alert.
        """
        memory, rules = self.memory, self.settings.rules
        views = [self.view(), *(watched.value for watched in memory.views.values() if watched.value is not None)]
        wanted = any(
            view.standing(name, site) is Standing.DOWN
            for name, place in memory.places.items()
            for site in place.places
            for view in views
        ) or any(each.trouble for each in memory.names.values())
        return min(rules.shared_interval, rules.view_ttl / 2) if wanted else rules.shared_interval

    def _ask(self) -> Generator[Effect, Any, None]:
        memory, now = self.memory, self.clock()
        shared: Shared | None = yield ReadShared(tuple(name.name for name in self.settings.names), self._via())
        if shared is None:
            return
        for observer, (view, version) in shared.views.items():
            memory.views[observer] = decide.watch(memory.views.get(observer), view, version, now)
        for name, (lease, version) in shared.leases.items():
            memory.leases[name] = decide.watch(memory.leases.get(name), lease, version, now)
        memory.holds = dict(shared.holds)
        memory.shared_at = now
        self._asked = True

    def _via(self) -> tuple[str, ...]:
        """Return sites through which the cluster can be used now, our own first."""
        fit = {site for outcomes in self._now.values() for site, each in outcomes.items() if each.kind is Kind.OK}
        return tuple(site for site in (self.settings.observer, *self.settings.others) if site in fit)

    def _in_doubt(self) -> bool:
        now = self.clock()
        doubt = any(
            self._standing(name.name, site) is Standing.DOUBT for name in self.settings.names for site in self.settings.sites
        )
        busy = any(
            each.lease or each.sent_at is not None or (each.trouble and now - each.trouble_since < PATIENCE)
            for each in self.memory.names.values()
        )
        homeless = any(
            self._standing(name, site) is Standing.DOWN and now - self.memory.scores[name][site].since < PATIENCE
            for name, place in self.memory.places.items()
            for site in place.places
            if site in self.settings.sites
        )
        return doubt or busy or homeless or bool(self.wishes) or self._surprised()

    # --- deciding and acting

    def _decide(self, name: Name) -> Decision:
        memory = self.memory
        now = self.clock()
        decision = decide.decide(
            decide.Situation(
                name=name,
                rules=self.settings.rules,
                observer=self.settings.observer,
                sites=tuple(self.settings.sites),
                now=now,
                cluster_now=now + (memory.cluster_offset or 0.0),
                own=memory.scores.get(name.name, {}),
                outcomes=self._now.get(name.name, {}),
                place=memory.places.get(name.name, Place(None, ())),
                memory=memory.names.get(name.name, NameMemory()),
                asked=self._asked,
                views=memory.views,
                holds=memory.holds,
                lease=memory.leases.get(name.name) if self._asked else None,
                account=self.accounts.get(name.name, ""),
                wish=self.wishes.get(name.name, ""),
            )
        )
        memory.names[name.name] = decision.memory
        return decision

    def _settle(self, name: Name) -> Generator[Effect, Any, Decision]:
        """Take the steps that a name needs now; return the last decision."""
        decision = self._decide(name)
        for _ in range(MOST_STEPS):
            if decision.arrived is not None:
                change = decision.arrived
                text = f"{name.name} was moved from {change.source} to {change.target}: {change.why}."
                yield Tell("moved", text, {"name": name.name, "from": change.source, "to": change.target, "why": change.why})
            if decision.act in (Act.STAY, Act.WAIT) or (decision.act is Act.ASK and self._asked):
                break
            if decision.act in (Act.LEASE, Act.SEND) and self._is_late():
                break
            if decision.act is not Act.ASK and self.dry_run:
                text = f"Would move {name.name} to {decision.target}: {decision.why}."
                if self._would.get(name.name) != text:
                    self._would[name.name] = text
                    yield Tell("would", text, {"name": name.name, "to": decision.target, "why": decision.why})
                break
            went_on = yield from self._step(name, decision)
            if not went_on:
                break
            decision = self._decide(name)
        return decision

    def _step(self, name: Name, decision: Decision) -> Generator[Effect, Any, bool]:
        """Take one step; return whether there may be another in this check."""
        match decision.act:
            case Act.ASK if self._via():
                yield from self._ask()
                return self._asked
            case Act.SEND:
                yield from self._send(name, decision)
                return True
            case Act.LEASE if decision.lease is not None:
                return (yield from self._take(name, decision, decision.lease))
            case Act.RELEASE if decision.lease is not None and self._via():
                return (yield from self._give_back(name, decision, decision.lease))
        return False

    def _take(self, name: Name, decision: Decision, lease: Lease) -> Generator[Effect, Any, bool]:
        memory, asked_at = self.memory, self.clock()
        # Written through the target, it proves that the target serves at this moment.
        version: int = yield WriteLease(name.name, lease, decision.cas, (decision.target,))
        memory.names[name.name] = decide.after_lease(memory.names[name.name], decision, version, asked_at)
        if not version:
            return False
        # Another may have moved it since we looked, and a hold may have been placed: look again, now that we alone may act.
        self._heed((yield Look((), (name.name,), self.view())))
        self._asked = False
        yield from self._ask()
        return self._asked

    def _give_back(self, name: Name, decision: Decision, lease: Lease) -> Generator[Effect, Any, bool]:
        memory, asked_at = self.memory, self.clock()
        version: int = yield WriteLease(name.name, lease, decision.cas, self._via())
        if not version:
            return False
        memory.names[name.name] = decide.after_release(memory.names[name.name])
        memory.leases[name.name] = decide.watch(memory.leases.get(name.name), lease, version, asked_at)
        return True

    def _send(self, name: Name, decision: Decision) -> Generator[Effect, Any, None]:
        memory = self.memory
        reply: Reply = yield Send(name.name, decision.target)
        account = self.accounts.get(name.name, "")
        memory.names[name.name] = decide.after_send(memory.names[name.name], reply, self.clock(), account)
        if reply.consequence is Consequence.LOCKED:
            for other in self.settings.names:
                if other is not name and (other.dyndns.url, other.servers) == (name.dyndns.url, name.servers):
                    old = memory.names.get(other.name, NameMemory())
                    memory.names[other.name] = decide.after_lock(old, reply, self.clock())
        for _ in range(POLLS):
            self._heed((yield Look((), (name.name,), self.view())))
            if memory.places[name.name].agreed == decision.target or memory.names[name.name].sent_at is None:
                return
            yield Pause(POLL)

    # --- the fence

    def _fence(self) -> Generator[Effect, Any, list[Alarm]]:
        """Ask for this node's stop where it leads, nobody can write, and the others can do without it."""
        memory, settings = self.memory, self.settings
        looked = [outcome for outcomes in self._now.values() for outcome in outcomes.items()]
        stalls = [each.why for site, each in looked
                  if site == settings.observer and each.kind is Kind.WRITE and each.role == "active"]  # fmt: skip
        stalled = bool(stalls) and not self._via()
        memory.stalled = memory.stalled + 1 if stalled else 0
        if memory.stalled < settings.rules.fence_after or not stalled:
            return []
        text = f"This node leads the cluster and cannot write ({stalls[0]}): see whether its audit devices are full."
        alarm = Alarm("stalled", text)
        if not settings.fence_file:
            return [alarm]
        standbys = len({site for site, each in looked if site in settings.others and each.role == "standby"})
        if standbys < len(settings.sites) // 2 + 1:
            return [replace(alarm, text=f"{text} It is not stopped: {standbys} of the others stand by, which is no quorum.")]
        if memory.fenced_at is not None and 0 <= self.clock() - memory.fenced_at < FENCE_REPEAT:
            return [alarm]
        memory.fenced_at = self.clock()
        if self.dry_run:
            yield Tell("would", f"Would stop this node's server. {text}", {})
        else:
            yield Fence(text)
            yield Tell("fence", f"{text} Its server is being stopped, so that another takes over.", {})
        return [alarm]

    # --- alarms

    def _alarms(self) -> list[Alarm]:
        memory, settings = self.memory, self.settings
        found = []
        for name in settings.names:
            for site, each in memory.scores.get(name.name, {}).items():
                if decide.standing(each, settings.rules) is Standing.DOWN:
                    found.append(Alarm(f"site {site} {name.name}", f"{site} does not serve {name.name}: {each.why}."))
        if memory.identity:
            found.append(
                Alarm(
                    "identity",
                    "The cluster does not know this checker any more (403): it serves, and this checker cannot move a name. "
                    "Give it a new secret id: run the role endpoint_failover again.",
                )
            )
        elif self._now and not self._via():
            whys = {each.why for outcomes in self._now.values() for each in outcomes.values()}
            found.append(Alarm("cluster", f"No site takes a write ({'; '.join(sorted(whys))}); nothing is moved."))
        found.extend(
            Alarm(f"observer {observer}", f"The checker at {observer} is silent.")
            for observer, watched in memory.views.items()
            # As it was when it was read: between readings, which are rare while all is well, the alarm goes on.
            if decide.is_stale(watched, settings.rules, watched.read_at)
        )
        return found

    def _tell_alarms(self, alarms: Iterable[Alarm]) -> Generator[Effect, Any, None]:
        """Tell alarms that have lasted, and their ends; those that go on, once in a while."""
        memory, now = self.memory, self.clock()
        current = {alarm.key: alarm.text for alarm in alarms}
        for key, text in current.items():
            old = memory.alarms.get(key)
            new = Raised(text, now) if old is None else replace(old, text=text, seen=old.seen + 1, missed=0)
            due = new.told_at is None or not 0 <= now - new.told_at < self.settings.rules.alarm_repeat
            if new.seen >= STEADY and due:
                yield Tell("alarm", text, {"alarm": key})
                new = replace(new, told_at=now)
            memory.alarms[key] = new
        for key in [key for key in memory.alarms if key not in current]:
            old = memory.alarms[key]
            if old.missed + 1 < STEADY:
                memory.alarms[key] = replace(old, seen=0 if old.told_at is None else old.seen, missed=old.missed + 1)
                continue
            if old.told_at is not None:
                yield Tell("cleared", f"No longer so: {old.text}", {"alarm": key})
            del memory.alarms[key]
