"""What runs do in which order, where a test on hosts would have to hit the moment between two tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"


def steps(file: str) -> list[str]:
    """Return what each task of a file is about: the tasks of a role that it includes, a file, or its module."""
    return [_what(task) for task in _flat(yaml.safe_load((ROLES / file).read_text()))]


def _flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        if "block" in task:
            yield from _flat(task["block"])
        else:
            yield task


def _what(task: dict[str, Any]) -> str:
    role = task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role")
    if role:
        return f"{role['name']}/{role.get('tasks_from', 'main')}"
    file = task.get("ansible.builtin.include_tasks") or task.get("ansible.builtin.import_tasks")
    return str(file) if file else next(key for key in task if "." in key or "_" in key)


def test_a_host_joins_under_a_lock_that_was_asked_for_after_its_installation_and_its_disk_is_looked_at() -> None:
    assert steps("membership/tasks/add.yml") == [
        "vault_server/main",
        "vault_cluster/lock",
        "vault_cluster/join",
        "vault_server/look",
        "hand-on.yml",
    ]


def test_a_site_that_left_is_held_no_more() -> None:
    done = steps("membership/tasks/verify.yml")
    assert done.index("ansible.builtin.assert") < done.index("endpoint_failover/forget")
    assert steps("endpoint_failover/tasks/forget.yml") == ["holds.yml", "release.yml"]


def test_only_a_site_of_the_inventory_has_to_serve_before_it_is_released() -> None:
    tasks = yaml.safe_load((ROLES / "endpoint_failover/tasks/restore.yml").read_text())
    asked, refused, *proofs = tasks[: [_what(task) for task in tasks].index("release.yml")]
    assert (_what(asked), asked["when"]) == ("holds.yml", "endpoint_failover_site not in __endpoint_failover_sites")
    assert "in endpoint_failover_holds.holds" in refused["ansible.builtin.assert"]["that"]
    assert {task["when"] for task in proofs} == {"endpoint_failover_site in __endpoint_failover_sites"}


@pytest.mark.parametrize("file", ["drain", "restore"])
def test_a_check_does_not_say_that_it_was_done(file: str) -> None:
    tasks = yaml.safe_load((ROLES / f"endpoint_failover/tasks/{file}.yml").read_text())
    says = {
        task["ansible.builtin.debug"]["msg"]: task["when"].split(" and ")[0]
        for task in tasks
        if _what(task) == "ansible.builtin.debug"
    }
    assert {when for text, when in says.items() if "would" in text} == {"ansible_check_mode"}
    assert {when for text, when in says.items() if "would" not in text} == {"not ansible_check_mode"}


def test_who_is_to_be_stopped_is_decided_under_the_lock() -> None:
    done = steps("membership/tasks/main.yml")
    assert done.index("vault_cluster/lock") < done.index("ask.yml") < done.index("retire.yml")


def test_an_older_version_is_refused_before_anybody_is_asked() -> None:
    assert steps("membership/tasks/plan.yml")[0] == "ansible.builtin.assert"


def test_what_fails_before_a_restart_is_no_server_that_does_not_start() -> None:
    tasks = yaml.safe_load((ROLES / "vault_server/tasks/restart.yml").read_text())
    rescued = next(task for task in tasks if "rescue" in task)
    assert _what(rescued["block"][0]) == "ansible.builtin.systemd_service"
    assert len(tasks) == 1 + tasks.index(rescued) == 2


def test_what_is_asked_without_python_on_the_host_has_no_terminal_there() -> None:
    """With one, `raw` would mix what sudo grumbles into the answer. In the lab root logs in, and sudo says nothing."""
    found = [
        task
        for path in ROLES.glob("*/tasks/*.yml")
        for task in yaml.safe_load(path.read_text())
        if "ansible.builtin.raw" in task
    ]
    assert len(found) >= 4
    assert all(task["vars"]["ansible_ssh_use_tty"] is False for task in found)


def test_a_server_that_does_not_answer_is_waited_for_whether_or_not_it_has_a_process() -> None:
    tasks = yaml.safe_load((ROLES / "rolling_restart/tasks/finish.yml").read_text())
    start = next(task for task in tasks if _what(task) == "vault_server/start")
    assert "health" in start["when"]
    assert "running" not in start["when"]


def test_a_node_that_is_about_to_lead_is_waited_for_before_a_root_token_is_refused() -> None:
    tasks = yaml.safe_load((ROLES / "vault_cluster/tasks/root-preflight.yml").read_text())
    once, again = (task for task in tasks if _what(task) == "ask.yml")
    assert "vars" not in once
    assert (again["vars"], again["when"]) == ({"vault_cluster_ask_patience": 15}, "__vault_cluster_leader | length == 0")


@pytest.mark.parametrize("file", ["submit-shares.yml", "open.yml", "root-attempt.yml", "revoke_root.yml"])
def test_what_check_mode_looks_at_is_the_bundle_that_was_found(file: str) -> None:
    tasks = list(_flat(yaml.safe_load((ROLES / "vault_cluster/tasks" / file).read_text())))
    given = [task[_what(task)] for task in tasks if "bundle_file" in task.get(_what(task), {})]
    assert [each["bundle"] for each in given] == ["{{ vault_cluster_init.bundle }}"]


def test_a_log_of_raft_is_the_last_to_go_of_a_host_that_is_emptied() -> None:
    names = [task["name"] for task in yaml.safe_load((ROLES / "vault_server/tasks/retire.yml").read_text())]
    assert names[-1] == "Remove its log, and what else there is", "by it a cut-off run sees that it has to go on"
    assert "Remove what its data are" in names
