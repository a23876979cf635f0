"""The status screen: what an operator must be told is told, with the runbook."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.bundle import RootToken
from ansible.module_utils.egi_secrets.status import Status, status_of

NOW = 1_800_000_000.0
NODES = ("vault-iisas", "vault-infn", "vault-ifca")
SEALED = {"health": {"initialized": True, "sealed": True}, "leader": None, "autopilot": None}
REVOKED = RootToken("alice", "F" * 40, "", revoked_at="2026-11-01T00:00:00Z")


def state(*, active: bool = False) -> dict[str, Any]:
    autopilot = {"healthy": True, "failure_tolerance": 1, "nodes": dict.fromkeys(NODES, True)}
    return {
        "time": NOW,
        "running": True,
        "process": {"started": NOW - 7200},
        "versions": {"running": "2.7.2", "current": "2.7.2", "installed": ["2.7.2"]},
        "restart_pending": [],
        "reload_pending": [],
        "server": {
            "health": {"initialized": True, "sealed": False, "cluster_id": "c"},
            "leader": {"is_self": active, "leader_address": "https://vault-iisas:8200"},
            "autopilot": autopilot if active else None,
            "applied_index": 42,
        },
        "tls": {
            "file": None,
            "served": {"not_after": "2027-06-01", "not_after_seconds": NOW + 100 * 86_400},
            "error": None,
        },
        "filesystems": {"/var/lib/openbao": {"free_percent": 60.0}},
    }


def hosts() -> list[dict[str, Any]]:
    return [{"node_id": name, "site": name[6:], "state": state(active=name == "vault-iisas")} for name in NODES]


def changed(**change: object) -> Status:
    """The status when the second node differs."""
    those = hosts()
    those[1]["state"] = copy.deepcopy(those[1]["state"]) | change
    return status_of(those, REVOKED)


def test_all_is_well() -> None:
    status = status_of(hosts(), REVOKED)
    assert status.todo == []
    assert status.notes == []
    screen = status.screen()
    assert "Nothing needs doing." in screen
    assert screen.splitlines()[1].split() == [
        "vault-iisas",
        "iisas",
        "active",
        "2.7.2",
        "2",
        "h",
        "42",
        "100",
        "d",
        "60",
        "%",
        "-",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restart_pending": ["openbao.hcl changed"]}, ["Restart pending on vault-infn", "openbao.hcl", "restart"]),
        ({"reload_pending": ["another certificate"]}, ["Reload pending on vault-infn", "site.yml"]),
        ({"running": False, "process": None, "server": None}, ["The server on vault-infn is stopped"]),
        ({"server": None}, ["vault-infn does not answer"]),
        ({"server": SEALED}, ["vault-infn is sealed", "unseal.yml"]),
        ({"filesystems": {"/var/log/openbao": {"free_percent": 3.0}}}, ["3.0 %", "/var/log/openbao", "vault-infn"]),
    ],
)  # fmt: skip
def test_what_needs_doing_is_said_with_the_remedy(change: dict[str, Any], words: list[str]) -> None:
    todo = " ".join(changed(**change).todo)
    assert [word for word in words if word not in todo] == []


def test_a_certificate_near_its_end_and_one_that_is_not_trusted() -> None:
    served = {"not_after": "2027-01-20", "not_after_seconds": NOW + 5 * 86_400}
    todo = " ".join(changed(tls={"file": None, "served": served, "error": "certificate has expired"}).todo)
    assert "2027-01-20" in todo
    assert "certificate has expired" in todo


def test_a_host_that_was_not_reached_is_shown() -> None:
    those = hosts()
    those[2]["state"] = None
    status = status_of(those, REVOKED)
    assert "unreachable" in status.screen()
    assert any("vault-ifca" in what for what in status.todo)


def test_the_first_root_token_is_a_note_until_it_is_revoked() -> None:
    valid = replace(REVOKED, revoked_at=None)
    status = status_of(hosts(), valid)
    assert "first root token is still valid; alice" in status.screen()
    assert status.todo == []


def test_a_lost_bundle_is_a_note() -> None:
    assert "has an unseal bundle" in status_of(hosts(), None).screen()


def test_a_damaged_copy_of_the_bundle_needs_doing() -> None:
    assert "damaged" in status_of(hosts(), REVOKED, ["The unseal bundle on vault-infn is damaged."]).screen()
