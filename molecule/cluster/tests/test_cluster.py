"""Three nodes are one cluster: it serves through any of them, survives the loss of one, and drift is found."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from lab import Lab, wait_for

FOLDER = "story"


@pytest.fixture(scope="module")
def token(lab: Lab) -> str:
    """The first root token: operators' own logins are a later story's."""
    return lab.root_token()


@pytest.fixture(scope="module", autouse=True)
def folder(lab: Lab, token: str) -> Iterator[None]:
    """A key-value mount for the story."""
    node = lab.active()
    assert lab.api(node, "POST", f"sys/mounts/{FOLDER}", {"type": "kv"}, token=token).status == 204
    yield
    lab.api(lab.active(), "DELETE", f"sys/mounts/{FOLDER}", token=token)


def write(lab: Lab, node: str, key: str, value: str, token: str) -> int:
    return lab.api(node, "PUT", f"{FOLDER}/{key}", {"value": value}, token=token).status


def read(lab: Lab, node: str, key: str, token: str) -> object:
    return lab.api(node, "GET", f"{FOLDER}/{key}", token=token).body.get("data", {}).get("value")


def unseal(lab: Lab) -> None:
    """Two operators in turn."""
    lab.play("operate/unseal.yml", operator="bob")
    lab.play("operate/unseal.yml", operator="carol")


def test_all_members_vote_and_one_leads(lab: Lab, token: str) -> None:
    state = lab.api(lab.active(), "GET", "sys/storage/raft/autopilot/state", token=token).body["data"]
    assert sorted(state["voters"]) == sorted(lab.nodes)
    assert state["healthy"]
    assert state["failure_tolerance"] == 1


def test_a_write_through_any_node_is_read_through_any_other_at_once(lab: Lab, token: str) -> None:
    wrong = []
    for writer in lab.nodes:
        for reader in lab.nodes:
            for count in range(5):
                value = f"{writer}-{reader}-{count}"
                assert write(lab, writer, "turn", value, token) == 204
                if read(lab, reader, "turn", token) != value:
                    wrong.append(value)
    assert wrong == []


@pytest.mark.parametrize("node", Lab.nodes)
def test_secrets_of_512_kb_fit_and_far_larger_ones_are_refused_clearly(lab: Lab, token: str, node: str) -> None:
    assert write(lab, node, "large", "x" * 512 * 1024, token) == 204
    assert write(lab, node, "larger", "x" * 1280 * 1024, token) == 413


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    run = lab.play("deploy/vault.yml")
    assert run.recap("changed") == 0


def test_check_mode_on_a_running_cluster_changes_nothing_and_fails_nothing(lab: Lab) -> None:
    look = "find /etc /opt /usr/local /var/log/openbao -printf '%p %m %u %g %T@ %s\n' | grep -v audit.log | sort | sha256sum"
    before = {node: lab.ssh(node, look) for node in lab.nodes}
    run = lab.play("deploy/vault.yml", "--check", "--diff")
    assert run.recap("changed") == 0
    assert {node: lab.ssh(node, look) for node in lab.nodes} == before


@pytest.mark.parametrize("node", Lab.nodes)
def test_the_unit_is_hardened(lab: Lab, node: str) -> None:
    text = lab.ssh(node, "systemd-analyze security openbao.service --no-pager | tail -n 1")
    exposure = float(text.split(":")[1].split()[0])
    assert exposure <= 3.0


@pytest.mark.parametrize("node", Lab.nodes)
def test_the_server_is_nobody_and_leaves_no_core(lab: Lab, node: str) -> None:
    pid = lab.ssh(node, "systemctl show -p MainPID --value openbao").strip()
    assert lab.ssh(node, f"ps -o user= -p {pid}").strip() == "openbao"
    limits = lab.ssh(node, f"grep -E 'Max core' /proc/{pid}/limits")
    assert limits.split()[4:6] == ["0", "0"]
    as_the_server = "setpriv --reuid=openbao --regid=openbao --clear-groups"
    writable = lab.ssh(
        node, f"{as_the_server} find /etc /opt /usr /srv /home -writable -not -type l 2>/dev/null", check=False
    )
    assert writable == ""


@pytest.mark.parametrize("node", Lab.nodes)
def test_nobody_but_root_and_the_server_reaches_the_socket(lab: Lab, node: str) -> None:
    folder, server_socket = lab.ssh(node, "stat -c '%a %U' /run/openbao /run/openbao/openbao.sock").splitlines()
    assert (folder, server_socket) == ("700 openbao", "700 openbao")


@pytest.mark.parametrize("node", Lab.nodes)
def test_raft_is_closed_to_a_stranger_and_the_api_is_open(lab: Lab, node: str) -> None:
    assert lab.api(node, "GET", "sys/health").status in (200, 429)
    with pytest.raises(OSError), socket.create_connection((lab.addresses[node], 8201), timeout=2):
        pass  # this machine is no member
    other = next(name for name in lab.nodes if name != node)
    reach = f"python3 -c \"import socket; socket.create_connection(('{lab.addresses[node]}', 8201), 3)\" && echo open"
    assert lab.ssh(other, reach).strip() == "open"


@pytest.mark.parametrize("node", Lab.nodes)
def test_nothing_of_raft_goes_to_a_stranger(lab: Lab, node: str) -> None:
    """A host that was a member, or has a member's name, listens where a member would."""
    stranger = f"{lab.subnet}.1"  # this machine
    with socket.create_server((stranger, 8201)), socket.create_server((stranger, 0)) as any_other:
        ports = (8201, any_other.getsockname()[1])
        reach = "python3 -c \"import socket; socket.create_connection(('{}', {}), 3)\" && echo open || echo closed"
        assert [lab.ssh(node, reach.format(stranger, port)).strip() for port in ports] == ["closed", "open"]


# What the doors of the ceremonies answer to a stranger, by the node's role. A standby's are ajar (docs/security.md).
DOORS = {
    "active": {("GET", "attempt"): {405}, ("PUT", "attempt"): {405}, ("DELETE", "attempt"): {405},
               ("GET", "init"): {405}, ("PUT", "init"): {405}, ("DELETE", "init"): {405}},
    "standby": {("GET", "attempt"): {200}, ("PUT", "attempt"): {200}, ("DELETE", "attempt"): {204},
                ("GET", "init"): {200}, ("PUT", "init"): {400, 500}, ("DELETE", "init"): {204}},
}  # fmt: skip
PATHS = {"attempt": "sys/generate-root/attempt", "init": "sys/rekey/init"}


@pytest.mark.parametrize("node", Lab.nodes)
def test_the_doors_of_the_ceremonies_are_as_documented(lab: Lab, node: str) -> None:
    role = "active" if node == lab.active() else "standby"
    found = {
        (method, door): lab.api(node, method, PATHS[door], {}).status
        for door in PATHS
        for method in ("GET", "PUT", "DELETE")
    }
    wrong = {door: status for door, status in found.items() if status not in DOORS[role][door]}
    assert wrong == {}, (role, wrong)
    assert lab.api(node, "GET", "sys/metrics").status in (400, 403)
    assert lab.api(node, "PUT", "sys/rotate/root/init", {"secret_shares": 1, "secret_threshold": 1}).status in (400, 403)


@pytest.mark.parametrize("node", Lab.nodes)
def test_what_is_behind_a_door_that_is_ajar_is_worth_nothing(lab: Lab, token: str, node: str) -> None:
    """A stranger who starts an attempt learns its one-time password, and gets no token without a threshold of shares."""
    if node == lab.active():
        return  # its doors are shut
    started = lab.api(node, "PUT", PATHS["attempt"], {})
    assert started.status == 200
    other = lab.api(node, "PUT", "sys/generate-root/update", {"nonce": "of another attempt", "key": "00" * 33})
    assert other.status == 400  # and so a share of ours is never taken by an attempt that is not ours
    for _ in range(3):
        lab.api(node, "PUT", "sys/generate-root/update", {"nonce": started.body["nonce"], "key": "01" * 33})
    after = lab.api(node, "GET", PATHS["attempt"]).body
    assert not after["complete"]
    assert not after["encoded_token"]
    lab.api(node, "DELETE", PATHS["attempt"])
    assert lab.api(node, "GET", "auth/token/lookup-self", token=token).status == 200


def test_the_audit_file_is_written_rotated_and_written_again(lab: Lab, token: str) -> None:
    node, path = lab.active(), "/var/log/openbao/audit.log"
    assert write(lab, node, "audited", "not in clear", token) == 204
    assert json.loads(lab.ssh(node, f"tail -n 1 {path}"))["type"] in ("request", "response")
    lab.ssh(node, "logrotate --force /etc/logrotate.d/openbao")
    assert write(lab, node, "audited", "not in clear either", token) == 204
    wait_for(lambda: lab.ssh(node, f"tail -n 1 {path}", check=False) != "", 10, "audit lines after the rotation")
    assert "not in clear" not in lab.ssh(node, f"zcat -f {path}*")  # values are hashed
    other_medium = lab.ssh(node, "journalctl --no-pager SYSLOG_IDENTIFIER=openbao-audit -n 1 -o cat")
    assert json.loads(other_medium[other_medium.index("{") :])["type"] in ("request", "response")


def test_the_active_node_is_killed_and_writes_go_on(lab: Lab, token: str) -> None:
    victim = lab.active()
    others = [node for node in lab.nodes if node != victim]
    lab.ssh(victim, "systemctl kill --signal=KILL openbao")
    took = wait_for(
        lambda: any(write(lab, node, "killed", victim, token) == 204 for node in others), 15, "a write to be accepted"
    )
    print(f"writes went on after {took:.1f} s")
    wait_for(lambda: lab.api(victim, "GET", "sys/health").status == 503, 30, "the killed server to be back, sealed")
    unseal(lab)
    assert read(lab, victim, "killed", token) == victim


def test_a_host_is_rebooted_and_comes_back(lab: Lab, token: str) -> None:
    victim = next(node for node in lab.nodes if node != lab.active())
    lab.reboot(victim)
    wait_for(lambda: lab.api(victim, "GET", "sys/health").status == 503, 60, "the server to be back, sealed")
    with pytest.raises(OSError), socket.create_connection((lab.addresses[victim], 8201), timeout=2):
        pass  # the firewall came back with the host
    way_back = "/run/openbao-started-before"  # as an upgrade leaves it that is cut off right after it restarted the server
    lab.ssh(victim, f"mkdir {way_back}")
    first = lab.play("operate/unseal.yml", operator="bob")
    assert "1 more" in first.text
    assert lab.ssh(victim, f"ls -d {way_back}", check=False) == "", "an older server may open newer data"
    lab.play("operate/unseal.yml", operator="carol")
    wait_for(lambda: write(lab, victim, "rebooted", victim, token) == 204, 10, "a write through the rebooted node")
    assert lab.play("deploy/vault.yml").recap("changed") == 0


# A drift of each kind: how it is made by hand, and what the run that finds it must name.
DRIFT = {
    "configuration": ("echo '# by hand' >> /etc/openbao/openbao.hcl", "+# by hand"),
    "unit": (
        "sed -i 's/^LimitCORE=.*/LimitCORE=infinity/' /etc/systemd/system/openbao.service; systemctl daemon-reload",
        "LimitCORE=infinity",
    ),
    "mode": ("chmod 0644 /etc/openbao/tls/server.key", "server.key"),
    "owner": ("chown openbao /etc/profile.d/openbao.sh", "profile.d/openbao.sh"),
    "missing file": ("rm /etc/logrotate.d/openbao", "logrotate.d/openbao"),
    "firewall rule": ("nft flush table inet openbao_peers", "+ tcp dport 8201 jump cluster_port"),
    "version": ("ln -sfn nowhere /opt/openbao/current", "nowhere"),
    "disabled service": ("systemctl disable -q openbao", "Have the server started, now and at boot] *** changed"),
    "account": ("usermod --shell /bin/bash openbao", "Have a user for the server who can log in nowhere] *** changed"),
}


def test_drift_of_each_kind_made_by_hand_is_found_and_mended(lab: Lab) -> None:
    for by_hand, _ in DRIFT.values():
        lab.ssh("vault-infn", by_hand)
    status = lab.run("operate/show-status.yml").text
    assert "The firewall of vault-infn does not let exactly the members to the cluster port" in status
    assert "The server on vault-infn does not start at the next boot" in status
    run = lab.play("deploy/vault.yml", "--diff")
    text = re.sub(r"\*{3,}", "***", run.text).replace("-# by hand", "+# by hand")
    assert [kind for kind, (_, named) in DRIFT.items() if named not in text] == [], run.output[-6000:]
    assert lab.play("deploy/vault.yml").recap("changed") == 0


def test_a_damaged_copy_of_the_bundle_is_found(lab: Lab) -> None:
    lab.ssh("vault-infn", "echo '{}' > /etc/openbao/unseal-bundle.json")
    run = lab.run("deploy/vault.yml")
    assert run.returncode != 0
    assert "unseal bundle on vault-infn" in run.text
    assert "vault-infn" in lab.run("operate/show-status.yml").text
    lab.ssh("vault-infn", "rm /etc/openbao/unseal-bundle.json")
    assert lab.play("deploy/vault.yml").recap("changed") == 1


def test_a_changed_configuration_marks_a_restart_and_makes_none(lab: Lab) -> None:
    pids = {node: lab.ssh(node, "systemctl show -p MainPID --value openbao") for node in lab.nodes}
    run = lab.play("deploy/vault.yml", "-e", "vault_server_log_level=debug")
    assert "restart pending" in run.text.lower()
    assert {node: lab.ssh(node, "systemctl show -p MainPID --value openbao") for node in lab.nodes} == pids
    status = lab.run("operate/show-status.yml")
    assert "restart" in status.text
    lab.play("deploy/vault.yml")


def test_a_lost_member_is_found(lab: Lab, token: str) -> None:
    victim = next(node for node in lab.nodes if node != lab.active())
    removed = lab.api(lab.active(), "POST", "sys/storage/raft/remove-peer", {"server_id": victim}, token=token)
    assert removed.status == 204
    time.sleep(1)
    run = lab.run("deploy/vault.yml", "-e", "vault_cluster_voter_timeout=3")
    assert run.returncode != 0
    assert victim in run.output
    # Its way back: an empty data directory, a new start, and two shares.
    lab.ssh(
        victim, "systemctl stop openbao; rm -rf /var/lib/openbao/*; systemctl reset-failed openbao; systemctl start openbao"
    )
    unseal(lab)
    assert lab.play("deploy/vault.yml").recap("changed") == 0
