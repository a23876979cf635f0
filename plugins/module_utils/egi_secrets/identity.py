"""Is the inventory's account of the nodes sound? Decided once, before anything is changed."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from ansible.module_utils.egi_secrets.products import UnknownProductError, product_named

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_FQDN = re.compile(rf"{_LABEL}(\.{_LABEL})+", re.IGNORECASE)
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+.][0-9A-Za-z.+-]+)?")
_TEXTS = ("site_name", "vault_node_id", "vault_node_fqdn", "vault_api_address", "vault_cluster_address", "vault_product")
_UNIQUE = ("vault_node_id", "vault_node_fqdn", "vault_api_address", "vault_cluster_address")
_SHARED = ("vault_product", "vault_version", "vault_cluster_name", "vault_generic_names")


def problems(members: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return a sentence with its remedy for each thing that is wrong with the members of group `vault`.

    `members` has each member's variables by its inventory name.
    """
    return [
        *(sentence for host, variables in members.items() for sentence in _of_one(host, variables)),
        *_not_unique(members),
        *_not_shared(members),
    ]


def audit_problems(members: Mapping[str, Mapping[str, object]], own: object) -> list[str]:
    """Return a sentence where `vault_server_audit_devices` is not the same on all members.

    `own` is what a member without the variable has: the role's default. Where the options differ, a standby fails its
    set-up after a take-over, and no node becomes active.
    """
    seen = {host: variables.get("vault_server_audit_devices", own) for host, variables in members.items()}
    odd = [host for host, devices in seen.items() if devices != next(iter(seen.values()))]
    if not odd:
        return []
    return [
        f"vault_server_audit_devices of {', '.join(odd)} differs from that of {next(iter(seen))}: set it once, in "
        "group_vars/vault, since nodes whose audit devices differ cannot take over from each other."
    ]


def _of_one(host: str, variables: Mapping[str, object]) -> Iterator[str]:
    for name in _TEXTS:
        if not isinstance(variables.get(name), str) or not variables[name]:
            yield f"{host} has no {name}: set it in host_vars/{host}.yml or group_vars/vault."
    fqdn = variables.get("vault_node_fqdn")
    if isinstance(fqdn, str) and fqdn and not _FQDN.fullmatch(fqdn):
        yield f"{host}: vault_node_fqdn is {fqdn!r}, which is no fully qualified DNS name."
    for name, port in (("vault_api_address", "vault_api_port"), ("vault_cluster_address", "vault_cluster_port")):
        yield from _of_address(host, name, variables.get(name), variables.get(port))
    yield from _of_peers(host, variables.get("vault_peer_addresses"))
    extra, cluster = variables.get("vault_server_extra_ports"), variables.get("vault_cluster_port")
    # Each further listener opens a cluster port of its own, which counts for nothing, on loopback at the next number.
    if isinstance(extra, list) and isinstance(cluster, int) and cluster - 1 in extra:
        yield (
            f"{host}: vault_server_extra_ports has {cluster - 1}, beside which the server takes {cluster}, its "
            "vault_cluster_port: choose another number for one of them."
        )
    product = variables.get("vault_product")
    if isinstance(product, str) and product:
        try:
            product_named(product)
        except UnknownProductError as error:
            yield f"{host}: {error}"
    version = str(variables.get("vault_version", ""))
    if not _VERSION.fullmatch(version):
        yield f"{host}: vault_version is {version!r}: give a full version such as 2.7.2."


def _of_address(host: str, name: str, address: object, port: object) -> Iterator[str]:
    if not isinstance(address, str) or not address:
        return
    try:
        parts = urlsplit(address)
        sound = parts.scheme == "https" and bool(parts.hostname) and parts.port == int(str(port))
    except ValueError:
        sound = False
    if not sound:
        yield f"{host}: {name} is {address!r}: give https://<name>:{port}."


def _of_peers(host: str, addresses: object) -> Iterator[str]:
    if not isinstance(addresses, Sequence) or isinstance(addresses, str) or not addresses:
        yield f"{host}: vault_peer_addresses is empty: list the IP addresses that its Raft traffic comes from."
        return
    for address in addresses:
        try:
            ipaddress.ip_address(str(address))
        except ValueError:
            yield f"{host}: vault_peer_addresses holds {address!r}, which is no IP address: the firewall takes no names."


def _not_unique(members: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for name in _UNIQUE:
        count = Counter(str(variables[name]) for variables in members.values() if variables.get(name))
        for value, times in count.items():
            if times > 1:
                who = ", ".join(host for host, variables in members.items() if variables.get(name) == value)
                yield f"{name} {value!r} belongs to {who}: every member needs one of its own."


def _not_shared(members: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for name in _SHARED:
        values = {host: variables.get(name) for host, variables in members.items()}
        first = next(iter(values), "")
        odd = [host for host, value in values.items() if value != values[first]]
        if odd:
            yield f"{name} of {', '.join(odd)} differs from that of {first}: set it once, in group_vars/vault."
