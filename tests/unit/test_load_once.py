"""The callback load_once: plugins are loaded by the run, and not by each of its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = """
import os
with open(os.environ["LOADED"], "a") as file:
    print(os.getpid(), file=file)
class FilterModule:
    def filters(self):
        return {"of_the_test": lambda value: True}
class TestModule:
    def tests(self):
        return {"of_the_test": lambda value: True}
"""


@pytest.mark.parametrize("kind", ["filter", "test"])
def test_a_plugin_is_loaded_once(kind: str, tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/ours.py").write_text(PLUGIN)
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {name: {} for name in ("one", "two", "three")}}}))
    use = {"filter": "1 | of_the_test", "test": "1 is of_the_test"}[kind]
    tasks = [{"ansible.builtin.assert": {"that": use}}] * 2
    (tmp_path / "playbook.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", tmp_path / "playbook.yml"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            f"ANSIBLE_{kind.upper()}_PLUGINS": str(tmp_path / "plugins"),
            "LOADED": str(tmp_path / "loaded"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len((tmp_path / "loaded").read_text().split()) == 1
