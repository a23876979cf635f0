"""Measure what it takes to move a generic name away from a site that fails, beside the plain design of today's service.

Needs a lab that stands (`make lab`), and takes about an hour and a half; LAB_NAME and LAB_SUBNET name another lab. For
each of at least 30 unplanned failures of the site that holds the name: (a) from the failure until both DNS servers give
a site that serves, (b) from the failure until a user's program is served again, whose resolver keeps an address for its
TTL of 60 s. The plain design (bench/plain_failover, started by cron each minute) meets the same kinds of failure in the
same lab, begun at moments spread evenly over its minute; in both series the moments are spread evenly over the TTL.
Then moves on purpose, under the same user. Prints medians, worst cases and ratios; writes bench/results/failover.json
and docs/img/failover-*.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "molecule/shared")]

from faults import Faults  # noqa: E402
from lab import Lab, wait_for  # noqa: E402
from rounds import HEADER, NAMES, Round, Stage  # noqa: E402
from watch import AS_THE_CHECKER  # noqa: E402

from bench.plot import strips  # noqa: E402

TTL = 60.0
CRON = 60.0
KINDS: dict[str, Callable[[Faults], Callable[[str], AbstractContextManager[float]]]] = {
    "server killed": lambda faults: faults.killed,
    "server hangs": lambda faults: faults.hung,
    "host cut from everyone": lambda faults: faults.cut_from_everyone,
    "server sealed": lambda faults: faults.sealed,
    "host stopped": lambda faults: faults.host_stopped,
}
# Where the plain design runs: a host that is no candidate, as the DynDNS server's site is today.
PLAIN_HOST = "vault-iisas"
PLAIN = "/usr/local/lib/plain_failover"
PLAIN_CRON = "/etc/cron.d/plain-failover"
PLAIN_STATE = "/var/lib/endpoint-failover/plain-last"
PLAIN_TIMEOUT = 5.0


@dataclass
class Figures:
    """Everything that is measured, in s."""

    ours: list[Round] = field(default_factory=list)
    plain: list[Round] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    load_average: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Move:
    """A move on purpose.

    Args:
        target: site.
        took: s from the command until all DNS servers gave the new address, as the command says.
        operations: of the user, until they were served there.
        failed: how many first attempts failed.
    """

    target: str
    took: float
    operations: int
    failed: int


def spread(number: int, count: int, whole: float) -> float:
    """Return the number's of `count` moments spread evenly over a time, in an order that mixes early and late ones."""
    step = next(each for each in range(count * 5 // 8, 2 * count) if _coprime(each, count))
    return whole * ((number * step) % count + 0.5) / count


def _coprime(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1


def measure_ours(stage: Stage, count: int, users: int) -> list[Round]:
    """Measure our checkers; in every second failure the site leads the cluster as well.

    Args:
        stage: the lab.
        count: failures.
        users: in how many of them, the first, the user is waited for, whose resolver keeps an address for its TTL.
    """
    print(f"\nthe checkers\n{HEADER}", flush=True)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        if number % 2:
            stage.lead_where_the_name_is()
        ttl = spread(number, users, TTL) if number < users else None
        stage.strike(kind, KINDS[kind](stage.faults), within=120, wait_for_user=number < users, ttl=ttl)
    return stage.rounds


def measure_moves(stage: Stage, count: int) -> list[Move]:
    """Measure moves on purpose: each counts until the user's resolver has followed."""
    found = []
    name = stage.names[0]
    for _ in range(count):
        target = next(site for site in name.candidates if site != stage.site_of(name))
        began = time.monotonic()
        stage.lab.ssh(f"vault-{target}", f"{AS_THE_CHECKER} endpoint-failover move --to {target} --name {name.name}")
        took = time.monotonic() - began
        wait_for(partial(stage.user_is_at, target), TTL + 20, "the user's resolver to follow")
        stage.ready()
        user = stage.user.experience(began)
        found.append(Move(target, round(took, 2), user.operations, user.failed))
        print(f"moved to {target} in {took:.1f} s: {user.failed} of {user.operations} operations failed", flush=True)
    return found


# --- the plain design --------------------------------------------------------------------------------------------------


@contextmanager
def plain_design(lab: Lab) -> Iterator[None]:
    """Have cron run the plain design on one host, and no checker of ours anywhere."""
    checkers = Stage(lab, NAMES[:1]).checkers
    name = NAMES[0]
    settings = {
        "name": name.name,
        "port": name.port,
        "ca": "/etc/endpoint-failover/ca.crt",
        "candidates": [[site, lab.addresses[f"vault-{site}"]] for site in name.candidates],
        "timeout": PLAIN_TIMEOUT,
        "dyndns": {
            "url": "https://dyndns-iisas.lab.test/nic/update",
            "address": lab.addresses["dyndns-iisas"],
            "secret_file": f"/etc/endpoint-failover/dyndns/{name.name}",
        },
        "state": PLAIN_STATE,
    }
    for node in lab.nodes:
        checkers.halt(node)
    try:
        lab.ssh(PLAIN_HOST, f"cat > {PLAIN} && chmod 0755 {PLAIN}", stdin=(PROJECT / "bench/plain_failover").read_text())
        lab.ssh(PLAIN_HOST, f"cat > {PLAIN}.json", stdin=json.dumps(settings))
        cron = f"* * * * * endpoint-failover {PLAIN} {PLAIN}.json\n"
        lab.ssh(PLAIN_HOST, f"rm -f {PLAIN_STATE}; cat > {PLAIN_CRON}", stdin=cron)
        yield
    finally:
        lab.ssh(PLAIN_HOST, f"rm -f {PLAIN_CRON} {PLAIN} {PLAIN}.json {PLAIN_STATE}")
        for node in lab.nodes:
            checkers.resume(node)


def measure_plain(lab: Lab, count: int) -> list[Round]:
    """Measure the plain design on failures of its first choice, where it always is while that serves."""
    with plain_design(lab):
        stage = Stage(lab, NAMES[:1], checkers=False)
        first = stage.names[0].candidates[0]
        print(f"\nthe plain design\n{HEADER}", flush=True)
        with stage.watched():
            for number in range(count):
                kind = list(KINDS)[number % len(KINDS)]
                wait_for(lambda: stage.site_of(stage.names[0]) == first, CRON + 30, f"the name to be at {first} again")
                stage.ready()
                await_moment(stage, spread(number, count, CRON), spread(number + count // 2, count, TTL))
                stage.strike(kind, KINDS[kind](stage.faults), within=3 * CRON, wait_for_user=True, as_it_is=True)
        return stage.rounds


def await_moment(stage: Stage, second: float, ttl: float) -> None:
    """Wait for a second of cron's minute at which the VM's resolver has the address for `ttl` more seconds."""
    # It asks anew so long before that moment; the first of those moments that is still to come, in this minute or the next.
    ahead = TTL - ttl
    time.sleep((second - ahead - time.time()) % CRON)
    stage.have_resolved()
    time.sleep((second - time.time()) % CRON)


# --- what comes of it --------------------------------------------------------------------------------------------------


def dns_times(rounds: Sequence[Round]) -> list[float]:
    """Return (a) of each round."""
    return [one.dns_after for one in rounds]


def user_times(rounds: Sequence[Round]) -> list[float]:
    """Return (b) of each round: until the first success after which nothing failed any more."""
    return [one.user.settled_after for one in rounds if one.waited and one.user.settled_after is not None]


def report(figures: Figures) -> None:
    """Print medians, worst cases and ratios, and draw both."""
    measures: Mapping[str, Callable[[Sequence[Round]], list[float]]] = {
        "(a) both DNS servers give a serving site": dns_times,
        "(b) a user is served again": user_times,
    }
    print()
    for title, measure in measures.items():
        series = {"checkers": measure(figures.ours), "plain design": measure(figures.plain)}
        for label, values in series.items():
            if values:
                print(
                    f"{title:42} {label:13} median {statistics.median(values):6.1f} s   worst {max(values):6.1f} s   "
                    f"({len(values)} failures)"
                )
        if all(series.values()):
            ratios = [f(series["plain design"]) / f(series["checkers"]) for f in (statistics.median, max)]
            print(f"{title:42} plain / checkers: median {ratios[0]:.1f}, worst {ratios[1]:.1f}")
    print(
        f"updates sent / needed: {sum(one.updates for one in figures.ours)} / {sum(len(one.needed) for one in figures.ours)}"
    )
    if figures.moves:
        failed, all_of_them = sum(each.failed for each in figures.moves), sum(each.operations for each in figures.moves)
        print(f"{len(figures.moves)} moves on purpose: {failed} of {all_of_them} operations failed")
    print(f"load average at the end of each part: {', '.join(f'{load:.1f}' for load in figures.load_average)}")


def draw(figures: Figures) -> None:
    """Draw both measures into docs/img."""
    images = PROJECT / "docs/img"
    images.mkdir(parents=True, exist_ok=True)
    titles = {
        "dns": ("From a site's failure until both DNS servers give one that serves", dns_times),
        "user": ("From a site's failure until a user is served again (TTL 60 s)", user_times),
    }
    for name, (title, measure) in titles.items():
        series = {"checkers": measure(figures.ours), "plain design, cron each minute": measure(figures.plain)}
        (images / f"failover-{name}.svg").write_text(strips(title, series, "s"))


def main() -> None:
    """Measure, print, draw, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30, help="failures with our checkers (default: %(default)s)")
    parser.add_argument(
        "--users", type=int, default=30, help="of them, in how many a user is waited for (default: %(default)s)"
    )
    parser.add_argument("--plain", type=int, default=12, help="failures with the plain design (default: %(default)s)")
    parser.add_argument("--moves", type=int, default=4, help="moves on purpose (default: %(default)s)")
    given = parser.parse_args()
    figures = Figures()
    lab = Lab()
    stage = Stage(lab)
    with stage.watched():
        stage.ready()
        figures.ours = measure_ours(stage, given.rounds, min(given.users, given.rounds))
        figures.load_average.append(os.getloadavg()[0])
        figures.moves = measure_moves(stage, given.moves)
    figures.load_average.append(os.getloadavg()[0])
    if given.plain:
        figures.plain = measure_plain(lab, given.plain)
        figures.load_average.append(os.getloadavg()[0])
    report(figures)
    draw(figures)
    results = PROJECT / "bench/results"
    results.mkdir(exist_ok=True)
    (results / "failover.json").write_text(json.dumps(asdict(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
