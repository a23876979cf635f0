"""Whom a user's VM trusts, asked of one that is down: the playbook that asks goes on without an answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.servers import LOOPBACK, free_ports

ROOT = Path(__file__).resolve().parents[3]


def test_a_vm_that_is_down_ends_no_playbook(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    role = {"name": "fedcloud_client", "tasks_from": "trusted", "rolespec_validate": False}
    tasks = [
        {"name": "See whom the VM trusts", "ansible.builtin.import_role": role},
        {"name": "Go on", "ansible.builtin.debug": {"msg": "asked: {{ fedcloud_client_trusted is defined }}"}},
    ]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    host = {"ansible_host": LOOPBACK, "ansible_port": port, "fedcloud_client_ca_file": ""}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"vm": host}}}))
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", tmp_path / "play.json"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "asked: False" in run.stdout
