"""What must hold in every history, judged by the world itself: what really served, not what anybody thought."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from endpoint_failover.cycle import Tell
from endpoint_failover.model import Consequence
from endpoint_failover.settings import Settings
from endpoint_failover.simulate import Fault, apply
from endpoint_failover.world import World

HELD = "never to a held site"
SERVING = "never to a site that does not serve"
CANDIDATE = "never to a site that is no candidate"
FLAPPING = "no flapping"
FIGHTING = "no fighting"
LOCK = "the lock is waited out"
RATE = "the rate is bounded"
NEEDED = "no update that is not needed"
BOUND = "within a bound at a serving site"
FENCE = "only a stalled leader that others can replace is fenced"
STALLED = "a leader that cannot write is stopped"

# A request that is under way when the world changes is no fault of the decision: it may be so old, in s.
UNDER_WAY = 2.0
# The cluster's clock is that of the node that leads, and a checker has it from its last write.
STAMP = 4.0
# A failure that moves a name was seen by `fall` checks, and told to the others: it was there within the last so many s.
SEEN = 15.0
# A site that was away for so long, while others served, must have been seen to be well `rise` times before it is a target;
# clocks run unevenly, so that share of the time that this takes is judged.
AWAY, SHARE = 20.0, 0.9
# In a world that has not changed for so long, a name moves once at most; s.
STILL = 20.0
# The DynDNS server refuses the whole domain for so long, s.
LOCKED = 120.0
RATE_WINDOW = 600.0
# How long a name may be at no serving site in a world that stands still, s; where the DynDNS server was locked or updates
# got lost; and where it refused a checker. The transfer to the secondary takes as long as it does.
BOUND_WELL, BOUND_TROUBLE, BOUND_REFUSED = 60.0, 420.0, 1300.0
# A world that is as it should be must stay so for so long, s.
CALM = 12.0


class BrokenError(AssertionError):
    """An invariant does not hold.

    Args:
        invariant: which.
        text: what happened.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


@dataclass
class Truth:
    """When something last was so, and last was not."""

    now: bool
    yes: float = float("-inf")
    no: float = float("-inf")

    def become(self, so: bool, at: float) -> None:
        if self.now:
            self.yes = at
        else:
            self.no = at
        self.now = so

    def within(self, so: bool, at: float, seconds: float) -> bool:
        """Whether it was `so` at some time in the last seconds."""
        return self.now == so or at - (self.yes if so else self.no) <= seconds


@dataclass
class Invariants:
    """A Monitor that raises BrokenError.

    Attributes:
        only: the invariant that is looked at; empty: all.
        updates: how many were sent.
        moves: how many of them changed where a name is.
        most: more than so many updates are not needed, where that is known.
        trouble: whether the DynDNS server ever locked, refused, was not heard, or did not what it said.
        refused: whether it ever refused a checker for good.
    """

    only: str = ""
    updates: int = 0
    moves: int = 0
    most: float = float("inf")
    trouble: bool = False
    refused: bool = False
    _serves: dict[str, Truth] = field(default_factory=dict)
    _sees: dict[tuple[str, str], Truth] = field(default_factory=dict)
    _alive: dict[str, Truth] = field(default_factory=dict)
    _locked: dict[str, float] = field(default_factory=dict)
    _away: dict[str, tuple[float, float]] = field(default_factory=dict)
    _back: dict[str, float] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _released: dict[str, float] = field(default_factory=dict)
    _state: tuple[object, ...] = ()
    _changed_at: float = 0.0
    _clock: tuple[str, float] = ("", 0.0)
    _clock_at: float = float("-inf")
    _moved_at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _sent_at: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    _fenceable: dict[str, Truth] = field(default_factory=dict)
    _some_served: float = 0.0
    _at: float = 0.0

    def changed(self, world: World) -> None:
        now = world.now
        if any(truth.now for truth in self._serves.values()):
            self._some_served += now - self._at
        self._at = now
        for site in world.sites:
            serves = world.serves(site)
            self._come_and_go(site, serves, now)
            self._serves.setdefault(site, Truth(serves)).become(serves, now)
            for observer in world.processes:
                sees = world.sees(observer, site)
                self._sees.setdefault((observer, site), Truth(sees)).become(sees, now)
            # What a node is that shows no valid certificate, nobody can tell: it is neither fenced nor relied on.
            at = world.sites[site]
            stalled = world.leader == site and at.server in ("stalled", "slow") and at.certificate
            others = sum(
                world.takes_part(other) and world.linked(site, other) and world.sites[other].certificate
                for other in world.sites
                if other != site
            )
            fenceable = stalled and 2 * others > len(world.sites)
            self._fenceable.setdefault(site, Truth(fenceable)).become(fenceable, now)
        clock = (world.leader, world.clock_skew.get(world.leader, 0.0))
        if clock != self._clock:
            self._clock, self._clock_at = clock, now
        self._released.update(dict.fromkeys(self._held - set(world.holds), now))
        self._held = set(world.holds)
        for observer, process in world.processes.items():
            # Whoever the cluster does not know is dead to the others.
            alive = process.works and observer not in world.revoked
            self._alive.setdefault(observer, Truth(alive)).become(alive, now)
        state = (
            *(truth.now for truth in (*self._sees.values(), *self._alive.values())),
            *world.holds.items(),
            world.primary.state,
            world.secondary.state,
            world.dyndns,
            *sorted(world.revoked),
            self._clock,
        )
        if state != self._state:
            self._state, self._changed_at = state, now

    def _come_and_go(self, site: str, serves: bool, now: float) -> None:
        before = self._serves.get(site)
        if before is None or before.now == serves:
            return
        if not serves:
            self._away[site] = (now, self._some_served)
        elif self._some_served - self._away[site][1] >= AWAY:
            self._back[site] = now

    def sent(self, world: World, observer: str, name: str, target: str) -> None:
        self.updates += 1
        now = world.now
        told = f"at {now:.2f} s {observer} sends {name} to {target}"
        hold = world.holds.get(target)
        if hold is not None and world.is_held(target) and now - max(hold[1], self._clock_at) > STAMP:
            self._broken(HELD, told)
        if not self._serves[target].within(True, now, UNDER_WAY):
            self._broken(SERVING, told)
        if target not in world.settings[observer].name(name).candidates:
            self._broken(CANDIDATE, told)
        rules = world.settings[observer].rules
        back = SHARE * (rules.rise - 1) * rules.retry
        if now - self._back.get(target, float("-inf")) < back and self._serves[target].now:
            self._broken(FLAPPING, f"{told}, which came back {now - self._back[target]:.2f} s ago")
        if now - self._locked.get(observer, float("-inf")) < LOCKED:
            self._broken(LOCK, told)
        self._count(world, observer, name, told)
        place = world.primary.records[name]
        calm = [at for at in self._moved_at[name] if at - self._changed_at > STILL]
        if calm and place != target and not self.trouble:
            self._broken(FIGHTING, f"{told}, and nothing has happened since it was moved to {place}")
        if world.primary.up and self._may_stay(world, name, place):
            self._broken(NEEDED, f"{told}, and it was well at {place}")
        if self.updates > self.most:
            self._broken(NEEDED, f"{told}, the {self.updates}th where {self.most} would do")

    def _broken(self, invariant: str, text: str) -> None:
        if self.only in ("", invariant):
            raise BrokenError(invariant, text)

    def _count(self, world: World, observer: str, name: str, told: str) -> None:
        sent = self._sent_at[observer, name]
        sent.append(world.now)
        lately = [at for at in sent if world.now - at < RATE_WINDOW]
        most = world.settings[observer].rules.max_sends
        if len(lately) > most:
            self._broken(RATE, f"{told}, the {len(lately)}th in ten minutes")

    def _may_stay(self, world: World, name: str, place: str) -> bool:
        now = world.now
        some = next(iter(world.settings.values()))
        hold, _ = world.holds.get(place, (None, 0.0))
        held = hold is not None and (hold.until == 0 or hold.until > world.cluster_now() - UNDER_WAY)
        held = held or (hold is not None and now - self._clock_at < STAMP)
        if place not in some.name(name).candidates or held or now - self._released.get(place, float("-inf")) < UNDER_WAY:
            return False
        observers = [observer for observer, truth in self._alive.items() if truth.within(True, now, SEEN)]
        lost = [
            observer
            for observer in observers
            if self._sees[observer, place].within(False, now, SEEN)
            # Now and then as many probes are lost in a row, for no reason, as prove a failure.
            or sum(now - at <= SEEN for at in world.losses.get((observer, place), ())) >= some.rules.fall
        ]
        alive = [observer for observer, truth in self._alive.items() if truth.now]
        return 2 * len(lost) <= len(alive)

    def answered(self, world: World, observer: str, name: str, consequence: Consequence) -> None:
        if consequence is not Consequence.SENT or world.dyndns != "up":
            self.trouble = True
        self.refused |= consequence is Consequence.STOP
        if consequence is Consequence.LOCKED:
            self._locked[observer] = world.now

    def moved(self, world: World, name: str, source: str, target: str) -> None:
        self.moves += 1
        self._moved_at[name].append(world.now)

    def told(self, world: World, observer: str, event: Tell) -> None:
        if event.event == "fence" and not self._fenceable[observer].within(True, world.now, SEEN):
            self._broken(FENCE, f"at {world.now:.2f} s {observer}: {event.text}")

    def at_rest(self, world: World) -> None:
        """Judge a world that has stood still for long enough."""
        for site, process in world.processes.items():
            if process.works and self._fenceable[site].now:
                self._broken(STALLED, f"at {world.now:.0f} s {site} leads and commits nothing")
        transfers = world.secondary.takes_updates and world.linked(world.primary_at, world.secondary_at)
        for observer, settings in world.settings.items():
            for name in settings.names:
                target = self._should_be(world, observer, name.name)
                place = world.primary.records[name.name]
                fine = place in name.candidates and world.serves(place) and not world.is_held(place)
                if target and not fine:
                    text = f"at {world.now:.0f} s {name.name} is at {place}, and {observer} could move it to {target}"
                    self._broken(BOUND, text)
                if transfers and world.primary.up and world.secondary.records != world.primary.records:
                    self._broken(BOUND, "the secondary was left behind")

    def come_to_rest(self, world: World) -> None:
        """Let time pass until a world that changes no more is as it should be, and then some; judge it at the end."""
        began = world.now
        calm_since: float | None = None
        while True:
            world.run(world.now + 2.0)
            world.monitor.changed(world)
            try:
                self.at_rest(world)
            except BrokenError:
                calm_since = None
                bound = BOUND_REFUSED if self.refused else BOUND_TROUBLE if self.trouble else BOUND_WELL
                if world.now - began >= bound + world.lag:
                    raise
            else:
                calm_since = world.now if calm_since is None else calm_since
                if world.now - calm_since >= CALM:
                    return

    def _should_be(self, world: World, observer: str, name: str) -> str:
        """Return a site where an observer should have put a name; empty where it could not."""
        able = (
            world.processes[observer].works
            and world.dyndns == "up"
            and world.primary.takes_updates
            # From a secondary that is reached and left behind the DynDNS server learns what is wrong, for good.
            and world.secondary.state != "refuses updates"
            and observer not in world.revoked
            and world.linked(observer, world.primary_at)
        )
        writers = [
            each
            for each, process in world.processes.items()
            if process.works and each not in world.revoked and any(world.sees(each, s) for s in world.sites)
        ]
        if not able or observer not in writers:
            return ""
        for site in world.settings[observer].name(name).candidates:
            lost = sum(not world.sees(each, site) for each in writers)
            if world.sees(observer, site) and not world.is_held(site) and 2 * lost <= len(writers):
                return site
        return ""


def play(
    history: Sequence[Fault],
    settings: dict[str, Settings],
    seed: int,
    *,
    most: float = float("inf"),
    only: str = "",
    **world_settings: float,
) -> Invariants:
    """Play a history, let it come to rest, and judge it.

    Args:
        history: faults.
        settings: of each observer.
        seed: of all that is random.
        most: updates that are needed at most, where that is known.
        only: the invariant that is looked at; empty: all.
        world_settings: fields of the World.

    Raises:
        BrokenError: an invariant does not hold.
    """
    rng = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    judge = Invariants(most=most, only=only)
    world = World.make(settings, rng, judge, rng.choice(("infn", "ifca")))
    for key, value in world_settings.items():
        setattr(world, key, value)
    for fault in history:
        world.later(fault.at, lambda fault=fault: apply(world, fault))  # type: ignore[misc]
    world.run(max((fault.at for fault in history), default=0.0))
    world.loss = world.answer_loss = 0.0
    judge.come_to_rest(world)
    return judge
