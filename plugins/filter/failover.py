"""Filters that make the failover checker's settings and files of what the inventory says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

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


class FilterModule:
    """Filters about the failover checker."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "failover_settings": failover_settings,
            "failover_problems": failover_problems,
            "failover_program": failover_program,
            "failover_secret_files": failover_secret_files,
        }
