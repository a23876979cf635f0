"""What must hold in every history, judged by the world itself: what really served, not what anybody thought."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from endpoint_failover.cycle import Tell
from endpoint_failover.model import Consequence
from endpoint_failover.settings import Settings
from endpoint_failover.simulate import Fault, apply
from endpoint_failover.world import World

# A request that is under way when the world changes is no fault of the decision: it may be so old, in s.
UNDER_WAY = 2.0
# A failure that moves a name was seen by `fall` checks, and told to the others: it was there within the last so many s.
SEEN = 15.0
# A site that was away for so long, while others served, must have been seen to be well for so long before it is a target.
AWAY, BACK = 20.0, 1.9
# How long a name may be at no serving site in a world that stands still, s; and the DynDNS server's lock.
BOUND, LOCK = 60.0, 260.0


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
        updates: how many were sent.
        moves: how many of them changed where a name is.
        most: more than so many updates are not needed, where that is known.
        trouble: whether the DynDNS server ever locked, refused, or was not heard.
    """

    updates: int = 0
    moves: int = 0
    most: float = float("inf")
    trouble: bool = False
    _serves: dict[str, Truth] = field(default_factory=dict)
    _sees: dict[tuple[str, str], Truth] = field(default_factory=dict)
    _alive: dict[str, Truth] = field(default_factory=dict)
    _locked: dict[str, float] = field(default_factory=dict)
    _away: dict[str, tuple[float, float]] = field(default_factory=dict)
    _back: dict[str, float] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _released: dict[str, float] = field(default_factory=dict)
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
        self._released.update(dict.fromkeys(self._held - set(world.holds), now))
        self._held = set(world.holds)
        for observer, process in world.processes.items():
            self._alive.setdefault(observer, Truth(process.alive)).become(process.alive, now)

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
        if hold is not None and world.is_held(target) and now - hold[1] > 0.5:
            raise BrokenError("never to a held site", told)
        if not self._serves[target].within(True, now, UNDER_WAY):
            raise BrokenError("never to a site that does not serve", told)
        if target not in world.settings[observer].name(name).candidates:
            raise BrokenError("never to a site that is no candidate", told)
        if now - self._back.get(target, float("-inf")) < BACK and self._serves[target].now:
            raise BrokenError("no flapping", f"{told}, which came back {now - self._back[target]:.2f} s ago")
        if now - self._locked.get(observer, float("-inf")) < 120:
            raise BrokenError("the lock is waited out", told)
        place = world.primary.records[name]
        if world.primary.up and self._may_stay(world, name, place):
            raise BrokenError("no update that is not needed", f"{told}, and it was well at {place}")
        if self.updates > self.most:
            raise BrokenError("no update that is not needed", f"{told}, the {self.updates}th where {self.most} would do")

    def _may_stay(self, world: World, name: str, place: str) -> bool:
        now = world.now
        some = next(iter(world.settings.values()))
        hold, _ = world.holds.get(place, (None, 0.0))
        held = hold is not None and (hold.until == 0 or hold.until > world.cluster_now() - UNDER_WAY)
        if place not in some.name(name).candidates or held or now - self._released.get(place, float("-inf")) < UNDER_WAY:
            return False
        observers = [observer for observer, truth in self._alive.items() if truth.within(True, now, SEEN)]
        lost = [observer for observer in observers if self._sees[observer, place].within(False, now, SEEN)]
        alive = [observer for observer, truth in self._alive.items() if truth.now]
        return 2 * len(lost) <= len(alive)

    def answered(self, world: World, observer: str, name: str, consequence: Consequence) -> None:
        if consequence is not Consequence.SENT:
            self.trouble = True
        if consequence is Consequence.LOCKED:
            self._locked[observer] = world.now

    def moved(self, world: World, name: str, source: str, target: str) -> None:
        self.moves += 1

    def told(self, world: World, observer: str, event: Tell) -> None:
        pass

    def at_rest(self, world: World) -> None:
        """Judge a world that has stood still for `BOUND`, or `LOCK` where the DynDNS server gave trouble."""
        for observer, settings in world.settings.items():
            for name in settings.names:
                target = self._should_be(world, observer, name.name)
                place = world.primary.records[name.name]
                fine = place in name.candidates and world.serves(place) and not world.is_held(place)
                if target and not fine:
                    text = f"at {world.now:.0f} s {name.name} is at {place}, and {observer} could move it to {target}"
                    raise BrokenError("within a bound at a serving site", text)
                seen = world.secondary.up and world.linked(world.primary_at, world.secondary_at)
                if seen and world.primary.up and world.secondary.records != world.primary.records:
                    raise BrokenError("within a bound at a serving site", "the secondary was left behind")

    def _should_be(self, world: World, observer: str, name: str) -> str:
        """Return a site where an observer should have put a name; empty where it could not."""
        able = (
            world.processes[observer].alive
            and world.dyndns_up
            and world.primary.up
            and world.primary.takes_updates
            and world.identity
            and world.linked(observer, world.primary_at)
        )
        writers = [
            each
            for each, process in world.processes.items()
            if process.alive and any(world.sees(each, s) for s in world.sites)
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
    **world_settings: float,
) -> Invariants:
    """Play a history, let it come to rest, and judge it.

    Args:
        history: faults.
        settings: of each observer.
        seed: of all that is random.
        most: updates that are needed at most, where that is known.
        world_settings: fields of the World.

    Raises:
        BrokenError: an invariant does not hold.
    """
    rng = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    judge = Invariants(most=most)
    world = World.make(settings, rng, judge, rng.choice(("infn", "ifca")))
    for key, value in world_settings.items():
        setattr(world, key, value)
    for fault in history:
        world.later(fault.at, lambda fault=fault: apply(world, fault))  # type: ignore[misc]
    world.run(max((fault.at for fault in history), default=0.0))
    world.loss = world.answer_loss = 0.0
    world.run(world.now + BOUND + world.lag)  # and as long as the secondary lags
    if judge.trouble:
        world.run(world.now + LOCK)
    world.monitor.changed(world)
    judge.at_rest(world)
    return judge
