"""Versions of the decision that are wrong in one way each, to prove that the invariants notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from endpoint_failover import decide
from endpoint_failover.cycle import Checker, Fence, Tell, WriteLease
from endpoint_failover.model import NEVER, Act, Decision, Kind, Outcome, Phase, Score, Standing
from endpoint_failover.settings import Rules

from tests.unit.endpoint_failover import directed
from tests.unit.endpoint_failover.simulation.invariants import (
    BOUND,
    CANDIDATE,
    FENCE,
    FIGHTING,
    FLAPPING,
    HELD,
    LOCK,
    NEEDED,
    RATE,
    SERVING,
    STALLED,
)


@dataclass(frozen=True)
class Mutant:
    """A wrong decision.

    Args:
        name: what is wrong with it.
        breaks: the invariant that must notice.
        where: the module whose function is replaced.
        function: the function's name.
        instead: what takes its place.
        also: further functions, as (where, function, instead).
        history: kind of directed history that leads there; None: random ones do.
    """

    name: str
    breaks: str
    where: Any
    function: str
    instead: Callable[..., Any]
    also: tuple[tuple[Any, str, Callable[..., Any]], ...] = ()
    history: Callable[[random.Random], directed.Directed] | None = None

    @contextmanager
    def __call__(self) -> Generator[None]:
        with ExitStack() as stack:
            for where, function, instead in ((self.where, self.function, self.instead), *self.also):
                stack.enter_context(mock.patch.object(where, function, instead))
            yield


_decide, _is_eligible, _fault = decide.decide, decide.is_eligible, decide._fault
_after_send, _score, _next_step, _target = decide.after_send, decide.score, decide._next_step, decide._target
_trouble, _standing, _obstacle = decide._trouble, decide.standing, decide._obstacle


def _alone(s: decide.Situation, site: str) -> bool:
    return decide.standing(s.own.get(site, Score()), s.rules) is Standing.DOWN


def _any_candidate(s: decide.Situation) -> str:
    return next((site for site in s.name.candidates if site not in s.place.places), "")


def _home_again(s: decide.Situation) -> tuple[str, str]:
    first = s.name.candidates[0]
    if s.place.agreed not in (None, first) and decide.is_eligible(s, first):
        return "down", f"{first} is the first choice"
    return _trouble(s)


def _one_failure(old: dict[str, Score], outcomes: dict[str, Outcome], rules: Rules, now: float) -> dict[str, Score]:
    return _score(old, outcomes, replace(rules, fall=1), now)


def _standing_at_once(history: Score, rules: Rules) -> Standing:
    return _standing(history, replace(rules, fall=1))


def _one_success(old: dict[str, Score], outcomes: dict[str, Outcome], rules: Rules, now: float) -> dict[str, Score]:
    return _score(old, outcomes, replace(rules, rise=1), now)


def _every_failure(old: dict[str, Score], outcomes: dict[str, Outcome], rules: Rules, now: float) -> dict[str, Score]:
    """Count every failure, and trust at the first success."""
    new = {}
    for site, outcome in outcomes.items():
        before = old.get(site, Score())
        if outcome.serves:
            new[site] = decide._succeeded(before, replace(rules, rise=1), now)
        else:
            new[site] = decide._failed(before, before.fails + 1, outcome.why, rules, now)
    return {**old, **new}


def _no_lease(s: decide.Situation, target: str, why: str, lease: Any, alarms: Any) -> Decision:
    memory = replace(s.memory, target=target, source=s.place.places[0])
    return Decision(Act.SEND, why, memory, target=target, alarms=alarms)


def _believes(s: decide.Situation) -> Decision:
    """Believe the DynDNS server's word: the name is where the last update was sent to, whatever DNS says."""
    lease = s.lease.value if s.lease is not None else None
    said = s.memory.target if s.memory.sent_at is not None else lease.target if lease and lease.phase is Phase.DONE else ""
    return _decide(replace(s, place=replace(s.place, primary=said, places=(said,))) if said else s)


def _impatient(memory: Any, reply: Any, now: float, account: str) -> Any:
    return replace(_after_send(memory, reply, now, account), not_before=NEVER, lock=0.0)


def _sends_anyway(s: decide.Situation) -> Decision:
    """Send without looking at where the name is, as a plain cron script does every minute."""
    decision = _decide(s)
    eligible = next((site for site in s.name.candidates if decide.is_eligible(s, site)), "")
    if decision.act is Act.STAY and eligible and all(s.now - sent > 60 for sent in s.memory.sends):
        return replace(decision, act=Act.SEND, target=eligible)
    return decision


def _respects_leases_for_ever(s: decide.Situation, target: str, why: str, lease: Any, alarms: Any) -> Decision:
    return _next_step(replace(s, rules=replace(s.rules, lease_time=1e9)), target, why, lease, alarms)


def _takes_anywhere(self: Checker, name: Any, decision: Decision, lease: Any) -> Generator[Any, Any, bool]:
    """Write the lease through any site, so that it proves nothing of the target."""
    memory, asked_at = self.memory, self.clock()
    version: int = yield WriteLease(name.name, lease, decision.cas, self._via())
    memory.names[name.name] = decide.after_lease(memory.names[name.name], decision, version, asked_at)
    self._asked = False
    yield from self._ask()
    return self._asked


def _waits_for_all_servers(s: decide.Situation) -> tuple[str, str]:
    return ("", "") if s.place.silent or s.place.agreed is None else _trouble(s)


def _unheld(site: str, holds: Any, cluster_now: float) -> bool:
    return False


def _held_for_ever(site: str, holds: Any, cluster_now: float) -> bool:
    return site in holds


def _everywhere(s: decide.Situation) -> str:
    order = (*s.sites, *s.name.candidates)
    return next((site for site in order if _is_eligible(s, site)), "")


def _never_dead(watched: Any, rules: Any, now: float) -> bool:
    return False


def _no_wait(tries: int, least: float, most: float) -> float:
    return 0.0


def _never_too_many(s: decide.Situation) -> str:
    return _obstacle(replace(s, memory=replace(s.memory, sends=())))


def _never_fences(self: Checker) -> Generator[Any, Any, list[Any]]:
    yield from ()
    return []


def _fences_anyway(self: Checker) -> Generator[Any, Any, list[Any]]:
    """Stop a node that leads and cannot write, whether others can take over or not."""
    own = self._now.get(self.settings.names[0].name, {}).get(self.settings.observer)
    stalled = own is not None and own.kind is Kind.WRITE and own.role == "active"
    self.memory.stalled = self.memory.stalled + 1 if stalled else 0
    if self.memory.stalled == self.settings.rules.fence_after:
        yield Fence("stalled")
        yield Tell("fence", "Stopped.")
    return []


def _never_late(self: Checker) -> bool:
    return False


MUTANTS = (
    Mutant("does not heed holds", HELD, decide, "is_held", _unheld, history=directed.the_other_is_held),
    Mutant(
        "moves to the next in the list, whether it serves or not",
        SERVING,
        decide,
        "_target",
        _any_candidate,
        also=((Checker, "_take", _takes_anywhere),),
        history=directed.both_expire,
    ),
    Mutant("takes any site that serves", CANDIDATE, decide, "_target", _everywhere),
    Mutant(
        "trusts a site at its first success",
        FLAPPING,
        decide,
        "score",
        _one_success,
        history=directed.comes_back_as_the_other_dies,
    ),
    Mutant("does not wait out the lock", LOCK, decide, "after_send", _impatient, history=directed.updates_are_refused),
    Mutant("is a majority by itself", NEEDED, decide, "is_down", _alone),
    Mutant(
        "moves at the first failure",
        NEEDED,
        decide,
        "score",
        _one_failure,
        also=((decide, "standing", _standing_at_once),),
        history=directed.hiccup,
    ),
    Mutant("goes home when it can", NEEDED, decide, "_trouble", _home_again),
    Mutant("sends every minute", NEEDED, decide, "decide", _sends_anyway),
    Mutant(
        "takes an election for a fault of the site",
        NEEDED,
        decide,
        "score",
        _every_failure,
        also=((decide, "is_down", _alone),),
        history=directed.election,
    ),
    Mutant("moves without a lease", NEEDED, decide, "_next_step", _no_lease),
    Mutant("believes the DynDNS server", BOUND, decide, "decide", _believes, history=directed.there_and_back),
    Mutant("never ends a hold", BOUND, decide, "is_held", _held_for_ever, history=directed.hold_runs_out),
    Mutant(
        "respects a dead observer's lease for ever",
        BOUND,
        decide,
        "_next_step",
        _respects_leases_for_ever,
        history=directed.holder_of_the_lease_dies,
    ),
    Mutant("waits for all DNS servers", BOUND, decide, "_trouble", _waits_for_all_servers),
    Mutant("counts the dead", BOUND, decide, "is_stale", _never_dead, history=directed.most_checkers_are_dead),
    Mutant("is a majority by itself, and so fights", FIGHTING, decide, "is_down", _alone, history=directed.two_are_cut),
    Mutant(
        "never tires",
        RATE,
        decide,
        "_back_off",
        _no_wait,
        also=((decide, "_obstacle", _never_too_many),),
        history=directed.updates_are_forgotten,
    ),
    Mutant(
        "fences where nobody can take over",
        FENCE,
        Checker,
        "_fence",
        _fences_anyway,
        history=directed.leader_stalls_and_another_is_off,
    ),
    Mutant("never fences", STALLED, Checker, "_fence", _never_fences, history=directed.leader_stalls),
    Mutant(
        "acts on what it saw before it stood still", NEEDED, Checker, "_is_late", _never_late, history=directed.frozen_alone
    ),
)
