"""Filters that turn what the inventory says of services into the objects that `vault_config` keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
        }
