"""Histories of faults, played through the checkers in a model of their world, and drawn.

An operator sees here what given intervals and thresholds would have done in a history that was recorded, or in a random
one: `endpoint-failover simulate --seed 7 --svg out.svg`, or `--history faults.json`.
"""

from __future__ import annotations

import html
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .cycle import Tell
from .errors import SettingsError
from .model import Consequence
from .settings import Cluster, DnsServer, Dyndns, Name, Rules, Settings, Site
from .world import DYNDNS, NAMESERVERS, SERVERS, World

SITES = ("iisas", "infn", "ifca")
# For so long resolvers keep the address of a name, s; and at so many moments of it they may have asked.
TTL, PHASES = 60.0, 12


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to the world.

    Args:
        at: when, s from the beginning.
        what: see `WHAT`.
        who: the site, the checker, `a-b` for a link between two sites, `primary` or `secondary` for a DNS server; nobody for
            the DynDNS server, and for the identities of all checkers.
        to: what becomes of it.
    """

    at: float
    what: str
    who: str
    to: str


# what → what it may come to. A hold's `to` is the seconds that it lasts (0: until released), or `released`; a clock's is by
# how many seconds that host's clock is wrong.
WHAT = {
    "server": SERVERS,
    "power": ("on", "off"),
    "certificate": ("valid", "expired"),
    "link": ("up", "cut", "one-way"),
    "alone": ("no", "yes"),
    "site": ("up", "dark"),
    "checker": ("started", "killed", "frozen", "started without memory"),
    "clock": ("0",),
    "dns": NAMESERVERS,
    "dyndns": DYNDNS,
    "hold": ("0", "released"),
    "identity": ("valid", "revoked"),
}


def default_settings(names: int = 1, rules: Rules | None = None) -> dict[str, Settings]:
    """Return the settings of three observers, with one or two generic names.

    Args:
        names: how many; the second may be at all three sites.
        rules: intervals and thresholds; None: the defaults.
    """
    sites = {site: Site(f"192.0.2.{number}") for number, site in enumerate(SITES, start=1)}
    servers = (DnsServer("primary", "192.0.2.53"), DnsServer("secondary", "192.0.2.54"))

    def name(text: str, candidates: tuple[str, ...]) -> Name:
        dyndns = Dyndns("https://dyndns.test/nic/update", text, "/nonexistent")
        return Name(text, 8200, candidates, servers, dyndns, primary="primary")

    both = (name("vault.services.test", ("infn", "ifca")), name("secrets.test", ("ifca", "iisas", "infn")))
    return {
        observer: Settings(
            observer=observer,
            sites=sites,
            names=both[:names],
            cluster=Cluster("/nonexistent", "/nonexistent"),
            ca_file="/nonexistent",
            state_dir=Path("/nonexistent"),
            rules=rules or Rules(),
            fence_file="/nonexistent",
        )
        for observer in SITES
    }


def apply(world: World, fault: Fault) -> None:
    """Have a fault happen now.

    Raises:
        SettingsError: nobody knows what it means.
    """
    to = fault.to
    _assert_known(world, fault)
    match fault.what:
        case "server":
            world.sites[fault.who].server = to
        case "power":
            world.sites[fault.who].power = to == "on"
        case "site":
            _darken(world, fault.who, to == "dark")
        case "certificate":
            world.sites[fault.who].certificate = to == "valid"
        case "link":
            one, _, other = fault.who.partition("-")
            world.cut([(one, other)], {"up": (), "one-way": (True, False), "cut": (True, True)}[to])
        case "alone":
            world.cut(
                [(fault.who, other) for other in world.sites if other != fault.who], (True, True) if to == "yes" else ()
            )
        case "checker":
            world.restart_checker(fault.who, to)
        case "clock":
            world.clock_skew[fault.who] = float(to)
        case "dns":
            (world.primary if fault.who == "primary" else world.secondary).state = to
        case "dyndns":
            world.dyndns = to
        case "hold":
            world.hold(fault.who, None if to == "released" else float(to))
        case _:
            whose = {fault.who} if fault.who else set(world.processes)
            world.revoked = world.revoked - whose if to == "valid" else world.revoked | whose
    world.touched()


def _darken(world: World, site: str, dark: bool) -> None:
    """Switch off, or on, all that is at a site."""
    world.sites[site].power = not dark
    world.restart_checker(site, "killed" if dark else "started without memory")
    if site == world.primary_at:
        world.primary.state = world.dyndns = "down" if dark else "up"
    if site == world.secondary_at:
        world.secondary.state = "down" if dark else "up"


def _assert_known(world: World, fault: Fault) -> None:
    whos: dict[str, tuple[str, ...]] = {
        "link": tuple(f"{one}-{other}" for one, other in itertools.permutations(world.sites, 2)),
        "dns": ("primary", "secondary"),
        "dyndns": ("",),
        "identity": ("", *world.sites),
    }
    who = whos.get(fault.what, tuple(world.sites))
    number = (fault.what == "hold" and _is_number(fault.to, 0)) or (fault.what == "clock" and _is_number(fault.to))
    if fault.what not in WHAT or fault.who not in who or not (fault.to in WHAT[fault.what] or number):
        raise SettingsError(
            f"The history holds {fault}, which nobody knows: `what` and `to` must be of {WHAT} (`to` of hold and clock may "
            f"be a number of seconds), and `who` one of {', '.join(each or 'nothing' for each in who)}."
        )


def _is_number(text: str, least: float = float("-inf")) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) >= least
    except ValueError:
        return False


def random_history(rng: random.Random, duration: float, most: int = 6) -> list[Fault]:
    """Return a random history: faults that begin within `duration` s, some of which end.

    Args:
        rng: seeded source of all that is random.
        duration: when the last fault begins or ends at the latest, s.
        most: faults at most.
    """
    found: list[Fault] = []
    for _ in range(rng.randint(1, most)):
        start = rng.uniform(5, duration * 0.8)
        end = min(duration, start + rng.choice((1.0, 3.0, 8.0, 20.0, 60.0)) * rng.uniform(0.7, 1.5))
        lasting = rng.random() < 0.25  # noqa: PLR2004  # a quarter of the faults never ends
        what, who, bad, good = _random_fault(rng)
        if what == "flicker":
            found.extend(_flicker(rng, who, start, end))
            continue
        found.append(Fault(start, what, who, bad))
        if not lasting:
            found.append(Fault(end, what, who, good))
    return sorted(found, key=lambda fault: fault.at)


def _random_fault(rng: random.Random) -> tuple[str, str, str, str]:
    """Return what, who, what it comes to, and how it ends."""
    site = rng.choice(SITES)
    # The pair that makes naive checkers fight: both still see the third.
    pair = "infn-ifca" if rng.random() < 0.5 else "-".join(rng.sample(SITES, 2))  # noqa: PLR2004
    bad_server = rng.choice(SERVERS[1:])
    restart = rng.choice(("started", "started without memory"))
    choices = (
        (10, ("server", site, bad_server, "ok")),
        (3, ("power", site, "off", "on")),
        (2, ("site", site, "dark", "up")),
        (2, ("certificate", site, "expired", "valid")),
        (8, ("link", pair, rng.choice(("cut", "one-way")), "up")),
        (4, ("alone", site, "yes", "no")),
        (5, ("checker", site, "killed", restart)),
        (3, ("checker", site, "frozen", "started")),
        (1, ("clock", site, rng.choice(("-3600", "-30", "30", "3600")), "0")),
        (3, ("dns", rng.choice(("primary", "secondary")), rng.choice(("down", "down", "slow")), "up")),
        (1, ("dns", rng.choice(("primary", "secondary")), "refuses updates", "up")),
        (2, ("dyndns", "", rng.choice(DYNDNS[1:]), "up")),
        (4, ("hold", site, rng.choice(("0", "10", "40")), "released")),
        (1, ("identity", rng.choice(("", site)), "revoked", "valid")),
        (3, ("flicker", site, "", "")),
    )
    return rng.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]


def _flicker(rng: random.Random, site: str, start: float, end: float) -> list[Fault]:
    """Return a server that comes and goes."""
    found, at, up = [], start, True
    while at < end:
        up = not up
        found.append(Fault(at, "server", site, "ok" if up else "dead"))
        at += rng.uniform(0.5, 5.0)
    return [*found, Fault(at, "server", site, "ok")]


@dataclass(slots=True)
class Recording:
    """What happened in a world, as a Monitor.

    Args:
        serving: site → (when, whether it serves), at each change.
        places: (when, name, site), at each change of the primary's record.
        leaders: (when, site), at each change; an empty site: nobody leads.
        events: (when, who, what), for people.
        updates: how many were sent.
    """

    serving: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    places: list[tuple[float, str, str]] = field(default_factory=list)
    leaders: list[tuple[float, str]] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    updates: int = 0

    def changed(self, world: World) -> None:
        """Note which sites serve, and who leads."""
        if not self.leaders or self.leaders[-1][1] != world.leader:
            self.leaders.append((world.now, world.leader))
        if not self.places:
            self.places = [(0.0, name, site) for name, site in world.primary.records.items()]
        for site in world.sites:
            line = self.serving.setdefault(site, [])
            serves = world.serves(site)
            if not line or line[-1][1] != serves:
                line.append((world.now, serves))

    def sent(self, world: World, observer: str, name: str, target: str) -> None:
        """Count an update."""
        self.updates += 1
        self.events.append((world.now, observer, f"sends: {name} to {target}"))

    def answered(self, world: World, observer: str, name: str, consequence: Consequence) -> None:
        """Note an answer that is not the usual one."""
        if consequence is not Consequence.SENT:
            self.events.append((world.now, observer, f"is answered for {name}: {consequence}"))

    def moved(self, world: World, name: str, source: str, target: str) -> None:
        """Note where a name is."""
        self.places.append((world.now, name, target))

    def told(self, world: World, observer: str, event: Tell) -> None:
        """Note what a checker says."""
        self.events.append((world.now, observer, f"{event.event}: {event.text}"))


@dataclass(frozen=True, slots=True)
class Played:
    """A history and what came of it."""

    history: Sequence[Fault]
    duration: float
    recording: Recording


def play(history: Sequence[Fault], settings: dict[str, Settings], seed: int, duration: float) -> Played:
    """Play a history.

    Args:
        history: faults.
        settings: of each observer.
        seed: of latencies, of who is elected, of what is lost.
        duration: s.

    Raises:
        SettingsError: the history holds what nobody knows, or there is no time to play it in.
    """
    if not 0 < duration < math.inf:
        raise SettingsError(f"The duration is {duration:g}, and must be a number of seconds of more than 0.")
    recording = Recording()
    first = next(iter(settings.values())).names[0].candidates[0]
    world = World.make(settings, random.Random(seed), recording, first)  # noqa: S311  # a simulation, not a secret
    for fault in history:
        _assert_known(world, fault)
        world.later(fault.at, lambda fault=fault: apply(world, fault))  # type: ignore[misc]
    world.run(duration)
    return Played([fault for fault in history if fault.at <= duration], duration, recording)


def read_history(path: Path) -> list[Fault]:
    """Read a history: a JSON list of {at, what, who, to}.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        content: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        found = [Fault(float(each["at"]), str(each["what"]), str(each["who"]), str(each["to"])) for each in content]
        if not all(0 <= fault.at < math.inf for fault in found):
            raise ValueError("a fault is at no time")
        return sorted(found, key=lambda fault: fault.at)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"The history {path} cannot be read ({error!r}): it must be a JSON list of objects with at (seconds), "
            "what, who, to."
        ) from None


def write_history(history: Sequence[Fault]) -> str:
    """Return a history as read_history reads it."""
    return json.dumps([asdict(replace(fault, at=round(fault.at, 3))) for fault in history], indent=1) + "\n"


def as_text(played: Played) -> str:
    """Return a table of what happened, and how long each name was at a site that did not serve."""
    recording = played.recording
    lines = [(fault.at, "", f"{fault.what} {fault.who} {fault.to}".replace("  ", " ")) for fault in played.history]
    lines += recording.events
    lines += [(at, "", f"{site or 'nobody'} leads") for at, site in recording.leaders]
    lines += [(at, "", f"{name} is at {site}") for at, name, site in recording.places]
    lines += [
        (at, "", f"{site} {'serves' if up else 'does not serve'}")
        for site, line in recording.serving.items()
        for at, up in line
    ]
    text = [f"{at:8.2f} s  {who:<6} {what}" for at, who, what in sorted(lines, key=lambda line: line[0])]
    text.append("")
    for name in sorted({name for _, name, _ in recording.places}):
        text.append(f"{name}: {downtime(played, name):.1f} s of {played.duration:g} s at a site that did not serve")
        lost = [user_downtime(played, name, TTL * phase / PHASES) for phase in range(PHASES)]
        text.append(
            f"{name}: {sum(lost) / PHASES:.1f} s without service for a user whose resolver keeps answers for {TTL:g} s, "
            f"{min(lost):.1f} s to {max(lost):.1f} s"
        )
    text.append(f"updates sent: {recording.updates}")
    return "\n".join(text) + "\n"


def downtime(played: Played, name: str) -> float:
    """Return for how many seconds a name was at a site that did not serve, by the primary's record."""
    places = _places(played, name)
    return _unserved(played, [(at, site) for at, site in places if at <= played.duration])


def user_downtime(played: Played, name: str, asked: float) -> float:
    """Return for how many seconds a user was sent to a site that did not serve, by a resolver that keeps answers for TTL.

    Args:
        played: the history.
        name: the generic name.
        asked: when the resolver asked first; again whenever an answer has run out, s.
    """
    places = _places(played, name)
    times = [asked + TTL * number for number in range(-1, math.ceil(played.duration / TTL))]
    told = [(max(0.0, at), _at(places, max(0.0, at))) for at in times if at <= played.duration]
    return _unserved(played, told)


def _places(played: Played, name: str) -> list[tuple[float, str]]:
    return [(at, site) for at, each, site in played.recording.places if each == name]


def _at(places: list[tuple[float, str]], at: float) -> str:
    return next(site for since, site in reversed(places) if since <= at)


def _unserved(played: Played, stays: list[tuple[float, str]]) -> float:
    """Return how many seconds of these stays were at a site that did not serve."""
    marks = sorted({0.0, played.duration, *(at for at, _ in stays), *_serving_marks(played)})
    return sum(end - start for start, end in itertools.pairwise(marks) if not _served(played, _at(stays, start), start))


def _serving_marks(played: Played) -> list[float]:
    return [at for line in played.recording.serving.values() for at, _ in line]


def _served(played: Played, site: str, at: float) -> bool:
    return next(up for when, up in reversed(played.recording.serving[site]) if when <= at)


# Geometry of the drawing, pixels.
LEFT, TOP, ROW, WIDTH = 170, 40, 34, 1000
GREEN, RED, GREY = "#4c9f70", "#d1495b", "#555555"
LINES = ("#30638e", "#7b2d8b")


def as_svg(played: Played) -> str:
    """Return a drawing.

    It has a band for each site, green while it serves; a grey line in that of the leader; a line for each name, where it
    is; faults as marks.
    """
    recording, scale = played.recording, WIDTH / played.duration
    rows = list(recording.serving)
    names = sorted({name for _, name, _ in recording.places})
    height = TOP + ROW * len(rows) + 60 + 14 * len(played.history)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for row, site in enumerate(rows):
        y = TOP + row * ROW
        parts.append(f'<text x="8" y="{y + 18}">{html.escape(site)}</text>')
        line = [*recording.serving[site], (played.duration, True)]
        for (start, up), (end, _) in itertools.pairwise(line):
            parts.append(
                f'<rect x="{LEFT + start * scale:.1f}" y="{y}" width="{(end - start) * scale:.1f}" height="24" '
                f'fill="{GREEN if up else RED}" opacity="0.55"/>'
            )
    for (start, leader), (end, _) in itertools.pairwise([*recording.leaders, (played.duration, "")]):
        if leader:
            y = TOP + rows.index(leader) * ROW + 23
            parts.append(
                f'<path d="M {LEFT + start * scale:.1f} {y} H {LEFT + end * scale:.1f}" stroke="{GREY}" stroke-width="4"/>'
            )
    for number, name in enumerate(names):
        stays = [(at, site) for at, each, site in recording.places if each == name]
        points = []
        for (at, site), (end, _) in itertools.pairwise([*stays, (played.duration, "")]):
            y = TOP + rows.index(site) * ROW + 8 + 8 * number
            points += [f"{LEFT + at * scale:.1f},{y}", f"{LEFT + end * scale:.1f},{y}"]
        colour = LINES[number % len(LINES)]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="3"/>')
        parts.append(
            f'<text x="{LEFT + 300 * number}" y="{TOP - 18}" fill="{colour}">line: where {html.escape(name)} is</text>'
        )
    parts.append(f'<text x="8" y="{TOP - 18}" fill="{GREY}">green: serves; grey: leads</text>')
    bottom = TOP + ROW * len(rows)
    for number, fault in enumerate(played.history):
        x, y = LEFT + fault.at * scale, bottom + 40 + 14 * number
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y - 10}" stroke="{GREY}" stroke-dasharray="2 3"/>')
        text = html.escape(f"{fault.at:.1f} s: {fault.what} {fault.who} {fault.to}")
        parts.append(f'<text x="{min(x, LEFT + WIDTH - 160):.1f}" y="{y}" fill="{GREY}">{text}</text>')
    step = max(1, round(played.duration / 10))
    parts.extend(
        f'<text x="{LEFT + at * scale:.1f}" y="{bottom + 18}" fill="{GREY}">{at} s</text>'
        for at in range(0, int(played.duration) + 1, step)
    )
    return "\n".join([*parts, "</svg>"]) + "\n"
