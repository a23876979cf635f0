"""Filters of the rolling restart; the decisions are in module_utils."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets.operate import planned, rolling  # noqa: E402 - needs the path above
from ansible.module_utils.egi_secrets.products import product_named  # noqa: E402

HostVars = Mapping[str, Any]


def rolling_nodes(hosts: Iterable[HostVars], report: Mapping[str, Any] | None = None) -> list[rolling.Node]:
    """Return the members as they are and as they should be.

    Args:
        hosts: variables of the hosts, with what look.yml of vault_server kept.
        report: of a checker, which knows where the names are; None: there are no names.
    """
    found = []
    for host in hosts:
        state = host["vault_server_state"]
        server = state["server"] or {}
        found.append(
            rolling.Node(
                name=host["inventory_hostname"],
                running=state["versions"]["running"],
                wanted=str(host["vault_version"]),
                pending=tuple(state["restart_pending"]),
                active=bool((server.get("leader") or {}).get("is_self")),
                names=tuple(planned.at_site(report, host["site_name"])) if report else (),
                rooms={path: each["free_percent"] for path, each in state["filesystems"].items() if each},
            )
        )
    return found


def rolling_problems(hosts: Iterable[HostVars], product: str, least: float | str) -> list[str]:
    """Say why the rolling restart may not begin. See rolling.version_problems and rolling.room_problems.

    `least` is text where it was given on the command line.
    """
    nodes = rolling_nodes(hosts)
    return rolling.version_problems(product_named(product), nodes) + rolling.room_problems(nodes, float(least))


def rolling_version_problems(hosts: Iterable[HostVars], product: str) -> list[str]:
    """Say why hosts may not run the version that the inventory wants. See rolling.version_problems."""
    return rolling.version_problems(product_named(product), rolling_nodes(hosts))


def newest_running(hosts: Iterable[HostVars]) -> str:
    """Return the newest version that any host's server runs. See rolling.newest."""
    return rolling.newest(rolling_nodes(hosts))


def rolling_unheard(hosts: Iterable[HostVars]) -> list[str]:
    """Return the inventory names of hosts whose server does not answer, whether or not it has a process."""
    known = {host["inventory_hostname"]: host["vault_server_state"]["server"] or {} for host in hosts}
    return [name for name, server in known.items() if not isinstance(server.get("health"), Mapping)]


def rolling_order(nodes: Sequence[rolling.Node]) -> list[str]:
    """Return in which order nodes take their turn. See rolling.order."""
    return rolling.order(nodes)


def rolling_plan(nodes: Sequence[rolling.Node]) -> list[str]:
    """Say what is going to happen, a line a node. See rolling.plan."""
    return rolling.plan(nodes)


def sites_held_by(holds: Mapping[str, Mapping[str, Any]], holder: str, sites: Collection[str]) -> list[str]:
    """Return the sites that somebody holds.

    Args:
        holds: what the module vault_site_hold returned.
        holder: who.
        sites: those that there are; one that was removed may be held still, which is no matter.
    """
    return [site for site, hold in holds.items() if site in sites and hold["by"] == holder]


def holds_of_others(holds: Mapping[str, Mapping[str, Any]], holder: str, sites: Collection[str]) -> list[str]:
    """Say which sites somebody else holds, a sentence each. The arguments are those of sites_held_by."""
    return [
        f"{site} is held by {hold['by'] or 'somebody'} ({hold['why'] or 'no reason given'})."
        for site, hold in holds.items()
        if site in sites and hold["by"] != holder
    ]


def rolling_moves(report: Mapping[str, Any] | None, site: str, later: Sequence[str]) -> dict[str, list[str]]:
    """Return where the names at a site are to go before its turn: site → names. See planned.destinations.

    Args:
        report: of a checker.
        site: whose turn it is.
        later: sites whose turn is still to come, and this one.
    """
    return planned.destinations(report or None, site, later)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "rolling_nodes": rolling_nodes,
            "rolling_problems": rolling_problems,
            "rolling_version_problems": rolling_version_problems,
            "rolling_unheard": rolling_unheard,
            "newest_running": newest_running,
            "rolling_order": rolling_order,
            "rolling_plan": rolling_plan,
            "rolling_moves": rolling_moves,
            "sites_held_by": sites_held_by,
            "holds_of_others": holds_of_others,
        }
