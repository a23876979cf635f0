"""Filters that shape what hosts say into what the decision about membership wants of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

HostVars = Mapping[str, Any]


def disks_of_members(hosts: Iterable[HostVars]) -> list[dict[str, Any]]:
    """Return of each host whether its disk holds a log of Raft; null where it could not be reached.

    Args:
        hosts: variables of the hosts, with what look.yml of vault_server kept.
    """
    states = {host["vault_node_id"]: host.get("vault_server_state") or {} for host in hosts}
    return [{"name": node, "remembers": state.get("remembers")} for node, state in states.items()]


def leaving_hosts(hostvars: Mapping[str, HostVars], names: Iterable[str], nodes: Sequence[str]) -> list[str]:
    """Return which hosts are one of the nodes, and say where their API is.

    Args:
        hostvars: Ansible's.
        names: inventory names of the hosts to look at.
        nodes: Raft node ids.
    """
    known = [name for name in names if hostvars[name].get("vault_api_address")]
    return hosts_of_nodes(known, hostvars, nodes)


def hosts_of_nodes(
    names: Iterable[str], hostvars: Mapping[str, HostVars], nodes: Sequence[str], *, negated: bool = False
) -> list[str]:
    """Return which hosts are one of the nodes.

    Args:
        names: inventory names of the hosts to look at.
        hostvars: Ansible's.
        nodes: Raft node ids.
        negated: return the others instead.
    """
    return [name for name in names if (hostvars[name]["vault_node_id"] in nodes) is not negated]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {"disks_of_members": disks_of_members, "leaving_hosts": leaving_hosts, "hosts_of_nodes": hosts_of_nodes}
