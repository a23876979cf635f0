"""Whom the nodes, checkers and VMs of an inventory trust, as the decision about certificates wants it."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.egi_secrets import certificates

from tests.integration.servers import Authority

FILTERS = Path(__file__).resolve().parents[2] / "plugins/filter/tls.py"


@pytest.fixture(scope="module")
def tls() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tls_filters", FILTERS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    (tmp_path / "old").mkdir()
    return Authority(tmp_path / "old", "old CA")


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    (tmp_path / "new").mkdir()
    return Authority(tmp_path / "new", "new CA")


def sha(authority: Authority) -> str:
    return certificates.fingerprints(authority.ca_file.read_text())[0]


def host(name: str, ca_file: Path, trusts: Authority, *, leads: bool = False, pending: bool = False) -> dict[str, Any]:
    """A node whose checker and listeners are of the CA `trusts`."""
    return {
        "inventory_hostname": name,
        "vault_node_fqdn": f"{name}.test",
        "vault_connect_address": "",
        "vault_api_port": 8200,
        "vault_server_extra_ports": [443],
        "vault_generic_names": ["vault.test"],
        "vault_server_tls_ca_file": str(ca_file),
        "vault_cluster_ca_file": str(ca_file),
        "tls_rotation_pending": pending,
        "vault_server_state": {
            "running": True,
            "server": {"leader": {"is_self": leads}},
            "tls": {
                "trust": [{"sha256": sha(trusts), "subject": "CN=old CA", "days_left": 900}],
                "listeners": [{"port": port, "authorities": [sha(trusts)]} for port in (8200, 443)],
                "served": {"days_left": 10, "sha256": "served"},
                "error": None,
                "authorities": [sha(trusts)],
            },
        },
        "endpoint_failover_trusted": {"content": base64.b64encode(trusts.ca_file.read_bytes()).decode()},
    }


def seen(*names: str, by: Authority) -> list[dict[str, Any]]:
    return [
        {"node": name, "port": port, "certificate": {"serial": "1"}, "authorities": [sha(by)]}
        for name in names
        for port in (8200, 443)
    ]


def test_every_listener_is_looked_at_under_every_name(tls: ModuleType, old: Authority) -> None:
    found = tls.tls_listeners([host("vault-infn", old.ca_file, old)])
    assert [each["port"] for each in found] == [8200, 443]
    assert found[1]["names"] == ["vault-infn.test", "vault.test"]
    assert found[1]["address"] == "vault-infn.test"


def test_nodes_checkers_and_vms_are_all_asked(tls: ModuleType, old: Authority, new: Authority, tmp_path: Path) -> None:
    bundle = tmp_path / "both.crt"
    bundle.write_text(new.ca_file.read_text() + old.ca_file.read_text())
    nodes = [host("vault-infn", bundle, old)]
    vm = {"inventory_hostname": "vm", "fedcloud_client_ca_file": str(bundle), "fedcloud_client_trusted": []}
    plan = tls.tls_rotation_plan(nodes, seen("vault-infn", by=old), {}, [vm])
    assert plan["phase"] == "trust"
    assert "vault-infn, the checker on vault-infn and vm will trust CN=new CA and CN=old CA as well" in plan["says"]
    elsewhere = tls.tls_rotation_plan(nodes, seen("vault-infn", by=old), {}, [vm | {"fedcloud_client_ca_file": ""}])
    assert " vm " not in elsewhere["says"]


def test_the_node_that_leads_is_last(tls: ModuleType, old: Authority) -> None:
    nodes = [host("a", old.ca_file, old, leads=True, pending=True), host("b", old.ca_file, old, pending=True)]
    judged = {name: {"authorities": [sha(old)], "sha256": name} for name in "ab"}
    plan = tls.tls_rotation_plan(nodes, seen("a", "b", by=old), judged, [])
    assert plan["turns"] == ["b", "a"]
    assert tls.tls_fingerprints(judged) == {"a": "a", "b": "b"}


def test_a_ca_file_that_cannot_be_read_is_named(tls: ModuleType, old: Authority, tmp_path: Path) -> None:
    with pytest.raises(AnsibleFilterError, match=r"vault_cluster_ca_file .*cannot be read"):
        tls.tls_rotation_plan([host("a", old.ca_file, old) | {"vault_cluster_ca_file": str(tmp_path / "gone")}], [], {}, [])


def test_others_are_judged_by_the_file_that_names_their_ca(tls: ModuleType, old: Authority) -> None:
    issuer = {"who": "Check-in", "url": "https://checkin.test/x", "address": "", "variable": "vault_config_issuer_ca_file"}
    (peer,) = tls.tls_peers([issuer | {"ca_file": str(old.ca_file)}])
    assert peer["listener"] == {"node": "Check-in", "address": "checkin.test", "port": 443, "names": ["checkin.test"]}
    assert tls.tls_peers([issuer | {"ca_file": ""}]) == []

    strange = {"node": "Check-in", "certificate": {}, "errors": {"checkin.test": "unable to get local issuer certificate"}}
    rejected = {"listeners": [strange | {"certificate": {"serial": "1"}}], "item": peer}
    assert (
        "Check-in is not accepted with the CAs of vault_config_issuer_ca_file"
        in tls.tls_peer_problems([rejected], "trust")[0]
    )
    silent = {"listeners": [strange | {"certificate": None, "errors": {"": "timed out"}}], "item": peer}
    assert tls.tls_peer_problems([silent], "trust") == []
    assert "does not answer (timed out)" in tls.tls_peer_problems([silent], "drop")[0]


def test_a_system_has_a_file_for_each_ca(tls: ModuleType, old: Authority, new: Authority) -> None:
    both = tls.pem_certificates(new.ca_file.read_text() + "# comment\n" + old.ca_file.read_text())
    assert len(both) == 2
    named = tls.authorities_by_name(both, "ours")
    assert list(named) == sorted(f"ours-{sha(each)[:16]}" for each in (old, new))
    assert list(tls.authorities_by_name([*reversed(both), both[0]], "ours").items()) == list(named.items())
    files = tls.authority_files(named, "/ca", ["/ca/ours-2.crt", "/certs/ours-2.pem"])
    assert files[:2] == [{"path": f"/ca/{name}.crt", "content": pem} for name, pem in named.items()]
    assert files[2:] == [{"path": path, "state": "absent"} for path in ("/ca/ours-2.crt", "/certs/ours-2.pem")]


def test_a_certificate_that_has_ended_may_be_replaced_by_any(tls: ModuleType, old: Authority, new: Authority) -> None:
    node = host("vault-infn", new.ca_file, old)
    judged = {"trust": [{"sha256": sha(new)}], "authorities": [sha(new)]}
    assert tls.tls_leaps(node, judged)
    node["vault_server_state"]["tls"]["served"] = {"days_left": -1}
    assert not tls.tls_leaps(node, judged)


def test_where_the_ca_has_ended_the_certificate_may_be_replaced_by_any(
    tls: ModuleType, old: Authority, new: Authority
) -> None:
    node = host("vault-infn", new.ca_file, old)
    judged = {"trust": [{"sha256": sha(new)}], "authorities": [sha(new)]}
    for each in node["vault_server_state"]["tls"]["trust"]:
        each["days_left"] = -1
    assert not tls.tls_leaps(node, judged)


def test_a_listener_that_does_not_answer_is_told_before_a_certificate_is_blamed(tls: ModuleType) -> None:
    seen: dict[int, object] = {443: None, 8200: {"serial": "1"}}
    listeners = [{"node": "vault-infn", "port": port, "certificate": each} for port, each in seen.items()]
    (problem,) = tls.tls_silent_problems(listeners)
    assert "vault-infn does not answer this controller on port 443" in problem


def test_site_yml_leaves_a_certificate_that_is_served_to_rotate_tls(tls: ModuleType, old: Authority) -> None:
    node = host("vault-infn", old.ca_file, old)
    assert tls.tls_left(node, {"sha256": "new"})
    assert not tls.tls_left(node, {"sha256": "served"}), "its files may be mended"
    state = node["vault_server_state"]["tls"]
    state["error"] = "certificate has expired"
    assert not tls.tls_left(node, {"sha256": "new"})
    state |= {"served": None, "error": None}
    assert tls.tls_left(node, {"sha256": "new"}), "it runs, and did not answer in time"
    node["vault_server_state"]["running"] = False
    assert not tls.tls_left(node, {"sha256": "new"}), "no server runs there"


def test_a_certificate_older_than_the_one_that_is_served_is_refused(tls: ModuleType, old: Authority) -> None:
    node = host("vault-infn", old.ca_file, old)
    served = {"sha256": "served", "serial": "2", "days_left": 10, "not_before": "2026-02-01", "not_before_seconds": 2.0}
    older = {"sha256": "older", "serial": "1", "not_before": "2026-01-01", "not_before_seconds": 1.0}
    node["vault_server_state"]["tls"]["served"] = served
    (problem,) = tls.tls_older_problems([node], {"vault-infn": older})
    assert "certificate of vault-infn (1) begins on 2026-01-01, before the one that it serves (2, 2026-02-01)" in problem
    assert tls.tls_older_problems([node], {"vault-infn": older | {"not_before_seconds": 2.0}}) == []
    assert tls.tls_older_problems([node], {"vault-infn": older | {"sha256": "served"}}) == []
    served["days_left"] = -1
    assert tls.tls_older_problems([node], {"vault-infn": older}) == []
