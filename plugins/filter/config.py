"""Filters that turn what the inventory says of services into the objects that `vault_config` keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_SUBJECTS = re.compile(r"\*?@[A-Za-z0-9.-]+")
SERVICE_TTL = "20m"  # long enough for one job; a service that runs on renews its token


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
                "token_max_ttl": SERVICE_TTL,
                "token_bound_cidrs": _blocks(service["addresses"]),
                "secret_id_bound_cidrs": _blocks(service["addresses"]),
            },
        }
        for service in services
    ]


def planned_changes(plan: Iterable[Mapping[str, str]]) -> list[str]:
    """Return a line for each change that the module vault_config would make, "update jwt role personal" say."""
    return [f"{step['action']} {step['id']}" for step in plan]


def login_problems(
    operators: Iterable[Mapping[str, str]], issuer: str, client_ids: Iterable[str], subjects: str
) -> list[str]:
    """Say what would let in nobody, or more than should be, a sentence each.

    Args:
        operators: of each the `subject`.
        issuer: of the identity provider.
        client_ids: clients whose access tokens are accepted.
        subjects: what a subject must look like.
    """
    found, everyone = [], [operator["subject"] for operator in operators]
    if not issuer.startswith("https://"):
        found.append(f"vault_config_issuer is {issuer!r}: give an https URL.")
    if not everyone:
        found.append("vault_config_operators names nobody: without an operator who can log in, nobody could configure.")
    for name, values in (("vault_config_operators", everyone), ("vault_config_client_ids", list(client_ids))):
        wild = [value for value in values if "*" in value or not value.strip()]
        if wild:
            found.append(f"{name} has {wild[0]!r}, which may stand for anybody: give each in full.")
    if not list(client_ids):
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


def _blocks(addresses: Iterable[str]) -> list[str]:
    """Write single addresses as blocks, as the server returns them."""
    return [address if "/" in address else f"{address}/{128 if ':' in address else 32}" for address in addresses]


class FilterModule:
    """Filters about the configuration."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "service_policies": service_policies,
            "service_roles": service_roles,
            "planned_changes": planned_changes,
            "login_problems": login_problems,
        }
