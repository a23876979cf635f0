"""What roles/vault_server renders, through Ansible itself, for both products: HashiCorp's binary cannot be had here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/vault_server"
TEMPLATES = sorted(path.stem for path in (ROLE / "templates").glob("*.j2"))
# Rendered in one run of Ansible, which takes longer to start than to render. Each variant is a play with these variables.
VARIANTS: dict[str, dict[str, object]] = {
    "openbao": {},
    "vault": {"vault_product": "vault", "vault_version": "1.21.0"},
    "https": {"vault_server_extra_ports": [443]},
    # Last, and as facts: what other hosts say of themselves is no play's variable, and stays.
    "addresses": {"vault_peer_addresses": ["2001:db8::2", "192.0.2.7", "192.0.2.6"]},
}
Rendered = dict[str, dict[str, str]]


def play_of(variant: str, variables: dict[str, object], out: Path) -> dict[str, object]:
    """Return a play that renders every template for one member of the lab."""
    facts = variables if variant == "addresses" else {}
    changed = out / f"{variant}.vars.json"
    changed.write_text(json.dumps(variables))
    return {
        "hosts": "vault",
        "gather_facts": False,
        "connection": "local",
        "become": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "vars_files": [
            str(path) for path in (ROLE / "defaults/main.yml", changed, *sorted((ROLE / "vars/main").glob("*.yml")))
        ],
        "tasks": [
            {"name": "Set facts", "ansible.builtin.set_fact": facts, "when": bool(facts)},
            {
                "name": "Render every template",
                "ansible.builtin.copy": {"content": "{{ text | to_json }}", "dest": f"{out}/{variant}.json", "mode": "0644"},
                "vars": {
                    "text": {name: f"{{{{ lookup('template', '{ROLE}/templates/{name}.j2') }}}}" for name in TEMPLATES}
                },
                "when": "inventory_hostname == 'vault-iisas'",
            },
        ],
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return every template's text, by variant and name."""
    out = tmp_path_factory.mktemp("rendered")
    plays = out / "plays.yml"
    plays.write_text(json.dumps([play_of(variant, variables, out) for variant, variables in VARIANTS.items()]))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab", str(plays)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {variant: json.loads((out / f"{variant}.json").read_text()) for variant in VARIANTS}


@pytest.fixture
def openbao(rendered: Rendered) -> dict[str, str]:
    return rendered["openbao"]


@pytest.fixture
def vault(rendered: Rendered) -> dict[str, str]:
    return rendered["vault"]


def keys_of(configuration: str) -> set[str]:
    return set(re.findall(r"^\s*(\w+)\s*=", configuration, re.MULTILINE))


def test_openbao_declares_its_audit_devices_and_its_doors(openbao: dict[str, str]) -> None:
    text = openbao["server.hcl"]

    assert re.findall(r'^audit "(\w+)"', text, re.MULTILINE) == ["file", "syslog"]
    tcp, unix = text.split('listener "unix"')
    assert "disable_unauthed_generate_root_endpoints = true" in tcp
    assert "disable_unauthed_rekey_endpoints = true" in tcp
    assert "disable_unauthed_generate_root_endpoints = false" in unix
    assert "disable_standby_reads = true" in text
    assert "disable_mlock" not in text


def test_vault_gets_no_key_that_it_does_not_know(vault: dict[str, str]) -> None:
    text = vault["server.hcl"]
    unknown = {"disable_standby_reads", "disable_unauthed_rekey_endpoints", "disable_unauthed_generate_root_endpoints"}

    assert "disable_mlock = true" in text
    assert 'enable_unauthenticated_access = ["generate-root"]' in text, "break-glass, shut from 2.0 on"
    assert not re.search(r"^audit ", text, re.MULTILINE)
    assert not keys_of(text) & (unknown | {"autopilot_reconcile_interval", "autopilot_update_interval"})


@pytest.mark.parametrize("product", ["openbao", "vault"])
def test_a_member_joins_every_other_one_and_not_itself(product: str, rendered: Rendered) -> None:
    text = rendered[product]["server.hcl"]

    joined = re.findall(r'leader_tls_servername = "(.*)"', text)
    assert joined == ["vault-ifca.lab.test", "vault-infn.lab.test"]


def test_each_product_has_its_own_places(openbao: dict[str, str], vault: dict[str, str]) -> None:
    assert "ExecStart=/opt/openbao/current/bao server -config=/etc/openbao/openbao.hcl\n" in openbao["server.service"]
    assert "ExecStart=/opt/vault/current/vault server -config=/etc/vault.d/vault.hcl\n" in vault["server.service"]
    assert "/var/log/vault/audit.log {" in vault["logrotate"]
    assert "table inet vault_peers {" in vault["firewall.nft"]
    assert "openbao" not in "".join(vault.values()).lower()


def test_the_server_is_root_nowhere_and_has_no_capability(openbao: dict[str, str]) -> None:
    unit = openbao["server.service"]

    assert "CapabilityBoundingSet=\n" in unit
    assert "AmbientCapabilities" not in unit


def test_a_privileged_port_costs_one_capability_and_no_second_cluster_port(rendered: Rendered) -> None:
    https = rendered["https"]

    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in https["server.service"]
    assert re.findall(r' address\s+= "(.*)"', https["server.hcl"])[:2] == ["[::]:8200", "[::]:443"]
    assert re.findall(r'cluster_address\s+= "(.*)"', https["server.hcl"]) == ["[::]:8201", "127.0.0.1:444"]


def test_the_cluster_port_is_for_members_of_both_address_families(rendered: Rendered) -> None:
    table = rendered["addresses"]["peers.nft"]

    assert "ip saddr { 192.0.2.6, 192.0.2.7 } accept" in table
    assert "ip6 saddr { 2001:db8::2 } accept" in table
    assert "ip daddr { 192.0.2.6, 192.0.2.7 } accept" in table
    assert "ip6 daddr { 2001:db8::2 } accept" in table


def test_no_token_and_no_key_is_in_anything_rendered(openbao: dict[str, str]) -> None:
    assert not re.search(r"TOKEN|PRIVATE KEY", "".join(openbao.values()))
