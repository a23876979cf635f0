"""Filters about certificates and who trusts them; the decisions are in module_utils."""

from __future__ import annotations

import base64
import dataclasses
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ansible.module_utils
from ansible.errors import AnsibleFilterError

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets import certificates  # noqa: E402 - needs the path above
from ansible.module_utils.egi_secrets.certificates import Certificate  # noqa: E402
from ansible.module_utils.egi_secrets.operate import trust  # noqa: E402

HostVars = Mapping[str, Any]

FINGERPRINT_LENGTH = 16  # of a CA's sha256, in the name of its file


def pem_certificates(text: str) -> list[str]:
    """Return each certificate of a PEM file by itself."""
    return [ssl.DER_cert_to_PEM_cert(der) for der in certificates.from_pem(text)]


def authorities_by_name(authorities: Iterable[str], stem: str) -> dict[str, str]:
    """Return each of a system's own CAs by the name of its file, which never has another content, in the names' order.

    Args:
        authorities: PEM of each.
        stem: what the names begin with.
    """
    named = {f"{stem}-{certificates.fingerprints(pem)[0][:FINGERPRINT_LENGTH]}": pem for pem in authorities}
    return dict(sorted(named.items()))


def authority_files(authorities: Mapping[str, str], directory: str, leftovers: Iterable[str]) -> list[dict[str, str]]:
    """Return what host_files should make of a system's own CAs: a file each, and none of what is left of others.

    Args:
        authorities: PEM of each, by the name of its file.
        directory: where they lie.
        leftovers: paths of what is left of others.
    """
    return [
        *({"path": f"{directory}/{name}.crt", "content": pem} for name, pem in authorities.items()),
        *({"path": path, "state": "absent"} for path in leftovers),
    ]


def tls_listeners(hosts: Iterable[HostVars]) -> list[dict[str, object]]:
    """Return every listener of the hosts as the module tls_listeners wants it, with all names that users come to it by."""
    return [
        {
            "node": host["inventory_hostname"],
            "address": host["vault_connect_address"] or host["vault_node_fqdn"],
            "port": port,
            "names": [host["vault_node_fqdn"], *host["vault_generic_names"]],
        }
        for host in hosts
        for port in [host["vault_api_port"], *host.get("vault_server_extra_ports", [])]
    ]


def tls_peers(others: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return whom else the service talks to under a CA file of the inventory's.

    Args:
        others: of each `who`, its `url`, the `address` to connect to (empty: what the name resolves to), and `variable` that
            names its `ca_file` (empty: it has one that everybody's system trusts).

    Returns:
        Of each with such a file the `variable`, what the file holds as `ca`, and the `listener`.
    """
    found = []
    for each in others:
        parts = urlsplit(each["url"])
        if parts.hostname and each["ca_file"]:
            to, port = each["address"] or parts.hostname, parts.port or 443
            listener = {"node": each["who"], "address": to, "port": port, "names": [parts.hostname]}
            found.append(
                {"variable": each["variable"], "ca": _read(each["variable"], each["ca_file"]), "listener": listener}
            )
    return found


def tls_peer_problems(results: Iterable[Mapping[str, Any]], phase: str) -> list[str]:
    """Say whom of the others the inventory's CA files would lock out.

    Args:
        results: of a loop of the module tls_listeners over tls_peers.
        phase: the next step of the rotation.
    """
    problems = []
    for result in results:
        seen, variable = result["listeners"][0], result["item"]["variable"]
        if seen["certificate"] and seen["errors"]:
            why = "; ".join(seen["errors"].values())
            problems.append(
                f"{seen['node']} is not accepted with the CAs of {variable}: {why}. Put its CA into the file as well, until "
                "it has a certificate of another."
            )
        elif not seen["certificate"] and phase == "drop":
            problems.append(
                f"{seen['node']} does not answer ({seen['errors'].get('', 'no reason given')}), so nobody can tell whether "
                f"{variable} still holds its CA: run this again when it does."
            )
    return problems


def tls_rotation_plan(
    hosts: Iterable[HostVars], seen: Sequence[Mapping[str, Any]], judged: Mapping[str, Any], clients: Iterable[HostVars]
) -> dict[str, Any]:
    """Decide on the next step of a rotation. See trust.decide.

    Args:
        hosts: variables of the nodes, with what was looked at: vault_server_state, tls_rotation_pending and
            endpoint_failover_trusted.
        seen: what every listener serves, from the module tls_listeners.
        judged: each node's new certificate, from the module tls_material.
        clients: variables of the users' VMs, with fedcloud_client_trusted.

    Returns:
        phase, problems, says, next, and turns: the nodes that get certificates, in order.
    """
    nodes, known = list(hosts), _Known()
    parties = [party for host in nodes for party in _node_parties(host, known)]
    cluster_file = nodes[0]["vault_cluster_ca_file"]
    own = known.file("vault_cluster_ca_file", cluster_file)
    parties.append(trust.Party("this controller", "vault_cluster_ca_file", own, own))
    parties += [party for host in clients for party in _client_parties(host, known)]
    late = sorted((host for host in nodes if host["tls_rotation_pending"]), key=_leads)
    renewals = [trust.Renewal(host["inventory_hostname"], _vouching(judged, host["inventory_hostname"])) for host in late]
    plan = trust.decide(parties, _served(nodes, seen), renewals, known.names)
    return {**dataclasses.asdict(plan), "turns": [each.node for each in renewals] if plan.phase == "certificates" else []}


def tls_leaps(host: HostVars, judged: Mapping[str, Any]) -> bool:
    """Tell whether a node would go to another CA in one go. One whose certificate or CA has ended may. See trust.leaps.

    Args:
        host: variables of the node, with vault_server_state.
        judged: its new certificate, from the module tls_material.
    """
    tls = host["vault_server_state"]["tls"]
    if not tls["served"] or tls["served"]["days_left"] < 0:
        return False
    vouching = [each for each in tls["trust"] if each["sha256"] in tls["authorities"]]
    if vouching and all(each["days_left"] < 0 for each in vouching):
        return False
    trusts = frozenset(each["sha256"] for each in tls["trust"])
    party = trust.Party("", "", trusts, frozenset(each["sha256"] for each in judged["trust"]))
    return trust.leaps(party, frozenset(tls["authorities"]), frozenset(judged["authorities"]))


def tls_left(host: HostVars, judged: Mapping[str, Any]) -> bool:
    """Tell whether a node's certificate is left to rotate-tls, which tries it on one node at a time.

    It is, where the node serves another that clients accept, or where its server runs and what it serves could not be seen.
    Where no server runs, or it serves one that has ended or that nobody trusts, there is nothing to lose.

    Args:
        host: variables of the node, with vault_server_state.
        judged: its new certificate, from the module tls_material.
    """
    state = host["vault_server_state"]
    served, error = state["tls"]["served"], state["tls"]["error"]
    if not served:
        return bool(state["running"])
    return not error and served["sha256"] != judged["sha256"]


def tls_silent_problems(listeners: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say which listeners do not answer, a sentence each, before a new certificate is blamed for it.

    Args:
        listeners: what the module tls_listeners returned of each.
    """
    return [
        f"{each['node']} does not answer this controller on port {each['port']}, so nobody could see what it serves there: "
        "where a restart is pending that brings the port, playbooks/operate/upgrade-cluster.yml; otherwise see firewalls."
        for each in listeners
        if each["certificate"] is None
    ]


def tls_older_problems(hosts: Iterable[HostVars], judged: Mapping[str, Any]) -> list[str]:
    """Say which nodes would go back to an older certificate, as from a checkout that is behind.

    Args:
        hosts: variables of the nodes, with vault_server_state.
        judged: each node's new certificate, from the module tls_material.
    """
    problems = []
    for host in hosts:
        name = host["inventory_hostname"]
        served, new = host["vault_server_state"]["tls"]["served"], judged[name]
        if not served or served["days_left"] < 0 or served["sha256"] == new["sha256"]:
            continue
        if new["not_before_seconds"] < served["not_before_seconds"]:
            problems.append(
                f"The inventory's certificate of {name} ({new['serial']}) begins on {new['not_before']}, before the one "
                f"that it serves ({served['serial']}, {served['not_before']}): bring your checkout up to date, or give "
                "-e tls_rotation_older=true to go back."
            )
    return problems


def tls_fingerprints(judged: Mapping[str, Any]) -> dict[str, str]:
    """Return each node's sha256 of the certificate that the inventory has for it."""
    return {node: each["sha256"] for node, each in judged.items() if each}


def tls_served(seen: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tell what every listener serves, a line each."""
    return [
        f"{each['node']}:{each['port']} serves {each['certificate']['serial']} of {each['certificate']['issuer']}, "
        f"{each['certificate']['days_left']:.0f} days left"
        for each in seen
        if each["certificate"]
    ]


class _Known:
    """CAs that were met, with their names."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def text(self, pem: str) -> frozenset[str]:
        try:
            return self.all([certificates.read(der) for der in certificates.from_pem(pem)])
        except (ValueError, IndexError):
            return frozenset()

    def all(self, met: Iterable[Certificate]) -> frozenset[str]:
        found = {each.sha256: each.subject for each in met}
        self.names |= found
        return frozenset(found)

    def told(self, met: Iterable[Mapping[str, str]]) -> frozenset[str]:
        found = {each["sha256"]: each["subject"] for each in met}
        self.names |= found
        return frozenset(found)

    def file(self, variable: str, path: str) -> frozenset[str]:
        found = self.text(_read(variable, path))
        if not found:
            raise AnsibleFilterError(f"{variable} ({path}) holds no PEM certificate: give the CAs, one after another.")
        return found


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AnsibleFilterError(f"{variable} ({path}) cannot be read ({error}): correct the variable.") from error


def _node_parties(host: HostVars, known: _Known) -> Iterable[trust.Party]:
    name = host["inventory_hostname"]
    wanted = known.file("vault_server_tls_ca_file", host["vault_server_tls_ca_file"])
    yield trust.Party(name, "vault_server_tls_ca_file", known.told(host["vault_server_state"]["tls"]["trust"]), wanted)
    checker = host.get("endpoint_failover_trusted") or {}
    if checker.get("content"):  # otherwise there is none
        trusts = known.text(base64.b64decode(checker["content"]).decode(errors="replace"))
        wanted = known.file("vault_cluster_ca_file", host["vault_cluster_ca_file"])
        yield trust.Party(f"the checker on {name}", "vault_cluster_ca_file", trusts, wanted)


def _client_parties(host: HostVars, known: _Known) -> Iterable[trust.Party]:
    file = host.get("fedcloud_client_ca_file", "")
    if file:  # otherwise it trusts what its system came with
        trusted = host.get("fedcloud_client_trusted")
        trusts = None if trusted is None else known.text("\n".join(trusted))
        wanted = known.file("fedcloud_client_ca_file", file)
        yield trust.Party(host["inventory_hostname"], "fedcloud_client_ca_file", trusts, wanted)


def _served(nodes: Iterable[HostVars], seen: Iterable[Mapping[str, Any]]) -> list[trust.Served]:
    """Join what the controller makes of each listener with what its own node, which may trust others, makes of it."""
    own = {
        (host["inventory_hostname"], each["port"]): each["authorities"]
        for host in nodes
        for each in host["vault_server_state"]["tls"]["listeners"]
    }
    return [
        trust.Served(
            f"{each['node']}:{each['port']}",
            each["node"],
            frozenset(each["authorities"]) | frozenset(own.get((each["node"], each["port"]), [])),
        )
        for each in seen
        if each["certificate"]
    ]


def _leads(host: HostVars) -> bool:
    server = host["vault_server_state"]["server"] or {}
    return bool((server.get("leader") or {}).get("is_self"))


def _vouching(judged: Mapping[str, Any], name: str) -> frozenset[str]:
    return frozenset((judged.get(name) or {}).get("authorities", []))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "pem_certificates": pem_certificates,
            "authorities_by_name": authorities_by_name,
            "authority_files": authority_files,
            "tls_listeners": tls_listeners,
            "tls_peers": tls_peers,
            "tls_peer_problems": tls_peer_problems,
            "tls_rotation_plan": tls_rotation_plan,
            "tls_fingerprints": tls_fingerprints,
            "tls_leaps": tls_leaps,
            "tls_older_problems": tls_older_problems,
            "tls_silent_problems": tls_silent_problems,
            "tls_left": tls_left,
            "tls_served": tls_served,
        }
