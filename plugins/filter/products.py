"""Filters about the product and the members of the cluster; the decisions are in module_utils."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets import identity, ports, products  # noqa: E402 - needs the path above


def product_profile(name: str) -> dict[str, object]:
    """Return all that is particular about the product called `name`."""
    return products.profile(name)


def product_checkers(name: str, state: Mapping[str, Any], version: str) -> list[list[str]]:
    """Return the commands all of which must accept a new configuration on a node, from what `vault_node_state` saw.

    The release that the inventory asks for, and the one that the next start runs until a rolling restart brings that.
    """
    versions = state["versions"]
    current = {versions["current"]} & set(versions["installed"])
    return products.product_named(name).checkers(sorted(current | {version}))


def ports_taken(state: Mapping[str, Any]) -> list[str]:
    """Say which ports of a node's server somebody else has, from what `vault_node_state` saw. See ports.taken."""
    return [f"port {port} by {who}" for port, who in ports.taken(state["ports"], state["process"]).items()]


def identity_problems(members: Mapping[str, Mapping[str, object]], audit_devices: object) -> list[str]:
    """Return what is wrong with the members of the cluster, a sentence each."""
    return [*identity.problems(members), *identity.audit_problems(members, audit_devices)]


def members_of(hostvars: Mapping[str, Mapping[str, object]], names: Sequence[str]) -> dict[str, Mapping[str, object]]:
    """Return the variables of the hosts called `names`, by name; for `hostvars`."""
    return {name: hostvars[name] for name in names}


def tls_members(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return what the module tls_material judges of each host, from the variables of the hosts."""
    return [
        {
            "name": host["inventory_hostname"],
            "certificate_file": host["vault_server_tls_certificate_file"],
            "key_file": host["vault_server_tls_key_file"],
            "ca_file": host["vault_server_tls_ca_file"],
            "names": [host["vault_node_fqdn"], *host["vault_generic_names"]],
        }
        for host in hosts
    ]


def of_ip_version(addresses: Sequence[str], version: int) -> list[str]:
    """Return the addresses of one IP version, sorted and once each."""
    return [str(one) for one in sorted({ip_address(text) for text in addresses if ip_address(text).version == version})]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "product_profile": product_profile,
            "product_checkers": product_checkers,
            "ports_taken": ports_taken,
            "identity_problems": identity_problems,
            "members_of": members_of,
            "tls_members": tls_members,
            "of_ip_version": of_ip_version,
        }
