"""Where the generic names are, and what the checkers that move them say needs doing.

One checker's report, the best, says where names are and which sites are held. What needs doing is collected from all: a
checker that is cut off from the rest, or that may not log in, is seen by itself alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .operate.planned import FRESH, Report, fresh, freshest
from .todo import DNS, FAILOVER, Todo

_NO_RECORD = "no record"  # NO_RECORD of the checkers' model.py
_ANEW = "see `journalctl -t endpoint-failover` on the {nodes}, and install {them} anew with playbooks/deploy/failover.yml."
_HOME = "The checkers bring it to a site that serves; where they do not, run playbooks/operate/move-endpoint.yml."


def places(report: Report | None) -> dict[str, dict[str, str]]:
    """Return where each DNS server has each name: a site, an address, no record, or why it does not say."""
    if report is None:
        return {}
    return {
        name: {server: said["error"] or said["at"] or _NO_RECORD for server, said in each["servers"].items()}
        for name, each in report["names"].items()
    }


def holds(report: Report | None) -> dict[str, dict[str, Any]]:
    """Return the sites that are held, each with by whom, until when and what for."""
    sites = report["sites"] if report else {}
    return {site: dict(each["hold"]) for site, each in sites.items() if each["hold"]}


def checkers_todo(reports: Sequence[Report | None], names: Collection[str], sites: Collection[str]) -> list[Todo]:
    """Say what the checkers find amiss, and what is amiss with them.

    Args:
        reports: what each checker says, None of one that says nothing.
        names: generic names of the inventory.
        sites: those whose nodes were looked at, where a checker could have been heard.
    """
    best, heard = freshest(reports), fresh(reports)
    if best is None:
        silence = f"No checker made a check within {FRESH:g} s, so nobody moves the generic names: "
        return [Todo(silence + _ANEW.format(nodes="nodes", them="the checkers"), FAILOVER)] if names or any(reports) else []
    todo = [Todo(each, FAILOVER) for name, place in best["names"].items() for each in _place_problems(name, place, best)]
    if names:
        todo += [Todo(each, FAILOVER) for each in [*_silent(reports, heard, sites), *_unknown_names(heard, names)]]
    return todo + _raised(heard)


def _place_problems(name: str, place: Mapping[str, Any], report: Report) -> Iterator[str]:
    at, answers = place["at"], place["servers"].values()
    if at is None:
        if not answers:
            yield f"No checker has asked the DNS servers yet where {name} is: run this again in a few seconds."
        elif not all(said["error"] for said in answers):  # where nobody answers, the checkers raise that
            yield f"The DNS servers do not agree where {name} is."
        return
    if at == _NO_RECORD:
        yield f"{name} has no record in DNS. {_HOME}"
    elif at not in report["sites"]:
        yield f"{name} is at {at}, {'more than one address' if ', ' in at else 'which is no site'}. {_HOME}"
    else:
        under = report["sites"][at]["names"][name]
        if under["serving"] is False:
            yield f"{name} is at {at}, which does not serve it ({under['why']})."
        elif under["serving"] is None:
            yield f"{name} is at {at}, and no checker knows yet whether that serves it: run this again in a few seconds."


def _silent(reports: Sequence[Report | None], heard: Sequence[Report], sites: Collection[str]) -> Iterator[str]:
    known = {each["observer"]: each for each in reports if each}
    for site in sites:
        if site in {each["observer"] for each in heard}:
            continue
        report = known.get(site)
        if report is None:
            silence = "gives no report"
        elif report.get("age") is None:
            silence = f"has made no check yet{f' ({memory})' if (memory := report.get('memory')) else ''}"
        else:
            silence = f"has made no check for {report['age']:.0f} s"
        yield f"The checker at {site} {silence}: {_ANEW.format(nodes='node', them='it')}"


def _unknown_names(heard: Sequence[Report], names: Collection[str]) -> Iterator[str]:
    for name in names:
        without = [each["observer"] for each in heard if name not in each["names"]]
        if without:
            who = f"{_checkers(without)} at {', '.join(without)}"
            yield f"{who} never heard of {name}, which the inventory names: run playbooks/deploy/failover.yml."


def _raised(heard: Sequence[Report]) -> list[Todo]:
    """Collect what all checkers raise, once each, with who says so; only what has lasted, by each checker's own rule."""
    errors: dict[str, list[str]] = {}
    alarms: dict[str, list[str]] = {}
    for report in heard:
        mute = _mute(report)
        # One that was deployed before it told keys and what had lasted tells texts alone.
        for alarm in (each for each in report["alarms"] if each.get("told", True)):
            error = mute.get(alarm.get("key", ""))
            told = alarms if error is None else errors
            told.setdefault(error or alarm["text"], []).append(report["observer"])
    todo = [Todo(f"{error}, as seen from {', '.join(observers)}.", DNS) for error, observers in errors.items()]
    return todo + [
        Todo(f"{_checkers(who)} at {', '.join(who)} {'say' if who[1:] else 'says'}: {text}", FAILOVER)
        for text, who in alarms.items()
    ]


def _mute(report: Report) -> dict[str, str]:
    """Return, by the key of a checker's alarm about it, why a DNS server did not tell it where a name is."""
    return {
        f"dns {name} {server}": f"DNS server {server} does not tell where {name} is: {said['error']}"
        for name, each in report["names"].items()
        for server, said in each["servers"].items()
        if said["error"]
    }


def _checkers(observers: Sequence[str]) -> str:
    return "The checkers" if observers[1:] else "The checker"
