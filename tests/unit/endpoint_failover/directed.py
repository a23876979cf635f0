"""Short histories that lead to one difficulty each, where random ones seldom come: the right decision passes all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from endpoint_failover.simulate import Fault

SITES = ("infn", "ifca")
ALL = ("iisas", *SITES)
# Nothing: the world is left as it is until then.
REST = Fault(100, "clock", "iisas", "0")


@dataclass(frozen=True)
class Directed:
    """A history with what it is played in.

    Args:
        history: faults.
        most: updates that are needed at most.
        world: fields of the World.
    """

    history: list[Fault]
    most: float = float("inf")
    world: dict[str, float] = field(default_factory=dict)


def hiccup(rng: random.Random) -> Directed:
    """A site fails once: too short for three failures in a row."""
    at, site = rng.uniform(10, 14), rng.choice(SITES)
    return Directed([Fault(at, "server", site, "dead"), Fault(at + 0.9, "server", site, "ok")], most=0)


def election(rng: random.Random) -> Directed:
    """Nobody leads for a few seconds, since every node is slow: every site fails, none of itself."""
    at = rng.uniform(10, 14)
    end = at + rng.uniform(3, 5.5)  # longer, and whoever leads is taken for stalled (fence_after)
    cut = [Fault(at, "server", site, "slow") for site in ("iisas", "infn", "ifca")]
    back = [Fault(end + rng.uniform(0, 0.4), "server", site, "ok") for site in ("iisas", "infn", "ifca")]
    return Directed(sorted([*cut, *back], key=lambda fault: fault.at), most=0)


def comes_back_as_the_other_dies(rng: random.Random) -> Directed:
    """A site that was away for long comes back just before the other dies."""
    first, second = rng.sample(SITES, 2)
    back = rng.uniform(50, 55)
    return Directed(
        [
            Fault(10, "server", first, "dead"),
            Fault(back, "server", first, "ok"),
            Fault(back - rng.uniform(0.5, 3.5), "server", second, "dead"),
        ]
    )


def both_expire(rng: random.Random) -> Directed:
    """The certificates of both candidates end, one after the other; the cluster goes on."""
    first, second = rng.sample(SITES, 2)
    at = rng.uniform(10, 14)
    later = at + rng.uniform(3, 9)
    return Directed([Fault(at, "certificate", first, "expired"), Fault(later, "certificate", second, "expired")])


def the_other_is_held(rng: random.Random) -> Directed:
    """One candidate is held when the other dies."""
    first, second = rng.sample(SITES, 2)
    return Directed([Fault(5, "hold", first, "0"), Fault(rng.uniform(10, 14), "server", second, "dead")])


def updates_are_refused(rng: random.Random) -> Directed:
    """The primary refuses the DynDNS server's key, and whoever holds the name dies."""
    return Directed(
        [
            Fault(5, "dns", "primary", "refuses updates"),
            *(Fault(rng.uniform(10, 12), "hold", site, "0") for site in rng.sample(SITES, 1)),
            Fault(rng.uniform(60, 100), "dns", "primary", "up"),
        ]
    )


def there_and_back(rng: random.Random) -> Directed:
    """A name is moved there and back while the secondary lags: the DynDNS server sees that nothing has to change."""
    first, second = rng.sample(SITES, 2)
    at = rng.uniform(10, 12)
    return Directed(
        [
            Fault(at, "hold", first, "0"),
            Fault(at + 40, "hold", first, "released"),
            Fault(at + 40, "hold", second, "0"),
        ],
        world={"lag": 150.0},
    )


def holder_of_the_lease_dies(rng: random.Random) -> Directed:
    """Whoever has just taken the lease is killed before it sends the update."""
    at = rng.uniform(10, 11)
    first = rng.choice(SITES)
    killed = at + rng.uniform(2.0, 4.5)
    other = rng.choice(("iisas", *SITES))
    return Directed([Fault(at, "server", first, "dead"), Fault(killed, "checker", other, "killed")])


def two_are_cut(rng: random.Random) -> Directed:
    """The two candidates are cut from each other, and both see the third, whose checker is dead: one against one.

    Where the third leads all of them serve. Else whoever is cut from the leader does not, and is left once.
    """
    at = rng.uniform(10, 14)
    return Directed([Fault(at, "checker", "iisas", "killed"), Fault(at + 20, "link", "infn-ifca", "cut"), REST], most=1)


def updates_are_forgotten(rng: random.Random) -> Directed:
    """The DynDNS server says that all is well and does nothing, for as long as one might go on asking it."""
    first = rng.choice(SITES)
    return Directed(
        [
            Fault(5, "dyndns", "", "forgets"),
            Fault(rng.uniform(10, 14), "hold", first, "0"),
            Fault(400, "dyndns", "", "up"),
        ]
    )


def leader_stalls(rng: random.Random) -> Directed:
    """Whoever leads cannot write, and does not step down."""
    at = rng.uniform(10, 14)
    return Directed([Fault(at + 0.1 * number, "server", site, "stalled") for number, site in enumerate(ALL)])


def leader_stalls_and_another_is_off(rng: random.Random) -> Directed:
    """Whoever leads cannot write, and a second site is off: the third could not lead alone."""
    at, off = rng.uniform(10, 14), rng.choice(ALL)
    stalled = [Fault(at + 10, "server", site, "stalled") for site in ALL if site != off]
    return Directed([Fault(at, "power", off, "off"), *stalled])


def hold_runs_out(rng: random.Random) -> Directed:
    """A hold runs out before the other candidate dies."""
    first, second = rng.sample(SITES, 2)
    return Directed([Fault(5, "hold", first, "10"), Fault(rng.uniform(30, 40), "server", second, "dead")])


def most_checkers_are_dead(rng: random.Random) -> Directed:
    """One checker is left when the candidates die, one after the other."""
    (first, second), left = rng.sample(SITES, 2), rng.choice(ALL)
    at = rng.uniform(40, 50)
    return Directed(
        [
            *(Fault(5, "checker", site, "killed") for site in ALL if site != left),
            Fault(at, "certificate", first, "expired"),
            Fault(at + 40, "certificate", first, "valid"),
            Fault(at + 60, "certificate", second, "expired"),
        ]
    )


def frozen_while_it_moves(rng: random.Random) -> Directed:
    """A checker stands still for a while when a site dies, and goes on after the site is back."""
    at, frozen = rng.uniform(10, 11), rng.choice(ALL)
    first = rng.choice(SITES)
    return Directed(
        [
            Fault(at, "server", first, rng.choice(("dead", "hung"))),
            Fault(at + rng.uniform(1, 8), "checker", frozen, "frozen"),
            Fault(at + rng.uniform(9, 15), "server", first, "ok"),
            Fault(at + rng.uniform(20, 80), "checker", frozen, "started"),
        ]
    )


def frozen_alone(rng: random.Random) -> Directed:
    """The same, and nobody else is there to see that the site is back."""
    directed = frozen_while_it_moves(rng)
    frozen = next(fault.who for fault in directed.history if fault.to == "frozen")
    others = [Fault(1, "checker", site, "killed") for site in ALL if site != frozen]
    return Directed([*others, *directed.history])


EVERY: tuple[Callable[[random.Random], Directed], ...] = (
    hiccup,
    election,
    comes_back_as_the_other_dies,
    both_expire,
    the_other_is_held,
    updates_are_refused,
    there_and_back,
    holder_of_the_lease_dies,
    two_are_cut,
    hold_runs_out,
    most_checkers_are_dead,
    updates_are_forgotten,
    leader_stalls,
    leader_stalls_and_another_is_off,
    frozen_while_it_moves,
    frozen_alone,
)
