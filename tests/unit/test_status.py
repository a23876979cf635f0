"""The status screen: what an operator must be told is told, with the runbook."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.bundle import RootToken
from ansible.module_utils.egi_secrets.status import Elsewhere, Status, status_of
from ansible.module_utils.egi_secrets.status_screen import WIDTH, clock, duration, screen
from ansible.module_utils.egi_secrets.status_tls import tls_todo
from ansible.module_utils.egi_secrets.todo import CEREMONY, UNSEAL, Todo

NOW = 1_800_000_000.0
NODES = ("vault-iisas", "vault-infn", "vault-ifca")
SEALED = {"health": {"initialized": True, "sealed": True}, "leader": None, "autopilot": None}
STOPPED = {"running": False, "process": None, "server": None, "ports": {"8200": None, "8201": None}}
BARE = {**STOPPED, "remembers": False}
REVOKED = RootToken("alice", "F" * 40, "", revoked_at="2026-11-01T00:00:00Z")


def tls(*days: float | None, ca: float = 3000.0, trust: tuple[str, ...] = ("a",), **errors: str) -> dict[str, Any]:
    """What listeners on 8200 and on serve that have so many days left, under the CA `a`; None: what does not answer."""
    listeners = [
        {"port": port, "certificate": None, "errors": {"": "Connection refused"}}
        if each is None
        else {"port": port, "certificate": ends(each), "errors": errors}
        for port, each in enumerate(days, 8200)
    ]
    return {
        "file": ends(150),
        "listeners": listeners,
        "trust": [{**ends(ca), "sha256": each, "subject": f"CN={each}"} for each in trust],
        "authorities": ["a"],
    }


def test_an_intermediate_of_the_file_that_ends_first_is_the_end_of_what_is_served() -> None:
    file = {**ends(300.0), **{key: ends(3.0)[key] for key in ("not_after", "not_after_seconds")}}
    state = {"running": True, "time": NOW, "tls": {**tls(300.0), "file": file}}
    assert "ends on in 3.0 days" in str(tls_todo("vault-infn", state)[0])


def ends(days: float) -> dict[str, Any]:
    return {"sha256": f"ends-{days}", "not_after": f"in {days} days", "not_after_seconds": NOW + days * 86_400}


def server(
    *, active: bool = False, leader: str | None = "https://vault-iisas:8200", applied: int | None = 42
) -> dict[str, Any]:
    """What the server of an open node says."""
    autopilot = {"healthy": True, "failure_tolerance": 1, "nodes": dict.fromkeys(NODES, True)}
    return {
        "health": {"initialized": True, "sealed": False, "cluster_id": "c"},
        "leader": {"is_self": active, "leader_address": leader},
        "autopilot": autopilot if active else None,
        "applied_index": applied,
    }


def state(*, active: bool = False) -> dict[str, Any]:
    return {
        "time": NOW,
        "running": True,
        "starts_at_boot": True,
        "firewall_sound": True,
        "process": {"pid": 7, "started": NOW - 7200},
        "versions": {"running": "2.7.2", "current": "2.7.2", "installed": ["2.7.2"]},
        "restart_pending": [],
        "reload_pending": [],
        "server": server(active=active),
        "ports": {"8200": {"pid": 7, "command": "bao"}, "8201": {"pid": 7, "command": "bao"}},
        "tls": tls(100, 200),
        "filesystems": {"/var/lib/openbao": {"free_percent": 60.0}},
        "audit": {"/var/log/openbao/audit.log": {"modified": NOW - 3, "open": True}},
    }


def hosts() -> list[dict[str, Any]]:
    return [{"node_id": name, "site": name[6:], "state": state(active=name == "vault-iisas")} for name in NODES]


def changed(**change: object) -> Status:
    """The status when the second node differs."""
    those = hosts()
    those[1]["state"] = copy.deepcopy(those[1]["state"]) | change
    return status_of(those, REVOKED)


def test_a_member_that_lost_its_disk_is_not_to_be_unsealed() -> None:
    found = changed(**BARE).todo
    assert [(each.what, each.runbook) for each in found if "vault-infn" in each.what] == [
        (
            "vault-infn is a member of Raft, and its disk is empty: what it had acknowledged must not count any more. Run "
            "playbooks/operate/replace-site.yml -e remove=vault-infn, which takes it in afresh.",
            "docs/runbooks/replace-site.md",
        )
    ]


WIPE = "playbooks/operate/replace-site.yml -e remove=vault-infn -e wipe=true, which empties it and takes it in afresh."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (STOPPED, f"that was removed. Run {WIPE}"),
        ({"server": SEALED}, f"that was removed. Run {WIPE}"),
        ({}, f"that was removed. If it is not one in a minute, run {WIPE}"),
    ],
)
def test_one_that_was_removed_and_has_its_data_is_not_to_be_unsealed(change: dict[str, Any], words: str) -> None:
    those = hosts()
    those[0]["state"]["server"]["autopilot"] |= {"nodes": {"vault-iisas": True, "vault-ifca": True}, "failure_tolerance": 0}
    those[1]["state"] |= {"remembers": True, **change}
    (todo,) = status_of(those, REVOKED).todo
    assert todo.what == f"vault-infn is no member of Raft, and its disk holds the log of one {words}"
    assert todo.runbook == "docs/runbooks/replace-site.md"
    those[1]["state"]["remembers"] = False
    assert "wipe" not in told(status_of(those, REVOKED)), "one that is to join is told nothing of that"


WAITS = {"server": {"health": {"initialized": False, "sealed": True}, "leader": None, "autopilot": None}, "remembers": False}


@pytest.mark.parametrize("change", [BARE, WAITS])
def test_a_host_that_never_joined_is_not_to_be_started_or_unsealed(change: dict[str, Any]) -> None:
    those = hosts()
    those[0]["state"]["server"]["autopilot"] |= {"nodes": {"vault-iisas": True, "vault-ifca": True}, "failure_tolerance": 0}
    those[1]["state"] |= change
    (todo,) = status_of(those, REVOKED).todo
    assert todo.what == "vault-infn has not joined the cluster. Run playbooks/operate/replace-site.yml, which takes it in."
    assert todo.runbook == "docs/runbooks/replace-site.md"


def test_where_no_node_has_data_the_service_is_to_be_stood_up() -> None:
    those = hosts()
    for host, change in zip(those, (BARE, WAITS, BARE), strict=True):
        host["state"] |= change
    todo = status_of(those, None).todo
    assert [each.runbook for each in todo] == ["docs/runbooks/stand-up.md"] * 3
    assert "vault-infn has no data of a cluster" in todo[1].what
    those[0]["state"] |= {"running": True, "server": SEALED, "remembers": True}
    todo = status_of(those, None).todo
    assert [each.runbook.rpartition("/")[2] for each in todo] == ["replace-site.md", "unseal.md", "unseal.md"]
    assert "Once another node leads" in todo[0].what


def test_one_that_joined_and_waits_for_shares_is_to_be_unsealed() -> None:
    those = hosts()
    those[1]["state"] |= {"server": SEALED, "remembers": False}
    those[0]["state"]["server"]["autopilot"] |= {"nodes": {"vault-iisas": True, "vault-ifca": True}, "failure_tolerance": 0}
    assert "vault-infn is sealed" in told(status_of(those, REVOKED))


def test_ports_that_the_server_lacks() -> None:
    own, other = {"pid": 7, "command": "bao"}, {"pid": 9, "command": "nginx"}
    (todo,) = changed(ports={"8200": own, "8201": other}).todo
    assert todo.what.startswith("The server on vault-infn lacks port 8201: nginx (pid 9) has it.")
    assert todo.runbook == UNSEAL
    (todo,) = changed(ports={"8200": own, "8201": None}).todo
    assert todo.what.startswith("The server on vault-infn lacks port 8201: nobody listens there.")
    pending = changed(ports={"8200": own, "8201": None, "443": None}, restart_pending=["openbao.hcl changed"])
    assert "lacks port" not in str(pending.todo), "the restart brings it"
    assert changed(ports={"8200": own, "8201": {"pid": None, "command": None}}).todo == [], "nobody could tell whose it is"
    sealed = {"8200": own, "8201": None}
    assert "lacks port" not in str(changed(server=SEALED, ports=sealed).todo), "it is opened when the server is"
    assert "lacks port 8200: nginx" in str(changed(**STOPPED | {"ports": {"8200": other}}).todo)


def test_an_open_firewall_and_a_server_that_no_boot_starts_need_doing() -> None:
    todo = changed(firewall_sound=False, starts_at_boot=False).todo
    assert [each.runbook for each in todo] == ["docs/runbooks/stand-up.md"] * 2
    assert "The firewall of vault-infn does not let exactly the members" in todo[0].what
    assert "The server on vault-infn does not start at the next boot" in todo[1].what
    assert changed(firewall_sound=None).todo == [], "nobody could compare it"


def test_addresses_that_are_not_known_are_told_once() -> None:
    those = [host | {"unaddressed": "vault-ifca.example: NXDOMAIN", "state": host["state"] | {"firewall_sound": None}}
             for host in hosts()]  # fmt: skip
    (todo,) = status_of(those, REVOKED).todo
    assert "Firewalls could not be compared" in todo.what
    assert "vault-ifca.example: NXDOMAIN." in todo.what


def test_a_cluster_that_cannot_lose_a_member_needs_another() -> None:
    two = hosts()[:2]
    two[0]["state"]["server"]["autopilot"] |= {"nodes": {"vault-iisas": True, "vault-infn": True}, "failure_tolerance": 0}
    (todo,) = status_of(two, REVOKED).todo
    assert todo.what == "A cluster of 2 members cannot lose any: add a site."


REPORT: dict[str, Any] = {
    "observer": "infn",
    "age": 1.5,
    "cluster_time": NOW,
    "sites": {
        site: {"address": "", "hold": None, "names": {"vault.example": {"serving": True, "why": "", "for": 60}}}
        for site in ("iisas", "infn", "ifca")
    },
    "names": {
        "vault.example": {
            "candidates": ["infn", "ifca"],
            "at": "infn",
            "servers": {"192.0.2.1": {"at": "infn", "error": ""}, "192.0.2.2": {"at": "infn", "error": ""}},
        }
    },
    "alarms": [],
}
CLOCKS = {"vault-iisas": (0.0, 0.01), "vault-infn": (0.1, 0.01), "vault-ifca": (-0.02, 0.01)}
NAMES = ("vault.example",)
REPORTS = [REPORT | {"observer": site} for site in ("infn", "iisas", "ifca")]
WELL = Elsewhere(CLOCKS, checkers=REPORTS, snapshot=("before-restart-1.snap", 7300.0), lock="", names=NAMES)


def beside(**change: Any) -> Status:
    """The status when something beside the nodes differs."""
    return status_of(hosts(), REVOKED, (), replace(WELL, **change))


def reported(**change: Any) -> Status:
    """The status when the checkers report something else."""
    return beside(checkers=[each | change for each in REPORTS])


def told(status: Status) -> str:
    return " ".join(str(todo) for todo in status.todo)


def test_all_is_well() -> None:
    status = beside()
    assert status.todo == []
    assert status.notes == []
    lines = screen(status).splitlines()
    assert "Nothing needs doing." in lines
    assert lines[1].split("  ")[0] == "vault-iisas"
    assert " ".join(lines[1].split()) == "vault-iisas iisas active 2.7.2 2 h yes 0 <10 ms 100 d 60 % 3 s -"
    assert "vault.example is at infn (192.0.2.1: infn; 192.0.2.2: infn)." in lines
    assert "The newest snapshot on this controller, before-restart-1.snap, is 2 h old." in lines


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"restart_pending": ["openbao.hcl changed"]},
            ["Restart pending on vault-infn", "openbao.hcl", "restart-pending.md"],
        ),
        ({"reload_pending": ["another certificate"]}, ["Reload pending on vault-infn", "rotate-tls.yml", "rotate-tls.md"]),
        (STOPPED, ["The server on vault-infn is stopped", "index.md"]),
        ({"server": None}, ["vault-infn does not answer", "index.md"]),
        ({"server": SEALED}, ["vault-infn is sealed", "unseal.yml", "unseal.md"]),
        ({"filesystems": {"/var/log/openbao": {"free_percent": 3.0}}}, ["3.0 %", "/var/log/openbao", "vault-infn"]),
        (
            {"filesystems": {"/var/lib/openbao": None}},
            ["The filesystem of /var/lib/openbao on vault-infn cannot be looked at"],
        ),
        ({"server": server(leader=None)}, ["No leader is seen by vault-infn", "Run this again", "index.md"]),
        ({"server": server(leader="https://x:8200")}, ["vault-iisas leads", "named by vault-infn (https://x:8200)"]),
        ({"server": server(applied=None)}, ["How far vault-infn is behind the leader is not known", "Run this again"]),
    ],
)
def test_what_needs_doing_is_said_with_the_remedy(change: dict[str, Any], words: list[str]) -> None:
    todo = told(changed(**change))
    assert [word for word in words if word not in todo] == []


def test_a_certificate_near_its_end_and_one_that_is_not_trusted() -> None:
    todo = told(changed(tls=tls(100, 5, name="certificate has expired")))
    assert "The certificate of vault-infn ends on in 5 days" in todo, "the listener of another port counts, too"
    assert "Clients do not trust what vault-infn serves on ports 8200, 8201: certificate has expired." in todo


def test_a_listener_that_does_not_answer_needs_doing_and_the_file_on_disk_is_not_served() -> None:
    status = changed(tls=tls(None, None))
    (todo,) = status.todo
    assert "runs, and no listener answers on ports 8200, 8201: Connection refused." in todo.what
    assert [node.tls_days for node in status.nodes] == [100, None, 100]
    (todo,) = changed(tls=tls(100, None)).todo
    assert "The server on vault-infn runs, and no listener answers on port 8201" in todo.what
    (todo,) = changed(**STOPPED, tls=tls(None)).todo
    assert "is stopped" in todo.what, "then no listener is no wonder"


def test_a_ca_near_its_end_needs_another_in_time() -> None:
    (todo,) = changed(tls=tls(100, ca=90)).todo
    assert "The CA CN=a, which vault-infn leads to, ends on in 90 days" in todo.what
    assert todo.runbook == "docs/runbooks/rotate-tls.md"


def test_a_ca_that_is_being_replaced_is_a_note() -> None:
    status = changed(tls=tls(100, trust=("a", "old")))
    assert status.todo == []
    assert any("The nodes trust CN=old, and no listener leads to it" in each for each in status.notes)
    silent = [host | {"state": host["state"] | {"tls": tls(None) | {"authorities": []}}} for host in hosts()]
    assert not any("is being replaced" in each for each in status_of(silent, REVOKED).notes), "nobody can tell"


def test_a_host_that_was_not_reached_is_shown() -> None:
    those = hosts()
    those[2]["state"] = None
    status = status_of(those, REVOKED)
    assert "unreachable" in screen(status)
    assert "vault-ifca was not reached by SSH" in told(status)


def test_a_host_that_failed_is_no_host_that_was_not_reached() -> None:
    those = hosts()
    those[1] |= {"state": None, "unseen": "failed", "why": "Missing sudo password"}
    those[2] |= {"state": None, "unseen": "unreachable", "why": "Permission denied (publickey)"}
    status = status_of(those, REVOKED)
    assert [node.state for node in status.nodes] == ["active", "failed", "unreachable"]
    assert "vault-infn could not be looked at: Missing sudo password. If that is about sudo, add" in told(status)
    assert "vault-ifca was not reached by SSH (Permission denied (publickey)): is its host up?" in told(status)


def test_a_host_that_was_left_out_needs_nothing_and_the_screen_says_that_it_is_partial() -> None:
    those = hosts()
    those[0] |= {"state": None, "unseen": "not asked"}
    status = status_of(those, REVOKED, (), WELL)
    assert status.todo == []
    assert status.nodes[0].state == "not asked"
    assert "Only a part of the service was looked at (--limit): nobody asked vault-iisas." in status.notes


def test_a_node_of_which_only_the_bundle_could_not_be_read_needs_doing() -> None:
    those = hosts()
    those[1]["why"] = "unseal-bundle.json is no file"
    (todo,) = status_of(those, REVOKED).todo
    assert todo.what == "vault-infn did not tell of its unseal bundle and of root tokens: unseal-bundle.json is no file."


def test_without_any_cluster_nothing_is_known_and_all_is_said() -> None:
    bare = state() | {"running": False, "process": None, "server": None, "audit": {"/log": None}}
    those = [{"node_id": name, "site": name[6:], "state": bare} for name in NODES]
    status = status_of(those, None)
    assert [node.state for node in status.nodes] == ["stopped"] * 3
    assert {node.voter for node in status.nodes} == {None}
    assert "No node that was reached leads the cluster." in screen(status)


def test_a_node_that_lags_and_one_that_does_not_vote() -> None:
    those = hosts()
    those[0]["state"]["server"]["applied_index"] = 5000
    those[0]["state"]["server"]["autopilot"] |= {"nodes": dict.fromkeys(NODES[:2], True), "failure_tolerance": 0}
    status = status_of(those, REVOKED)
    assert [node.behind for node in status.nodes] == [0, 4958, 4958]
    assert [node.voter for node in status.nodes] == [True, True, False]
    assert "vault-infn is 4958 entries behind the leader" in told(status)
    assert "Raft does not have these members" in told(status)


@pytest.mark.parametrize(
    ("audit", "words"),
    [
        (None, "audit file /log is not there"),
        ({"modified": NOW, "open": False}, "writes its audit to another file than /log"),
        ({"modified": NOW - 600, "open": True}, "has written nothing to /log for 600 s"),
    ],
)
def test_an_audit_file_that_the_leader_does_not_write(audit: object, words: str) -> None:
    those = hosts()
    those[0]["state"] = those[0]["state"] | {"audit": {"/log": audit}}
    assert words in told(status_of(those, REVOKED, (), WELL))
    # A standby writes next to nothing, and says nothing of it.
    those = hosts()
    those[1]["state"] = those[1]["state"] | {"audit": {"/log": audit}}
    assert told(status_of(those, REVOKED, (), WELL)) == ""


def test_clocks_apart_need_doing_where_that_is_sure() -> None:
    assert "clock of vault-infn is 2.0 s ahead of that of vault-iisas" in told(
        beside(clocks={"vault-iisas": (0.0, 0.3), "vault-infn": (2.0, 0.3)})
    )
    assert told(beside(clocks={"vault-iisas": (0.0, 0.6), "vault-infn": (2.0, 0.6)})) == ""
    assert told(beside(clocks={})) == ""
    vague = {"vault-iisas": (0.0, 0.01), "vault-infn": (1.5, 0.01), "vault-ifca": (1.6, 5.0)}
    assert "clock of vault-infn is 1.5 s ahead of that of vault-iisas" in told(beside(clocks=vague))
    assert (clock(0.0123, 0.004), clock(-2.34, 0.1), clock(0.001, 0.004)) == ("+12 ms", "-2.3 s", "<4 ms")


def test_a_clock_that_nobody_could_read_is_a_note() -> None:
    (note,) = beside(clocks={"vault-iisas": (0.0, 0.01)}).notes
    assert note == (
        "The clock of vault-infn, vault-ifca could not be read, and may be wrong: its API does not answer this controller."
    )
    (note,) = beside(clocks={}, clocks_unread="The CA file is empty.").notes
    assert (
        note == "The clock of vault-iisas, vault-infn, vault-ifca could not be read, and may be wrong: The CA file is empty."
    )
    assert not any("clock" in each for each in changed(server=SEALED).notes if "vault-infn" in each), "it is not open"


def placed(at: str | None, *servers: tuple[str, str]) -> dict[str, Any]:
    """Names in a report: where it is agreed to be, and of each DNS server where it has it, and why it does not say."""
    said = {f"192.0.2.{number}": {"at": where, "error": error} for number, (where, error) in enumerate(servers, 1)}
    here: dict[str, Any] = {**REPORT["names"]["vault.example"], "at": at, "servers": said}
    return {"vault.example": here}


def serving(value: bool | None, why: str = "") -> dict[str, Any]:
    """Sites in a report, of which infn serves or does not."""
    sites: dict[str, Any] = copy.deepcopy(REPORT["sites"])
    sites["infn"]["names"]["vault.example"] = {"serving": value, "why": why, "for": 9}
    return sites


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": placed(None, ("infn", ""), ("ifca", ""))}, "The DNS servers do not agree where vault.example is."),
        ({"names": placed(None)}, "No checker has asked the DNS servers yet where vault.example is"),
        ({"names": placed("no record", ("", ""))}, "vault.example has no record in DNS. The checkers bring it"),
        ({"names": placed("192.0.2.9", ("192.0.2.9", ""))}, "vault.example is at 192.0.2.9, which is no site."),
        ({"names": placed("infn, ifca", ("infn, ifca", ""))}, "vault.example is at infn, ifca, more than one address."),
        ({"sites": serving(False, "sealed")}, "vault.example is at infn, which does not serve it (sealed)."),
        ({"sites": serving(None)}, "vault.example is at infn, and no checker knows yet whether that serves it"),
        ({"names": {}}, "The checkers at infn, iisas, ifca never heard of vault.example, which the inventory names"),
    ],
)
def test_names_that_are_not_where_they_should_be(change: dict[str, Any], words: str) -> None:
    (todo,) = reported(**change).todo
    assert words in todo.what
    assert todo.runbook == "docs/failover.md"


def test_what_any_checker_sees_is_told_once_with_who_sees_it() -> None:
    mute = {"key": "dns vault.example 192.0.2.2", "text": "192.0.2.2 does not answer.", "told": True}
    deaf = REPORTS[1] | {"names": placed("infn", ("infn", ""), ("", "no answer")), "alarms": [mute, {"text": "No login."}]}
    full = [each | {"alarms": [{"text": "Its disk is full.", "for": 3}]} for each in (REPORTS[0], REPORTS[2])]
    status = beside(checkers=[full[0], deaf, full[1]])
    assert [todo.what for todo in status.todo] == [
        "DNS server 192.0.2.2 does not tell where vault.example is: no answer, as seen from iisas.",
        "The checkers at infn, ifca say: Its disk is full.",
        "The checker at iisas says: No login.",
    ]
    assert [todo.runbook for todo in status.todo] == ["docs/dns.md", "docs/failover.md", "docs/failover.md"]


def test_a_lost_datagram_needs_nothing() -> None:
    once = {"key": "dns vault.example 192.0.2.2", "text": "192.0.2.2 does not answer.", "told": False}
    status = reported(names=placed("infn", ("infn", ""), ("", "no answer")), alarms=[once])
    assert status.todo == []
    assert "192.0.2.2: no answer" in screen(status)
    assert reported(names=placed(None, ("", "no answer"), ("", "no answer")), alarms=[once]).todo == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (None, "The checker at iisas gives no report: see `journalctl -t endpoint-failover` on the node"),
        (
            REPORTS[1] | {"age": 90.0, "alarms": [{"text": "old news"}]},
            "The checker at iisas has made no check for 90 s: see",
        ),
        (REPORTS[1] | {"age": None, "memory": "No disk."}, "The checker at iisas has made no check yet (No disk.): see"),
    ],
)
def test_a_checker_that_is_silent_beside_others_is_named(report: dict[str, Any] | None, words: str) -> None:
    (todo,) = beside(checkers=[REPORTS[0], report, REPORTS[2]]).todo
    assert words in todo.what


def test_a_checker_is_not_missed_where_its_host_was_not_reached() -> None:
    those = hosts()
    those[0]["state"] = None
    status = status_of(those, REVOKED, (), replace(WELL, checkers=[None, *REPORTS[::2]]))
    assert "checker at iisas" not in told(status)


def test_a_hold_and_a_lock_are_told_and_need_nothing() -> None:
    sites = copy.deepcopy(REPORT["sites"])
    sites["iisas"]["hold"] = {"until": NOW, "by": "alice", "why": "new disks"}
    status = reported(sites=sites)
    assert "iisas is held until 2027-01-15 08:00:00 UTC by alice (new disks)." in screen(status)
    assert status.todo == []
    assert "alice has held the lock" in screen(beside(lock="alice has held the lock."))


def test_that_nobody_changes_the_service_is_said_only_where_that_is_known() -> None:
    assert "Nobody is changing the service." in screen(beside(lock=""))
    assert "changing the service" not in screen(beside(lock=None))
    refused = beside(lock=None, lock_unasked="permission denied.")
    assert refused.notes == ["Who is changing the service could not be asked: permission denied."]
    assert refused.todo == []


def test_without_checkers_nothing_is_said_of_names_and_with_silent_ones_it_is() -> None:
    assert beside(checkers=[None, None], names=()).todo == []
    assert "No checker made a check" in told(beside(checkers=[REPORT | {"age": 90.0}]))


def test_names_that_no_checker_reports_of_need_doing() -> None:
    """Where the checkers cannot even start, nothing comes from any of them."""
    (todo,) = beside(checkers=[None, None, None], names=NAMES).todo
    assert "No checker made a check" in todo.what
    assert "playbooks/deploy/failover.yml" in todo.what
    assert todo.runbook == "docs/failover.md"


def test_an_audit_file_is_looked_at_without_a_report_where_there_are_names() -> None:
    those = hosts()
    those[0]["state"] = those[0]["state"] | {"audit": {"/log": {"modified": NOW - 600, "open": True}}}
    silent = replace(WELL, checkers=[None, None, None], names=())
    assert "has written nothing to /log for 600 s" in told(status_of(those, REVOKED, (), replace(silent, names=NAMES)))
    assert told(status_of(those, REVOKED, (), silent)) == ""


def test_every_line_fits_whatever_is_wrong() -> None:
    those = hosts()
    those[1]["state"] = None
    those[0]["state"] |= {"restart_pending": ["a reason that is rather long " * 9]}
    status = status_of(those, None, [Todo("The unseal bundle on vault-infn is damaged.", CEREMONY)], WELL)
    assert max(map(len, screen(status).splitlines())) <= WIDTH
    assert all(isinstance(todo, Todo) and todo.runbook.startswith("docs/") for todo in status.todo)


def test_the_first_root_token_is_a_note_until_it_is_revoked() -> None:
    valid = replace(REVOKED, revoked_at=None)
    status = status_of(hosts(), valid, (), WELL)
    assert "first root token is still valid; alice" in screen(status)
    assert status.todo == []


def test_a_lost_bundle_and_no_snapshot_are_notes() -> None:
    text = screen(status_of(hosts(), None))
    assert "has an unseal bundle" in text
    assert "no snapshot" in text


def test_a_damaged_copy_of_the_bundle_needs_doing() -> None:
    assert "damaged" in screen(status_of(hosts(), REVOKED, [Todo("The unseal bundle on vault-infn is damaged.", CEREMONY)]))


def test_durations() -> None:
    assert [duration(each) for each in (-1, 59, 60, 7200, 200_000)] == ["0 s", "59 s", "1 min", "2 h", "2 d"]
