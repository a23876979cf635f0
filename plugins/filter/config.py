"""Filters that turn what the inventory says of services into the objects that `vault_config` keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleFilterError

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets.reconcile.compare import seconds  # noqa: E402 - needs the path above

_SUBJECTS = re.compile(r"\*@[A-Za-z0-9.-]+")
SERVICE_TTL = "20m"  # long enough for one job; a service that runs on renews its token
SERVICE_MAX_TTL = "24h"


def service_policies(services: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the policy of each service: `service-<name>`, from the file of that name.

    Args:
        services: of each its `name`.

    Returns:
        Policies as the module vault_config takes them.
    """
    return [{"name": f"service-{service['name']}", "file": f"service-{service['name']}.hcl"} for service in services]


def service_roles(services: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the AppRole of each service: its own policy and no other, from its own addresses only.

    Args:
        services: of each its `name` and the `addresses` that it may come from, IP addresses or CIDR blocks.

    Returns:
        Roles as the module vault_config takes them.
    """
    return [
        {
            "auth": "approle",
            "name": service["name"],
            "settings": {
                "token_policies": [f"service-{service['name']}"],
                "token_no_default_policy": True,
                "token_ttl": SERVICE_TTL,
                "token_max_ttl": SERVICE_MAX_TTL,
                "token_bound_cidrs": _blocks(service["name"], service["addresses"]),
                "secret_id_bound_cidrs": _blocks(service["name"], service["addresses"]),
            },
        }
        for service in services
    ]


def planned_changes(plan: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a line for each change that the module vault_config would make, "update jwt role personal" say."""
    return [f"{step['action']} {step['id']}" for step in plan]


def login_problems(
    operators: Iterable[Mapping[str, str]], issuer: str, client_ids: Sequence[str], subjects: str
) -> list[str]:
    """Say what would let in nobody, or more than should be, a sentence each.

    Args:
        operators: of each the `subject`.
        issuer: of the identity provider.
        client_ids: clients whose access tokens are accepted.
        subjects: what a subject must look like.
    """
    found, everyone = [], [str(operator["subject"] or "") for operator in operators]
    if not str(issuer).startswith("https://"):
        found.append(f"vault_config_issuer is {issuer!r}: give an https URL.")
    if not everyone:
        found.append("vault_config_operators names nobody: without an operator who can log in, nobody could configure.")
    for name, values in (
        ("vault_config_operators", everyone),
        ("vault_config_client_ids", [str(each) for each in client_ids]),
    ):
        wild = [value for value in values if "*" in value or not value.strip()]
        if wild:
            found.append(f"{name} has {wild[0]!r}, which may stand for anybody: give each in full.")
    if not client_ids:
        found.append(
            "vault_config_client_ids is empty: name the clients whose tokens people have, since with a token of any other "
            "service whoever runs that one could log in as its users."
        )
    if not _SUBJECTS.fullmatch(subjects):
        found.append(
            f"vault_config_subjects is {subjects!r}: give what subjects end in, after one star, such as *@egi.eu; they "
            "become names of folders."
        )
    return found


def lifetime_problems(lifetimes: Iterable[Sequence[str]]) -> list[str]:
    """Say which lifetimes are none, or out of bounds, a sentence each.

    Args:
        lifetimes: of each its variable's name, what is given, and the least and the most that it may be.
    """
    found = []
    for name, *given in lifetimes:
        value, least, most = (seconds(str(text)) for text in given)
        if value is None:
            found.append(f"{name} is {given[0]!r}: give a duration such as 90s, 1h or 12h.")
        elif least is not None and most is not None and not least <= value <= most:
            found.append(f"{name} is {given[0]!r}: give {given[1]} to {given[2]}.")
    return found


def _blocks(name: str, addresses: Sequence[str]) -> list[str]:
    """Write single addresses as blocks, as the server returns them."""
    given = [addresses] if isinstance(addresses, str) else addresses
    if not given:
        raise AnsibleFilterError(
            f"vault_config_services: {name} has no addresses, which to the server is any: give those that it comes from, or "
            "take the service out."
        )
    try:
        return [str(ip_network(str(address), strict=False)) for address in given]
    except ValueError as error:
        raise AnsibleFilterError(
            f"vault_config_services: {name} comes from {error}: give IP addresses or CIDR blocks."
        ) from None


class FilterModule:
    """Filters about the configuration."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "service_policies": service_policies,
            "service_roles": service_roles,
            "planned_changes": planned_changes,
            "login_problems": login_problems,
            "lifetime_problems": lifetime_problems,
        }
