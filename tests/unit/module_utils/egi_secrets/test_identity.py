from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.egi_secrets import identity


def member(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "site_name": name,
        "vault_node_id": name,
        "vault_node_fqdn": f"{name}.example.org",
        "vault_api_port": 8200,
        "vault_cluster_port": 8201,
        "vault_api_address": f"https://{name}.example.org:8200",
        "vault_cluster_address": f"https://{name}.example.org:8201",
        "vault_peer_addresses": ["192.0.2.1"],
        "vault_generic_names": ["vault.example.org"],
        "vault_cluster_name": "egi",
        "vault_product": "openbao",
        "vault_version": "2.7.2",
        **changed,
    }


def sound() -> dict[str, dict[str, Any]]:
    return {name: member(name) for name in ("a", "b", "c")}


def test_a_sound_inventory_has_no_problems() -> None:
    assert identity.problems(sound()) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"site_name": ""}, "b has no site_name"),
        ({"vault_node_id": "a"}, "vault_node_id 'a' belongs to a, b"),
        ({"vault_node_fqdn": "localhost"}, "no fully qualified DNS name"),
        ({"vault_api_address": "http://b.example.org:8200"}, "give https://<name>:8200"),
        ({"vault_cluster_address": "https://b.example.org"}, "give https://<name>:8201"),
        ({"vault_api_address": "https://b.example.org:x"}, "give https://<name>:8200"),
        ({"vault_peer_addresses": []}, "vault_peer_addresses is empty"),
        ({"vault_peer_addresses": ["b.example.org"]}, "the firewall takes no names"),
        ({"vault_product": "consul"}, "set it to openbao or vault"),
        ({"vault_version": "latest"}, "give a full version"),
        ({"vault_server_extra_ports": [443, 8200]}, "beside which the server takes 8201"),
        ({"vault_version": "2.7.1"}, "vault_version of b differs from that of a"),
        ({"vault_cluster_name": "other"}, "vault_cluster_name of b differs"),
    ],
)
def test_each_problem_is_a_sentence(changed: dict[str, Any], says: str) -> None:
    members = sound() | {"b": member("b", **changed)}

    assert any(says in sentence for sentence in identity.problems(members))


def test_audit_devices_that_differ_are_refused_wherever_they_are_set() -> None:
    default = [{"name": "file", "type": "file", "options": {}}]
    members = sound() | {"c": member("c", vault_server_audit_devices=[])}

    assert "of c differs from that of a" in identity.audit_problems(members, default)[0]
    assert identity.audit_problems(sound(), default) == []
