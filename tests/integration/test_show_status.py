"""show-status from its first task to its last, of the lab's inventory, with hosts that nobody reaches."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "vault_connect_address": "127.0.0.1"}


def show(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it from a directory."""
    (directory / "ca.crt").touch()
    given = NOWHERE | {"vault_cluster_ca_file": str(directory / "ca.crt"), "vault_cluster_bundle_file": str(directory / "b")}
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", ROOT / "inventories/lab",
         ROOT / "playbooks/operate/show-status.yml", "-e", json.dumps(given), *arguments],
        cwd=directory, capture_output=True, text=True, check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_SSH_RETRIES": "0", "VAULT_TOKEN": "",
             "OIDC_ACCESS_TOKEN": ""},
    )  # fmt: skip


def test_scripts_get_json_in_the_file_that_they_name(tmp_path: Path) -> None:
    run = show(tmp_path, "-e", "output=json", "-e", "output_file=other.json")
    assert run.returncode == 2, run.stdout + run.stderr
    found = json.loads((tmp_path / "other.json").read_text())
    assert {node["state"] for node in found["nodes"]} == {"unreachable"}
    assert [todo["runbook"] for todo in found["todo"]][:3] == ["docs/runbooks/index.md"] * 3
    assert stat.S_IMODE((tmp_path / "other.json").stat().st_mode) == 0o600
    assert f"See {tmp_path}/other.json." in run.stdout


def test_hosts_that_fail_are_shown_and_those_left_out_raise_nothing(tmp_path: Path) -> None:
    refused = {"ansible_connection": "local", "ansible_become_user": "nobody", "ansible_become_exe": "/bin/false"}
    run = show(tmp_path, "-e", "output=json", "-e", json.dumps(refused), "--limit", "vault-infn")
    assert run.returncode == 2, run.stdout + run.stderr
    found = json.loads((tmp_path / "status.json").read_text())
    states = {node["node"]: node["state"] for node in found["nodes"]}
    assert states == dict.fromkeys(states, "not asked") | {"vault-infn": "failed"}
    assert [todo["what"] for todo in found["todo"] if "vault-infn could not be looked at" in todo["what"]] != []
    assert "Only a part of the service was looked at" in found["notes"][0]


def test_addresses_that_dns_does_not_tell_hide_nothing_else(tmp_path: Path) -> None:
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "vault_peer_addresses": "{{ lookup('file', '/nowhere') }}",
    }
    run = show(tmp_path, "-e", "output=json", "-e", json.dumps(here), "--limit", "vault-infn")
    assert run.returncode == 2, run.stdout + run.stderr
    found = json.loads((tmp_path / "status.json").read_text())
    assert {node["node"]: node["state"] for node in found["nodes"]}["vault-infn"] == "stopped"
    (todo,) = [todo for todo in found["todo"] if "Firewalls could not be compared" in todo["what"]]
    assert "/nowhere" in todo["what"]
    assert todo["runbook"] == "docs/runbooks/stand-up.md"


def test_an_output_that_there_is_not_is_refused_before_anything(tmp_path: Path) -> None:
    run = show(tmp_path, "-e", "output=jsno")
    assert "output is 'jsno': give -e output=screen or -e output=json." in run.stdout
    assert run.stdout.count("TASK [") == 1
