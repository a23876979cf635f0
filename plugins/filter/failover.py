"""Filters that make the failover checker's settings and files of what the inventory says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets.members import Member  # noqa: E402 - needs the path above
from ansible.module_utils.egi_secrets.operate import planned  # noqa: E402

# The program that the nodes run judges its own settings, here too.
_PROGRAM = Path(__file__).resolve().parents[2] / "roles/endpoint_failover/files"

HostVars = Mapping[str, Any]


def failover_settings(host: HostVars, hosts: Iterable[HostVars], places: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of one host's checker.

    Args:
        host: its variables.
        hosts: variables of all members of the cluster.
        places: where the role puts things: `config_dir`, `secret_dir`, `state_dir`, `run_dir`.

    Returns:
        The content of its settings file.
    """
    names = [
        {
            "name": each["name"],
            "port": each["port"],
            "candidates": each["candidates"],
            "servers": each.get("dns_servers") or host["endpoint_failover_dns_servers"],
            "primary": each.get("dns_primary") or host["endpoint_failover_dns_primary"],
            "dyndns": {
                "url": each.get("dyndns_url") or host["endpoint_failover_dyndns_url"],
                "host": each.get("dyndns_host") or each["name"],
                "secret_file": f"{places['secret_dir']}/{each['name']}",
                "address": host["endpoint_failover_dyndns_address"],
                "ca_file": f"{places['config_dir']}/dyndns-ca.crt" if host["endpoint_failover_dyndns_ca_file"] else "",
            },
        }
        for each in host["endpoint_failover_names"]
    ]
    return {
        "observer": host["site_name"],
        "sites": {each["site_name"]: {"address": each["endpoint_address"]} for each in hosts},
        "names": names,
        "cluster": {
            "role_id_file": f"{places['config_dir']}/role-id",
            "secret_id_file": f"{places['config_dir']}/secret-id",
        },
        "ca_file": f"{places['config_dir']}/ca.crt",
        "state_dir": places["state_dir"],
        "check": host["endpoint_failover_check"],
        "fence_file": f"{places['run_dir']}/fence" if host["endpoint_failover_fence"] else "",
        "textfile": host["endpoint_failover_textfile"],
    }


def failover_problems(settings: Mapping[str, Any]) -> list[str]:
    """Say what of a checker's settings does not fit together, a sentence each."""
    if str(_PROGRAM) not in sys.path:
        sys.path.append(str(_PROGRAM))
    from endpoint_failover.errors import SettingsError  # noqa: PLC0415 - needs the path above
    from endpoint_failover.settings import parse  # noqa: PLC0415

    try:
        parse(settings)
    except SettingsError as error:
        return str(error).splitlines()
    return []


def failover_program(directory: str) -> list[dict[str, str]]:
    """Return the program's files as the module host_files takes them.

    Args:
        directory: where the package is put on the host.
    """
    return [
        {"path": f"{directory}/{file.name}", "content": file.read_text(encoding="utf-8")}
        for file in sorted((_PROGRAM / "endpoint_failover").glob("*.py"))
    ]


def failover_secret_files(secrets: Mapping[str, str], directory: str, user: str) -> list[dict[str, str]]:
    """Return files with one secret each, readable by one user alone, as the module host_files takes them.

    Args:
        secrets: file name → secret.
        directory: where they lie.
        user: who may read them.
    """
    return [
        {"path": f"{directory}/{name}", "secret_content": f"{secret}\n", "owner": user, "group": user, "mode": "0600"}
        for name, secret in secrets.items()
    ]


def failover_report(hosts: Iterable[HostVars], but: str = "") -> dict[str, Any]:
    """Return the freshest report of a checker, of any site but one; empty where there is none.

    Args:
        hosts: variables of the hosts, with what look.yml registered.
        but: the site whose checker does not count.
    """
    return dict(planned.freshest(planned.checker_reports(hosts), but=but) or {})


def checker_said(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report in the result of a task that asked a checker; empty where it is none."""
    return dict(planned.report_in(result) or {})


def checkers_unheard(report: Mapping[str, Any]) -> list[str]:
    """Return the sites whose checkers a report calls silent; none where there is no report."""
    return planned.unheard_checkers(report or None)


def names_have_left(report: Mapping[str, Any], site: str) -> bool:
    """Whether every DNS server says of every name that it is elsewhere."""
    return planned.has_left(report or None, site)


def dns_unheard(report: Mapping[str, Any], site: str) -> list[str]:
    """Return the DNS servers that do not say where a name is that may be at a site."""
    return planned.unheard(report or None, site)


def leaving_problems(report: Mapping[str, Any], site: str) -> list[str]:
    """Say which names are not known to have left a site."""
    return planned.leaving_problems(report or None, site)


def sites_held(report: Mapping[str, Any]) -> list[str]:
    """Return the sites that anybody holds; none where nothing is known."""
    return [name for name, site in report.get("sites", {}).items() if site["hold"]]


def ttl_left(report: Mapping[str, Any], site: str) -> int:
    """Return for how many seconds resolvers may still send users to a site that names have left."""
    return planned.ttl_left(report or None, site)


def move_problems(report: Mapping[str, Any], site: str, names: Sequence[str]) -> list[str]:
    """Say why names cannot be moved to a site."""
    return planned.move_problems(report or None, site, names)


def drain_problems(report: Mapping[str, Any], site: str, hosts: Iterable[HostVars] | None) -> list[str]:
    """Say why a site cannot be drained.

    `hosts`: variables of the members, with what vault_cluster's ask.yml registered; None: all were just seen to be well.
    """
    members = None
    if hosts is not None:
        members = {
            host["site_name"]: Member.from_node_state(host["vault_node_id"], host.get("vault_cluster_member"))
            for host in hosts
        }
    return planned.drain_problems(report or None, site, members)


def serving_problems(report: Mapping[str, Any], site: str) -> list[str]:
    """Say which names a site does not serve, as a report of another site's checker has it."""
    return planned.serving_problems(report or None, site)


def restore_problems(report: Mapping[str, Any], site: str, hosts: Iterable[HostVars] | None) -> list[str]:
    """Say why a site's hold cannot be ended yet. `hosts` are those of drain_problems."""
    if hosts is None:
        return planned.serving_problems(report or None, site)
    indexes: dict[str, int | None] = {}
    for host in hosts:
        server = (host.get("vault_cluster_member") or {}).get("server") or {}
        indexes[host["site_name"]] = server.get("applied_index")
    return planned.restore_problems(report or None, site, indexes)


class FilterModule:
    """Filters about the failover checker."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "failover_settings": failover_settings,
            "failover_problems": failover_problems,
            "failover_program": failover_program,
            "failover_secret_files": failover_secret_files,
            "failover_report": failover_report,
            "checker_said": checker_said,
            "checkers_unheard": checkers_unheard,
            "names_have_left": names_have_left,
            "dns_unheard": dns_unheard,
            "leaving_problems": leaving_problems,
            "sites_held": sites_held,
            "ttl_left": ttl_left,
            "move_problems": move_problems,
            "drain_problems": drain_problems,
            "restore_problems": restore_problems,
            "serving_problems": serving_problems,
        }
