"""How things stand, from the memory of the run that is under way: for a person, for scripts, for Nagios."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from .cluster import FARTHEST
from .cycle import Memory, Raised
from .decide import is_fresh, is_held, is_stale
from .lock import Lock
from .model import NEVER, Answer, Score
from .settings import Name, Settings
from .state import State
from .wire import plain

# cron starts a run each minute; without a check for longer nobody knows anything.
SILENT = 90.0
OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def report(settings: Settings) -> dict[str, Any]:
    """Return how things stand, as JSON holds it. Ages and durations are in seconds.

    Args:
        settings: the checker's.
    """
    state = State(settings.state_dir)
    memory, answers = state.load()
    now = time.monotonic()
    cluster_now = now + memory.cluster_offset if memory.cluster_offset is not None else time.time()
    return {
        "observer": settings.observer,
        "age": None if memory.checked_at is None else round(now - memory.checked_at, 3),
        "running": Lock(settings.state_dir).holder() is not None,
        "identity": not memory.identity,
        "cluster_time": round(cluster_now, 1),
        "sites": {site: _site(settings, memory, site, now, cluster_now) for site in settings.sites},
        "names": {name.name: _name(settings, memory, answers, name) for name in settings.names},
        "observers": {observer: _observer(settings, memory, observer, now) for observer in settings.others},
        "alarms": [_alarm(key, raised, now) for key, raised in memory.alarms.items()],
        "memory": state.warning,
    }


def _alarm(key: str, raised: Raised, now: float) -> dict[str, Any]:
    """Tell an alarm, `told` once it has lasted: what was seen in one check alone may be a lost datagram."""
    return {"key": key, "text": raised.text, "for": round(now - raised.since), "told": raised.told_at is not None}


def _site(settings: Settings, memory: Memory, site: str, now: float, cluster_now: float) -> dict[str, Any]:
    held = is_held(site, memory.holds, cluster_now)
    under = {}
    for name in settings.names:
        score = memory.scores.get(name.name, {}).get(site, Score())
        under[name.name] = {
            "serving": score.serving,
            "why": "" if score.serving and not score.fails else score.why,
            "for": None if score.since == NEVER else round(now - score.since),
        }
    return {"address": settings.sites[site].address, "names": under, "hold": asdict(memory.holds[site]) if held else None}


def _name(settings: Settings, memory: Memory, answers: Mapping[str, tuple[Answer, ...]], name: Name) -> dict[str, Any]:
    place, lease = memory.places.get(name.name), memory.leases.get(name.name)
    return {
        "port": name.port,
        "candidates": list(name.candidates),
        "at": place.agreed if place else None,
        "ttl": max((answer.ttl for answer in answers.get(name.name, ())), default=0),
        "servers": {
            answer.server: {
                "at": ", ".join(settings.site_of.get(each, each) for each in answer.addresses),
                "error": answer.error,
                "ttl": answer.ttl,
            }
            for answer in answers.get(name.name, ())
        },
        "why": memory.last.get(name.name, ""),
        "last_change": asdict(lease.value) if lease and lease.value else None,
    }


def _observer(settings: Settings, memory: Memory, observer: str, now: float) -> dict[str, Any]:
    watched = memory.views.get(observer)
    fresh = None
    if watched is not None:
        fresh = True if is_fresh(watched, settings.rules, now) else False if is_stale(watched, settings.rules, now) else None
    return {"fresh": fresh, "read": None if watched is None else round(now - watched.read_at)}


# --- for a person


def table(found: Mapping[str, Any]) -> str:
    """Lay a report out for a person."""
    lines = [*_head(found), "", *_sites(found), "", *_names(found)]
    alarms = [f"  {alarm['text']} (for {_duration(alarm['for'])})" for alarm in found["alarms"]]
    lines += ["", "To be seen to:", *alarms] if alarms else ["", "Nothing needs doing."]
    return "\n".join(lines) + "\n"


def _head(found: Mapping[str, Any]) -> Iterator[str]:
    age = "has made no check yet" if found["age"] is None else f"checked {found['age']:.0f} s ago"
    yield f"The checker at {found['observer']} {age}{'' if found['running'] else ', and no run is under way'}."
    if found["memory"]:
        yield found["memory"]
    if not found["identity"]:
        yield "The cluster does not know it: it sees, and can move nothing."
    silent = [site for site, each in found["observers"].items() if each["fresh"] is False]
    if silent:
        yield f"Silent checkers: {', '.join(silent)}."


def _sites(found: Mapping[str, Any]) -> list[str]:
    rows = [["SITE", "NAME", "SERVES", "FOR", "HELD", "WHY NOT"]]
    for site, each in found["sites"].items():
        for name, under in each["names"].items():
            word = {True: "yes", False: "NO", None: "not known yet"}[under["serving"]]
            since = "-" if under["for"] is None else _duration(under["for"])
            rows.append([site, name, word, since, _held(each["hold"]), under["why"] or "-"])
    return _laid_out(rows)


def _names(found: Mapping[str, Any]) -> list[str]:
    rows = [["NAME", "IS AT", "MAY BE AT", "LAST CHANGE"]]
    for name, each in found["names"].items():
        said = "; ".join(
            f"{server}: {answer['error'] or answer['at'] or 'no record'}" for server, answer in each["servers"].items()
        )
        rows.append(
            [f"{name}:{each['port']}", said or "not asked yet", ", ".join(each["candidates"]), _change(each["last_change"])]
        )
    lines = _laid_out(rows)
    return [*lines, *(f"{name}: {each['why']}." for name, each in found["names"].items() if each["why"])]


def _change(lease: Mapping[str, Any] | None) -> str:
    if lease is None:
        return "-"
    word = {"done": "to", "moving": "is being moved to", "failed": "could not be moved to"}[lease["phase"]]
    return f"{_time(lease['at'])} {word} {lease['target']} by {lease['holder']}: {lease['why']}"


def _held(hold: Mapping[str, Any] | None) -> str:
    if hold is None:
        return "-"
    until = f"until {_time(hold['until'])}" if hold["until"] else "until released"
    return " ".join(
        each for each in (until, f"by {hold['by']}" if hold["by"] else "", f"({hold['why']})" if hold["why"] else "") if each
    )


def _laid_out(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _time(epoch: float) -> str:
    if not 0 <= epoch < FARTHEST:  # another version of this program wrote it, or nobody
        return "at an unknown time"
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# --- for Nagios


def nagios(found: Mapping[str, Any]) -> tuple[int, str]:
    """Return exit code and line of a Nagios plugin.

    Args:
        found: a report.
    """
    homeless, poor = [], []
    for name, each in found["names"].items():
        at = each["at"]
        serving = [site for site in each["candidates"] if _may_hold(found, name, site)]
        if at is None or at not in found["sites"] or found["sites"][at]["names"][name]["serving"] is False:
            homeless.append(f"{name} is at {at or _differing(each)}")
        elif len(serving) < 2:  # noqa: PLR2004  # one to be at, one to go to
            poor.append(f"{name} has nowhere else to go")
    names = len(found["names"])
    figures = f"names_serving={names - len(homeless)};;;0;{names} alarms={len(found['alarms'])}"
    if found["age"] is None or found["age"] > SILENT:
        silence = "no check yet" if found["age"] is None else f"no check for {found['age']:.0f} s"
        return UNKNOWN, f"UNKNOWN: {found['memory'].rstrip('.') or silence} | {figures}"
    # What comes after a bar is taken for figures.
    texts = [plain(alarm["text"]).rstrip(".").replace("|", "/") for alarm in found["alarms"]]
    if homeless:
        return CRITICAL, f"CRITICAL: {'; '.join([*homeless, *texts])} | {figures}"
    if poor or texts or not found["identity"]:
        return WARNING, f"WARNING: {'; '.join([*poor, *texts]) or 'the cluster does not know this checker'} | {figures}"
    where = ", ".join(f"{name} at {each['at']}" for name, each in found["names"].items())
    return OK, f"OK: {where} | {figures}"


def _may_hold(found: Mapping[str, Any], name: str, site: str) -> bool:
    each = found["sites"].get(site)
    return bool(each) and each["names"][name]["serving"] is True and each["hold"] is None


def _differing(each: Mapping[str, Any]) -> str:
    said = {answer["at"] or "no record" for answer in each["servers"].values() if not answer["error"]}
    return " and ".join(sorted(said)) or "nobody knows where"
