from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import certificates, listeners, node_state
from ansible.module_utils.egi_secrets.listeners import Listener, Seen
from ansible.module_utils.egi_secrets.node_state import Node

from tests.integration.servers import Authority

METRICS = """\
# HELP vault_core_active vault_core_active
# TYPE vault_core_active gauge
vault_core_active{cluster="egi"} 1
vault_autopilot_healthy 1
vault_autopilot_failure_tolerance 1
vault_autopilot_node_healthy{node_id="a"} 1
vault_autopilot_node_healthy{node_id="b"} 0
vault_raft_storage_stats_applied_index{peer_id="a"} 4.2e+01
go_goroutines 9
"""
UNIT = {"need_daemon_reload": False}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose server was started from what is on disk."""
    config, started = tmp_path / "server.hcl", tmp_path / "started"
    started.mkdir()
    for path in (config, started / "server.hcl"):
        path.write_text("ui = true\n")
    return Node(
        unit="openbao.service",
        other_units=(),
        install_dir=tmp_path / "opt",
        binary="bao",
        version="2.7.2",
        user="openbao",
        started_dir=started,
        started_files=(config,),
        socket=tmp_path / "socket",
        name="node.example.org",
        ports=(1,),
        certificate=tmp_path / "server.crt",
        ca=tmp_path / "ca.crt",
        audit_files=(),
        filesystems=(),
        commands=(),
    )


def reasons(
    node: Node, *, exe_deleted: bool = False, running: str = "2.7.2", current: str = "2.7.2", unit: dict[str, Any] = UNIT
) -> list[str]:
    versions: dict[str, object] = {"running": running, "current": current, "installed": []}
    return node_state.restart_reasons(node, unit, {"exe_deleted": exe_deleted}, versions)


def test_a_server_that_runs_what_is_on_disk_waits_for_nothing(node: Node) -> None:
    assert reasons(node) == []


def test_a_server_without_copies_of_what_it_was_started_with_has_no_way_back(node: Node) -> None:
    assert node_state.started_known(node)
    (node.started_dir / node.started_files[0].name).unlink()
    assert not node_state.started_known(node)
    assert not node_state.started_known(replace(node, started_dir=Path("/nowhere")))


def test_whether_what_it_ran_before_is_kept_is_told(node: Node, tmp_path: Path) -> None:
    kept = replace(node, way_back=tmp_path / "before")
    assert node_state.look(node)["way_back"] is None
    assert node_state.look(kept)["way_back"] is False
    (tmp_path / "before").mkdir()
    assert node_state.look(kept)["way_back"] is True


def test_times_do_not_count(node: Node) -> None:
    os.utime(node.started_files[0], (2_000_000_000, 2_000_000_000))

    assert reasons(node) == []


def test_a_changed_configuration_waits_until_it_is_what_the_server_started_with(node: Node) -> None:
    node.started_files[0].write_text("ui = false\n")
    assert reasons(node) == [f"{node.started_files[0]} changed"]

    node.started_files[0].write_text("ui = true\n")
    assert reasons(node) == []


def test_every_other_reason_is_told(node: Node) -> None:
    assert reasons(node, running="2.7.1") == ["it runs 2.7.1, the inventory asks for 2.7.2"]
    assert reasons(node, current="2.7.1") == ["it runs 2.7.2, its next start would run 2.7.1"]
    assert reasons(node, exe_deleted=True) == ["the binary of 2.7.2 was replaced"]
    assert reasons(node, unit={"need_daemon_reload": True}) == ["systemd has not read the unit again"]
    (node.started_dir / "server.hcl").unlink()
    assert reasons(node) == [f"nothing tells which {node.started_files[0]} it started with"]


def test_a_server_that_does_not_run_waits_for_no_restart(node: Node) -> None:
    assert node_state.restart_reasons(replace(node, started_dir=Path("/nowhere")), UNIT, None, {}) == []


def test_autopilot_is_read_on_the_active_node_alone() -> None:
    assert node_state.autopilot_from(METRICS) == {
        "healthy": True,
        "failure_tolerance": 1,
        "nodes": {"a": True, "b": False},
    }
    assert node_state.autopilot_from(METRICS.replace('{cluster="egi"} 1', '{cluster="egi"} 0')) is None
    assert node_state.autopilot_from("vault_core_active 1\n") is None


def test_what_the_server_does_not_answer_is_null() -> None:
    answers = {"sys/seal-status": '{"sealed": true}', "sys/leader": "not JSON"}

    server = node_state.server_of(Path("/socket"), lambda _path, question: answers.get(question))

    assert server == {"health": None, "seal": {"sealed": True}, "leader": None, "autopilot": None, "applied_index": None}


def test_units_come_from_one_call_in_the_order_asked_for() -> None:
    text = "ActiveState=active\nMainPID=7\nNeedDaemonReload=yes\n\nActiveState=inactive\nMainPID=0\nNeedDaemonReload=no\n"

    units = node_state.units_of(["a.service", "b.service"], lambda _command: text)

    assert (units["a.service"]["pid"], units["a.service"]["need_daemon_reload"]) == (7, True)
    assert (units["b.service"]["active"], units["b.service"]["pid"]) == ("inactive", 0)


def test_units_are_told_where_there_is_no_systemd() -> None:
    assert node_state.units_of(["a.service"], lambda _command: "")["a.service"]["pid"] == 0


def test_this_very_process_is_described() -> None:
    process = node_state.process_of(os.getpid())

    assert process is not None
    assert (process["uid"], process["exe_deleted"]) == (os.getuid(), False)
    assert node_state.process_of(0) is None


def test_versions_lie_side_by_side(tmp_path: Path) -> None:
    for version in ("2.7.1", "2.7.2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "bao").touch()
    (tmp_path / "current").symlink_to("2.7.2")

    versions = node_state.versions_of(tmp_path, "bao", {"exe": str(tmp_path / "2.7.1/bao")})

    assert versions == {"installed": ["2.7.1", "2.7.2"], "current": "2.7.2", "running": "2.7.1"}


def test_an_account_is_told_with_whether_its_password_is_locked(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:$6$hash:1::::::\n")

    account = node_state.account_of("root", shadow)

    assert account is not None
    assert account["locked"] is False
    assert node_state.account_of("nobody-of-that-name", shadow) is None


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("[::]", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - nothing is bound
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("n1", "n1"),
    ],
)
def test_a_listener_is_asked_where_it_answers(bound: str, asked: str, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(listener: Listener, _: str) -> Seen:
        return Seen(listener, errors={"": listener.address})

    monkeypatch.setattr(listeners, "look", look)
    found: Any = node_state.tls_of(replace(node, listen_address=bound))
    assert [each["errors"] for each in found["listeners"]] == [{"": asked}]


def listened(disk: str, *served: dict[str, str] | None) -> dict[str, object]:
    return {"file": {"sha256": disk}, "listeners": [{"certificate": each} for each in served]}


def test_another_served_certificate_asks_for_a_reload(node: Node) -> None:
    other = listened("a", {"sha256": "a"}, {"sha256": "b"})

    assert node_state.reload_reasons(node, other, running=True)
    assert node_state.reload_reasons(node, other, running=False) == []
    assert node_state.reload_reasons(node, listened("a", None), running=True) == []


def test_a_renewed_chain_asks_for_a_reload(node: Node) -> None:
    same = listened("a", {"sha256": "a"})
    node.certificate.parent.mkdir(parents=True, exist_ok=True)
    node.certificate.write_text("leaf and new intermediate")
    (node.started_dir / node.certificate.name).write_text("leaf and old intermediate")
    assert node_state.reload_reasons(node, same, running=True)
    node.certificate.write_text("leaf and old intermediate")
    assert node_state.reload_reasons(node, same, running=True) == []


def test_the_certificate_on_disk_ends_with_the_first_of_its_file(node: Node, tmp_path: Path) -> None:
    leaf, middle = (Authority(tmp_path).issue("node.example.org", ended=ended)[0].read_text() for ended in (False, True))
    node.certificate.write_text(leaf + middle)
    disk = node_state.tls_of(node)["file"]
    assert isinstance(disk, dict)
    assert disk["days_left"] < 0
    assert disk["sha256"] == certificates.fingerprints(leaf)[0]


def test_an_audit_file_is_open_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    assert node_state.audit_of(path, os.getpid()) is None
    with path.open("w"):
        assert (node_state.audit_of(path, os.getpid()) or {})["open"] is True
        path.rename(tmp_path / "audit.log.1")
        path.touch()
        assert (node_state.audit_of(path, os.getpid()) or {})["open"] is False
    assert (node_state.audit_of(path, 0) or {})["open"] is None


def test_a_disk_remembers_what_raft_wrote(tmp_path: Path) -> None:
    log = tmp_path / "raft.db"
    assert not node_state.remembers(log), "there is none"
    log.write_bytes(b"")
    assert not node_state.remembers(log)
    log.write_bytes(b"\0" * 65536)
    assert not node_state.remembers(log), "the server was started, and has not joined"
    with log.open("ab") as handle:
        handle.write(b"CurrentTerm\0\0\0\7")
    assert node_state.remembers(log)
