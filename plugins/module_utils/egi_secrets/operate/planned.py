"""Moving the generic names on purpose: what must be so before a site is drained, given a name, or taken back.

Decided from what a checker reports (`endpoint-failover status --json`) and what each node says of itself. Pure functions;
the playbooks act.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..members import Member
from ..raft import BEHIND

Report = Mapping[str, Any]

# A checker looks every few seconds; what is older than this many says nothing of now.
FRESH = 20.0


def checker_reports(hosts: Iterable[Mapping[str, Any]]) -> list[Report | None]:
    """Return what the checker of each host reports, None where it reports nothing.

    Args:
        hosts: variables of the hosts, with what endpoint_failover's look.yml registered.
    """
    return [report_in(host.get("endpoint_failover_seen") or {}) for host in hosts]


def report_in(result: Mapping[str, Any]) -> Report | None:
    """Return the report in the result of a task that asked a checker; None where it is none, as of one that cannot start."""
    try:
        said = json.loads(result.get("stdout") or "")
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def unheard_checkers(report: Report | None) -> list[str]:
    """Return the sites whose checkers another one calls silent: of an alarm that it raises, `observer <site>` is the key."""
    keys = [str(alarm["key"]) for alarm in report["alarms"]] if report else []
    return [key.removeprefix("observer ") for key in keys if key.startswith("observer ")]


def fresh(reports: Iterable[Report | None]) -> list[Report]:
    """Return the reports that say something of now."""
    return [each for each in reports if each and each.get("age") is not None and each["age"] <= FRESH]


def freshest(reports: Iterable[Report | None], *, but: str = "") -> Report | None:
    """Return the best report that is fresh, of any observer but one; None where there is none.

    One that the cluster does not know any more (403) sees who serves, moves nothing, and has old holds and leases. One
    that has just begun, after its host was started say, does not know yet who serves. Others are asked first.

    Args:
        reports: of each host, None where it gave none.
        but: the observer whose report does not count.
    """
    others = (each for each in fresh(reports) if each["observer"] != but)
    return min(others, key=_doubt, default=None)


def _doubt(report: Report) -> tuple[bool, int, float]:
    """Return how little a report is to be relied on, for comparison."""
    return not report.get("identity", True), _unknown(report), float(report["age"])


def _unknown(report: Report) -> int:
    """Return of how many sites and names a report does not know whether they serve."""
    return sum(under["serving"] is None for site in report["sites"].values() for under in site["names"].values())


def unknown_site(report: Report | None, site: str, variable: str) -> list[str]:
    """Say what keeps an operator's wish from being understood: no report, or no such site."""
    if report is None:
        return [
            f"No checker made a check within {FRESH:g} s, so nobody knows which sites serve: see `endpoint-failover "
            "status` on the nodes, and run playbooks/deploy/failover.yml."
        ]
    if site not in report["sites"]:
        return [f"{variable} is '{site}': give one of the sites {', '.join(report['sites'])}, such as -e {variable}=infn."]
    return []


def serves(report: Report, site: str, name: str) -> bool:
    """Whether a site serves a name, and did at the last look, as the report has it."""
    under = report["sites"][site]["names"][name]
    return under["serving"] is True and not under["why"]


def at_site(report: Report | None, site: str) -> list[str]:
    """Return the names that any DNS server says are at a site; those that may be there where nothing is known of them."""
    if report is None:
        return ["every name"]
    return [
        name
        for name, each in report["names"].items()
        if (_is_nowhere(each) and site in each["candidates"])
        or any(site in answer["at"].split(", ") for answer in each["servers"].values())
    ]


def _is_nowhere(name: Mapping[str, Any]) -> bool:
    """Whether no DNS server says where a name is: then it may be anywhere."""
    return all(answer.get("error") for answer in name["servers"].values())


def unheard(report: Report | None, site: str) -> list[str]:
    """Return the DNS servers that do not say where a name is that a site may have: they may say again what they said."""
    names = [each for each in report["names"].values() if site in each["candidates"]] if report else []
    return sorted({server for each in names for server, answer in each["servers"].items() if answer.get("error")})


def has_left(report: Report | None, site: str) -> bool:
    """Whether every DNS server says of every name that it is elsewhere."""
    return not at_site(report, site) and not unheard(report, site)


def leaving_problems(report: Report | None, site: str) -> list[str]:
    """Say which names are not known to have left a site, a sentence each."""
    if report is None:
        return ["The checker does not say where the names are."]
    return [
        f"No DNS server says where {name} is." if _is_nowhere(report["names"][name]) else f"{name} is still at {site}."
        for name in at_site(report, site)
    ]


def move_problems(report: Report | None, site: str, names: Sequence[str]) -> list[str]:
    """Say why names cannot be moved to a site, a sentence each.

    Args:
        report: the newest of a checker.
        site: where they are to go.
        names: which; none: all of which the site is a candidate.
    """
    found = unknown_site(report, site, "to")
    if found or report is None:
        return found
    strangers = [name for name in names if name not in report["names"]]
    if strangers:
        return [f"name is '{', '.join(strangers)}': give one of the generic names {', '.join(report['names'])}."]
    able = [name for name, each in report["names"].items() if site in each["candidates"]]
    unfit = [name for name in names if name not in able]
    if unfit or not able:
        may = "; ".join(f"{name}: {', '.join(report['names'][name]['candidates'])}" for name in unfit or report["names"])
        return [f"{site} is no candidate of {', '.join(unfit) or 'any name'} ({may}): see endpoint_names in the inventory."]
    hold = report["sites"][site]["hold"]
    if hold:
        found.append(
            f"{site} is held by {hold['by'] or 'somebody'} ({hold['why'] or 'no reason given'}): release it first, with "
            f"playbooks/operate/restore-site.yml -e site={site}."
        )
    for name in names or able:
        if not serves(report, site, name):
            why = report["sites"][site]["names"][name]["why"] or "not seen to serve often enough yet"
            found.append(f"{site} does not serve {name} ({why}): see playbooks/operate/show-status.yml.")
    return found


def drain_problems(report: Report | None, site: str, members: Mapping[str, Member] | None) -> list[str]:
    """Say why a site cannot be drained, a sentence each.

    Args:
        report: the newest of a checker.
        site: the site.
        members: site → what its node says of itself; of a node that was not reached, that it says nothing. None: each was
            just seen to be a healthy voter that has caught up.
    """
    found = unknown_site(report, site, "site")
    if found or report is None:
        return found
    if members is None:
        return _nowhere_to_go(report, site, list(report["sites"]))
    # A node that answers may be cut off from Raft: what the leader says of it counts as well.
    autopilot = next((member.autopilot for member in members.values() if member.active and member.autopilot), None)
    healthy = {other: autopilot is None or autopilot.nodes.get(member.name, False) for other, member in members.items()}
    well = [
        other
        for other, member in members.items()
        if other != site and member.answers and not member.sealed and healthy[other]
    ]
    quorum = len(members) // 2 + 1
    if len(well) < quorum:
        ill = ", ".join(other for other in members if other != site and other not in well)
        found.append(
            f"Without {site} only {len(well)} of {len(members)} members would be left, and {quorum} are needed: bring {ill} "
            "back first (playbooks/operate/show-status.yml)."
        )
    elif autopilot is not None and healthy.get(site) and autopilot.failure_tolerance < 1:
        found.append(
            f"The leader says that the cluster survives the loss of {autopilot.failure_tolerance} members: it cannot spare "
            f"{site}; see which member is ill or does not vote yet (playbooks/operate/show-status.yml)."
        )
    return found + _nowhere_to_go(report, site, well)


def _nowhere_to_go(report: Report, site: str, well: Collection[str]) -> list[str]:
    """Say which names no other site could take that is among those whose nodes are well."""
    found = []
    for name, each in report["names"].items():
        if site not in each["candidates"]:
            continue
        others = [other for other in each["candidates"] if other != site]
        able = [
            other for other in others if serves(report, other, name) and not report["sites"][other]["hold"] and other in well
        ]
        if not able:
            whys = (
                "; ".join(f"{other}: {_why_not(report, other, name)}" for other in others) or "there is no other candidate"
            )
            found.append(f"{name} would have nowhere to go ({whys}): mend or release another candidate first.")
    return found


def _why_not(report: Report, site: str, name: str) -> str:
    if report["sites"][site]["hold"]:
        return "held"
    under = report["sites"][site]["names"][name]
    if under["why"] or under["serving"] is not True:
        return str(under["why"] or "not seen to serve often enough yet")
    return "its node does not answer, is sealed, or is cut off from the leader"


def destinations(report: Report | None, site: str, shunned: Collection[str]) -> dict[str, list[str]]:
    """Return where the names that are at a site had better go: site → names.

    Left to itself a checker takes a name's first choice that serves, which may be a site that is to be left as well.
    Of a name that has no other choice nothing is said.

    Args:
        report: the newest of a checker; None: nothing is known.
        site: the site that the names are to leave.
        shunned: sites that are to be left soon, itself among them.
    """
    if report is None:
        return {}
    found: dict[str, list[str]] = {}
    for name in at_site(report, site):
        able = [
            other
            for other in report["names"][name]["candidates"]
            if other not in shunned and serves(report, other, name) and not report["sites"][other]["hold"]
        ]
        if able:
            found.setdefault(able[0], []).append(name)
    return found


def serving_problems(report: Report | None, site: str) -> list[str]:
    """Say which names a site does not serve, as the newest report of another site's checker has it, a sentence each."""
    found = unknown_site(report, site, "site")
    if found or report is None:
        return found
    for name, each in report["sites"][site]["names"].items():
        if each["serving"] is not True or each["why"]:
            why = each["why"] or "not seen to serve often enough yet"
            found.append(f"{site} does not serve {name} ({why}): start and unseal its node (playbooks/operate/unseal.yml).")
    return found


def restore_problems(report: Report | None, site: str, indexes: Mapping[str, int | None]) -> list[str]:
    """Say why a site's hold cannot be ended yet, a sentence each.

    Args:
        report: the newest of another site's checker.
        site: the site.
        indexes: site → index of the last entry that its node applied; None: it says nothing, or is sealed.
    """
    found = serving_problems(report, site)
    if unknown_site(report, site, "site"):
        return found
    own, newest = indexes.get(site), max((index for index in indexes.values() if index is not None), default=0)
    if own is None:
        found.append(f"The node of {site} says nothing of what it has applied: see playbooks/operate/show-status.yml.")
    elif newest - own > BEHIND:
        found.append(f"{site} has applied entry {own} of {newest} and is catching up: wait, and run this again.")
    return found


def ttl_left(report: Report | None, site: str) -> int:
    """Return for how many seconds resolvers may still send users to a site that names have left; 0 where none did lately."""
    if report is None:
        return 0
    left = 0.0
    for each in report["names"].values():
        change = each["last_change"]
        if change and change["source"] == site and each["at"] != site:
            # DNS may be seen to have changed before its mover says so, or after they gave up: it has just now, then.
            since = change["at"] if change["phase"] == "done" else report["cluster_time"]
            left = max(left, since + each["ttl"] - report["cluster_time"])
    return max(0, round(left + 1)) if left > 0 else 0
