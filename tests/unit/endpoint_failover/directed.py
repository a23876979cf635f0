"""Short histories that lead to one difficulty each, where random ones seldom come: the right decision passes all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from endpoint_failover.simulate import Fault

SITES = ("infn", "ifca")


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
    end = at + rng.uniform(4, 9)
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


EVERY: tuple[Callable[[random.Random], Directed], ...] = (
    hiccup,
    election,
    comes_back_as_the_other_dies,
    both_expire,
    the_other_is_held,
    updates_are_refused,
    there_and_back,
    holder_of_the_lease_dies,
)
