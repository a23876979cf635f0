"""Filters that shape what hosts say: what is missing there must not be taken for all being well."""

from __future__ import annotations

import base64
import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from ansible.module_utils.egi_secrets.bundle import Bundle, RootToken
from ansible.module_utils.egi_secrets.keys import Ours, Pending, Share

REPOSITORY = Path(__file__).resolve().parents[2]


def filters(name: str) -> ModuleType:
    """Load a file of filters as Ansible does, by its path."""
    spec = importlib.util.spec_from_file_location(f"{name}_filters", REPOSITORY / f"plugins/filter/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("names", "told"), [([{"name": "vault.example"}], True), ([], False), (None, False)])
def test_checkers_are_expected_where_the_inventory_has_names(names: object, told: bool) -> None:
    host = {"vault_node_id": "vault-infn", "site_name": "infn", "endpoint_failover_names": names}
    assert filters("cluster").service_status([host]).nodes[0].state == "not asked"
    status = filters("cluster").service_status([host])
    assert any("No checker made a check" in todo.what for todo in status.todo) is told


LOST = {"unreachable": True, "msg": "Failed to connect to the host via ssh: No route to host."}


@pytest.mark.parametrize(
    ("said", "state", "why"),
    [
        ({}, "not asked", ""),
        ({"vault_server_look": LOST, "vault_cluster_member": LOST}, "unreachable", "No route to host"),
        ({"vault_server_look": {"failed": True}, "vault_cluster_unheard": "No sudo.\n"}, "failed", "No sudo"),
        ({"vault_cluster_unheard": "vault_version is missing."}, "failed", "vault_version is missing"),
    ],
)
def test_why_a_host_said_nothing_is_told(said: dict[str, object], state: str, why: str) -> None:
    host = {"vault_node_id": "vault-infn", "site_name": "infn", **said}
    (node,) = filters("cluster").service_status([host]).nodes
    assert (node.state, node.why) == (state, why)


@pytest.mark.parametrize(("damaged", "page"), [(False, "docs/runbooks/rekey.md"), (True, "docs/key-ceremony.md")])
def test_a_rekey_that_is_under_way_has_its_own_page(damaged: bool, page: str) -> None:
    message = base64.b64encode(b"\xc1a message of OpenPGP").decode()
    share = Share(1, "alice", "F" * 40, message)
    bundle = Bundle("test", "2026-11-22T23:00:00Z", 1, (share,), RootToken("alice", "F" * 40, message, None))
    begun = replace(bundle, serial=1, pending=Pending(Ours("a1", 1, bundle.keys.holders), "2026-11-23T00:00:00Z"))
    content = "{}" if damaged else begun.render()
    host = {"vault_node_id": "vault-infn", "site_name": "infn", "vault_cluster_member": {"bundle": {"content": content}}}
    todo = filters("cluster").service_status([host]).todo
    assert [each.runbook for each in todo if each.runbook == page] == [page], todo


@pytest.mark.parametrize(
    ("told", "lock", "noted"),
    [
        (None, None, False),
        ({"skipped": True, "changed": False}, None, False),
        ({"messages": ["alice holds it."]}, "alice holds it.", False),
        ({"messages": [""]}, "", False),
        ({"messages": [], "msg": "The login was refused."}, None, True),
        ({"msg": "MODULE FAILURE"}, None, True),
    ],
)
def test_a_lock_that_could_not_be_asked_is_no_lock_that_nobody_has(told: object, lock: str | None, noted: bool) -> None:
    status = filters("cluster").service_status([], {}, told)
    assert status.lock == lock
    assert any("could not be asked" in note for note in status.notes) is noted


def test_the_newest_snapshot_is_one_that_was_proven(tmp_path: Path) -> None:
    for age, name in enumerate(
        [".before-restart.x1y2.new", ".hidden.snap", "notes.txt", "before-restart-2.snap", "a-1.snap"]
    ):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    newest_snapshot = filters("cluster").newest_snapshot
    assert newest_snapshot(str(tmp_path))[0] == "before-restart-2.snap"
    for path in tmp_path.glob("*-*.snap"):
        path.unlink()
    assert newest_snapshot(str(tmp_path)) is None
    assert newest_snapshot(str(tmp_path / "none")) is None


def test_a_host_that_runs_no_server_is_not_the_leader_whom_others_name() -> None:
    """Such as a bare newcomer in the place of the leader, which lives and which the inventory has no more."""
    follower = {"health": {"initialized": True, "sealed": False}, "leader": {"leader_address": "https://c:8200"}}
    states = {"a": {"running": True, "server": follower}, "d": {"running": False, "server": None}, "e": None}
    hosts = [
        {"vault_node_id": name, "vault_api_address": f"https://{name}:8200", "vault_server_state": state}
        for name, state in states.items()
    ]
    forgotten_members = filters("cluster").forgotten_members
    assert forgotten_members(hosts[:2]) == ["https://c:8200"]
    assert forgotten_members(hosts) == [], "e was not reached, and may be the one that leads"


def test_ones_own_holds_are_told_from_those_of_others() -> None:
    filters_of = filters("rolling")
    holds = {"infn": {"by": "alice", "why": ""}, "ifca": {"by": "bob", "why": "new disks"}, "iisas": {"by": "", "why": ""}}
    sites = ["iisas", "infn", "ifca"]
    assert filters_of.sites_held_by(holds, "alice", sites) == ["infn"]
    assert filters_of.holds_of_others(holds, "alice", sites) == [
        "ifca is held by bob (new disks).",
        "iisas is held by somebody (no reason given).",
    ]


def test_the_hold_of_a_site_that_was_removed_is_in_nobodys_way() -> None:
    filters_of = filters("rolling")
    holds = {"infn": {"by": "alice", "why": ""}, "ifca": {"by": "bob", "why": "it moves"}}
    assert filters_of.holds_of_others(holds, "alice", ["iisas", "infn"]) == []
    assert filters_of.sites_held_by(holds, "bob", ["iisas", "infn"]) == []


@pytest.mark.parametrize(
    ("server", "unheard"), [(None, True), ({"health": None}, True), ({"health": {"sealed": True}}, False)]
)
def test_a_server_with_a_process_that_does_not_answer_is_unheard(server: object, unheard: bool) -> None:
    host = {"inventory_hostname": "infn", "vault_server_state": {"running": True, "server": server}}
    assert filters("rolling").rolling_unheard([host]) == (["infn"] if unheard else [])


def member(running: str | None) -> dict[str, object]:
    state: dict[str, object] = {"versions": {"running": running}, "server": None, "restart_pending": [], "filesystems": {}}
    return {"inventory_hostname": "infn", "site_name": "infn", "vault_version": "2.7.1", "vault_server_state": state}


def test_who_joins_may_not_be_older_than_the_members() -> None:
    problems = filters("rolling").rolling_version_problems([member(None), member("2.7.2")], "openbao")
    assert len(problems) == 1
    assert "which is older" in problems[0]
    assert filters("rolling").rolling_version_problems([member(None), member("2.6.0")], "openbao") == []
    assert filters("rolling").newest_running([member("2.6.0"), member("2.7.2")]) == "2.7.2"


@pytest.mark.parametrize(
    ("installed", "current", "judges"),
    [
        ([], None, ["2.7.2"]),
        (["2.7.2"], "2.7.2", ["2.7.2"]),
        (["2.6.2", "2.7.2"], "2.6.2", ["2.6.2", "2.7.2"]),  # what the next start runs until the rolling restart has come by
        (["2.7.2"], "2.6.2", ["2.7.2"]),  # removed by hand, and nothing to be asked
    ],
)
def test_who_judges_a_new_configuration(installed: list[str], current: str | None, judges: list[str]) -> None:
    state = {"versions": {"installed": installed, "current": current, "running": None}}

    commands = filters("products").product_checkers("openbao", state, "2.7.2")

    assert [command[0] for command in commands] == [f"/opt/openbao/{version}/bao" for version in judges]


def test_a_site_that_does_not_serve_is_not_taken_back_however_well_the_members_are() -> None:
    failover = filters("failover")
    assert failover.restore_problems({}, "infn", None) == failover.serving_problems({}, "infn") != []
