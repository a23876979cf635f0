"""The action plugin normal: our modules run in the worker, and do and return what they would in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import Authority, wait_for

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "s.this-is-a-token-that-nobody-may-see"
NODES = [{"name": "vault-infn", "url": "https://vault-infn.test:9", "connect_address": "127.0.0.1"}]


def run(
    tmp_path: Path, module: str, arguments: dict[str, object], *options: str, **task: object
) -> tuple[dict[str, Any], str]:
    """Run one task on the controller; return its result and all that was printed, with -vvv."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"one": {"ansible_connection": "local"}}}}))
    python = {"ansible_python_interpreter": sys.executable}
    tasks: list[dict[str, object]] = [
        {"name": "Run it", module: arguments, "register": "result", "ignore_errors": True, "vars": python, **task},
        {
            "ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(tmp_path / "result")},
            "check_mode": False,
        },
    ]
    (tmp_path / "playbook.yml").write_text(json.dumps([{"hosts": "one", "gather_facts": False, "tasks": tasks}]))
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [ansible, "-vvv", "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/playbook.yml", *options],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads((tmp_path / "result").read_text())
    return result, done.stdout + done.stderr


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The same, as Ansible runs any module."""

    def compare(module: str, arguments: dict[str, object], *options: str, **task: object) -> tuple[dict[str, Any], str]:
        monkeypatch.setenv("ANSIBLE_ACTION_PLUGINS", str(tmp_path / "none"))
        return run(tmp_path / "elsewhere", module, arguments, *options, **task)

    return compare


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


def packed(printed: str, module: str) -> bool:
    """Tell whether Ansible made a process of the module, as it says with -vvv."""
    return f"/modules/{module}.py" in printed


STEP_DOWN = {"nodes": NODES, "node": "vault-infn", "token": TOKEN, "ca_file": "/nowhere"}
CASES = [
    pytest.param("vault_clocks", {"nodes": NODES}, id="a success"),
    pytest.param("vault_step_down", STEP_DOWN, id="a refusal"),
    pytest.param("vault_step_down", {"nodes": NODES, "token": TOKEN}, id="an argument is missing"),
    pytest.param("vault_step_down", {**STEP_DOWN, "tokens": "b"}, id="there is no such argument"),
    pytest.param("vault_step_down", {**STEP_DOWN, "ca_file": f"/nowhere/{TOKEN}"}, id="a secret in what it says"),
]


@pytest.mark.parametrize(("module", "arguments"), CASES)
def test_the_result_is_that_of_a_process_of_its_own(
    module: str, arguments: dict[str, object], elsewhere: Any, tmp_path: Path, authority: Authority
) -> None:
    given = {"ca_file": str(authority.ca_file), **arguments, "timeout": 0.5}
    here, printed = run(tmp_path / "here", module, given)
    there, printed_there = elsewhere(module, given)
    assert not packed(printed, module)
    assert packed(printed_there, module)
    assert here == there
    assert TOKEN not in printed


def test_a_warning_is_seen(tmp_path: Path, authority: Authority, elsewhere: Any) -> None:
    directory = tmp_path / "old"
    directory.mkdir()
    certificate, key = authority.issue("soon.test")
    member = {"name": "a", "certificate_file": str(certificate), "key_file": str(key), "ca_file": str(authority.ca_file)}
    given: dict[str, object] = {"members": [{**member, "names": ["soon.test"]}], "keys": [key.read_text()], "warn_days": 30}
    here, printed = run(tmp_path / "here", "tls_material", given)
    there, _ = elsewhere("tls_material", given)
    assert {**here, "warnings": None} == {**there, "warnings": None}
    assert "[WARNING]" in printed
    assert key.read_text().splitlines()[1] not in printed


def test_check_mode_reaches_it(tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "made")}
    files: dict[str, object] = {"files": [{**given, "state": "directory"}]}
    here, printed = run(tmp_path / "here", "host_files", files, "--check")
    assert not packed(printed, "host_files")
    assert here["changed"]
    assert not (tmp_path / "made").exists()


def test_with_an_environment_it_is_a_process_of_its_own(tmp_path: Path, authority: Authority) -> None:
    given: dict[str, object] = {"nodes": NODES, "ca_file": str(authority.ca_file), "timeout": 0.5}
    _, printed = run(tmp_path / "here", "vault_clocks", given, environment={"TZ": "UTC"})
    assert packed(printed, "vault_clocks")


def test_as_another_user_it_is_a_process_of_its_own(tmp_path: Path, authority: Authority) -> None:
    given: dict[str, object] = {"nodes": NODES, "ca_file": str(authority.ca_file), "timeout": 0.5}
    _, printed = run(tmp_path / "here", "vault_clocks", given, become=True)  # whether or not sudo lets us
    assert packed(printed, "vault_clocks")


def test_a_module_of_ansible_is_a_process_of_its_own(tmp_path: Path) -> None:
    _, printed = run(tmp_path / "here", "ansible.builtin.ping", {})
    assert packed(printed, "ping")


# --- a module of the test's own ------------------------------------------------------------------------------------------

SLOW = """
import time
from ansible.module_utils.basic import AnsibleModule
def main():
    module = AnsibleModule(argument_spec={"directory": {"type": "path"}})
    marks = module.params["directory"]
    try:
        open(f"{marks}/begun", "w").close()
        time.sleep(60)
    finally:
        time.sleep(1)  # giving a login back takes a moment
        open(f"{marks}/given-back", "w").close()
    module.exit_json()
"""
RAISES = """
from ansible.module_utils.basic import AnsibleModule
def main():
    AnsibleModule(argument_spec={"directory": {"type": "path"}})
    raise KeyError("odd")
"""


@pytest.fixture
def with_module(tmp_path: Path) -> Callable[[str, dict[str, object]], list[str]]:
    """The plugin beside a module of the test's own; returns the command that runs it."""

    def make(content: str, task: dict[str, object]) -> list[str]:
        for name, text in (
            ("action/normal.py", (ROOT / "plugins/action/normal.py").read_text()),
            ("modules/own.py", content),
        ):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text(text)
        (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"one": {"ansible_connection": "local"}}}}))
        tasks = [{"own": {"directory": str(tmp_path)}, **task}]
        (tmp_path / "playbook.yml").write_text(json.dumps([{"hosts": "one", "gather_facts": False, "tasks": tasks}]))
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        return [ansible, "-i", f"{tmp_path}/hosts.yml", f"{tmp_path}/playbook.yml"]

    return make


def environment(tmp_path: Path) -> dict[str, str]:
    places = {"ANSIBLE_ACTION_PLUGINS": f"{tmp_path}/action", "ANSIBLE_LIBRARY": f"{tmp_path}/modules"}
    return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **places}


def test_one_that_is_interrupted_gives_back_what_it_took(with_module: Any, tmp_path: Path) -> None:
    with subprocess.Popen(
        with_module(SLOW, {}), env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        wait_for((tmp_path / "begun").exists, 30)
        run.send_signal(signal.SIGINT)
        printed, _ = run.communicate(timeout=30)
    assert run.returncode != 0
    wait_for((tmp_path / "given-back").exists, 10, printed.decode)


def test_what_it_does_not_catch_is_a_failure_as_any(with_module: Any, tmp_path: Path) -> None:
    tolerated = with_module(RAISES, {"failed_when": False})
    done = subprocess.run(tolerated, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "playbook.yml").write_text(
        (tmp_path / "playbook.yml").read_text().replace('"failed_when": false', '"name": "x"')
    )
    done = subprocess.run(tolerated, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "odd" in done.stdout + done.stderr
