"""The first ceremony, watched for secrets and cut off in the middle."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PROJECT, Lab, Run, leaks, wait_for

# Where a secret could be left on a host. Not the server's own encrypted storage, and not what the kernel pretends.
DISKS = "/etc /var /root /home /tmp /run /opt /usr/local /srv"


@pytest.fixture(scope="module")
def watched(lab: Lab) -> list[Run]:
    """The whole stand-up on bare hosts by three operators in turn, at the highest verbosity anyone uses."""
    return lab.stand_up("-vvv", "--diff")


@pytest.fixture(scope="module")
def secrets(lab: Lab, watched: list[Run]) -> list[str]:
    """All clear shares, in both forms that the server takes, and the first root token."""
    shares = lab.clear_shares()
    other = [base64.b64encode(bytes.fromhex(share)).decode() for share in shares]
    return [*shares, *other, lab.root_token()]


def test_two_of_three_operators_stand_it_up(lab: Lab, watched: list[Run]) -> None:
    assert "1 more" in watched[0].text
    assert "1 more" in watched[1].text
    assert all(lab.api(node, "GET", "sys/health").status in (200, 429) for node in lab.nodes)


def test_every_run_says_that_the_first_root_token_is_still_valid(watched: list[Run]) -> None:
    assert all("root token is still valid" in run.text for run in watched)


def test_the_output_holds_no_secret(lab: Lab, watched: list[Run], secrets: list[str]) -> None:
    assert [leaks(run.output, secrets) for run in watched] == [[], [], []]
    keys = [path.read_text() for path in lab.state.glob("tls/*.key")]
    lines = [line for key in keys for line in key.splitlines() if not line.startswith("-----")]
    assert [leaks(run.output, lines) for run in watched] == [[], [], []]


@pytest.mark.parametrize("node", Lab.nodes)
def test_a_host_keeps_no_secret(lab: Lab, secrets: list[str], node: str) -> None:
    # The patterns go in by standard input: on the command line they would be in the process list.
    for place in (f"grep -rlaF -f - {DISKS}", "journalctl --no-pager | grep -cF -f - | grep -v '^0$'"):
        done = lab.podman("exec", "-i", f"{lab.resource}-{node}", "sh", "-c",
                          f"cat > /dev/shm/patterns; {place.replace('-f -', '-f /dev/shm/patterns')}; rm /dev/shm/patterns",
                          stdin="\n".join(secrets) + "\n")  # fmt: skip
        assert done == ""


def test_the_controller_keeps_no_secret(lab: Lab, secrets: list[str]) -> None:
    places = [lab.state, PROJECT / ".cache" / "ansible", Path.home() / ".ansible"]
    found = [
        str(path)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and leaks(path.read_bytes().decode(errors="replace"), secrets)
    ]
    assert found == []


def test_the_controller_keeps_no_tls_key_in_a_temporary_file(lab: Lab) -> None:
    """Killed when the keys of all nodes have been in a module's hands: they were never in a file of its own."""
    killed = lab.kill_at("deploy/vault.yml", lambda header, _: "Refuse TLS files" in header)
    assert killed.returncode < 0, killed.output[-3000:]
    keys = [line for path in lab.state.glob("tls/*.key") for line in path.read_text().splitlines()]
    lines = [line for line in keys if not line.startswith("-----")]
    places = [PROJECT / ".cache" / "ansible", Path.home() / ".ansible"]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [str(path) for path in files if leaks(path.read_bytes().decode(errors="replace"), lines)] == []


def test_the_bundle_is_for_its_owner_alone_and_the_same_everywhere(lab: Lab) -> None:
    bundle = lab.state / "unseal-bundle.json"
    assert bundle.stat().st_mode & 0o777 == 0o600
    for node in lab.nodes:
        assert lab.ssh(node, "stat -c '%a %U' /etc/openbao/unseal-bundle.json").strip() == "600 root"
        assert lab.ssh(node, "cat /etc/openbao/unseal-bundle.json") == bundle.read_text()


def test_a_controller_that_lost_its_bundle_gets_it_back_from_the_nodes(lab: Lab) -> None:
    bundle = lab.state / "unseal-bundle.json"
    text = bundle.read_text()
    bundle.unlink()
    lab.play("operate/unseal.yml")
    assert bundle.read_text() == text


def test_the_first_root_token_is_revoked_on_purpose(lab: Lab) -> None:
    token = lab.root_token()
    wrong = lab.run("operate/revoke-root.yml", operator="bob")
    assert wrong.returncode != 0
    assert "alice" in wrong.output
    lab.play("operate/revoke-root.yml", operator="alice")
    assert all(lab.api(node, "GET", "auth/token/lookup-self", token=token).status == 403 for node in lab.nodes)
    again = lab.play("operate/unseal.yml")
    assert "root token is still valid" not in again.text


KILLED_AFTER = [
    pytest.param("Initialise the cluster, or compare the copies of its bundle", marks=pytest.mark.long),
    "Keep a copy of the unseal bundle on the node",
    pytest.param("Submit the shares that this keyboard can decrypt", marks=pytest.mark.long),
]


@pytest.fixture
def bare(lab: Lab) -> Iterator[None]:
    """Servers without a cluster."""
    lab.wipe()
    yield


@pytest.mark.parametrize("task", KILLED_AFTER)
def test_killed_right_after_a_task_and_run_again(lab: Lab, bare: None, task: str) -> None:
    """The controller dies between that task and the next; the cluster that is then made is the one that was begun."""
    seen: list[int] = []

    def the_task_after(header: str, number: int) -> bool:
        if task in header:
            seen.append(number)
        return bool(seen) and number == seen[0] + 1

    killed = lab.kill_at("deploy/vault.yml", the_task_after)
    assert killed.returncode < 0, killed.output[-3000:]
    before = lab.bundle()["bundle_id"]
    lab.stand_up()
    assert lab.bundle()["bundle_id"] == before
    assert lab.play("deploy/vault.yml").recap("changed") == 0
    for node in lab.nodes:
        lab.ssh(node, "systemctl reset-failed openbao; systemctl restart openbao")
    wait_for(lambda: all(lab.api(node, "GET", "sys/health").status == 503 for node in lab.nodes), 30, "all sealed")
    lab.play("operate/unseal.yml", operator="bob")
    lab.play("operate/unseal.yml", operator="carol")
    assert lab.active()


def test_killed_in_the_middle_of_the_initialisation(lab: Lab, bare: None) -> None:
    """The controller dies the moment the server is initialised: the bundle is there, or its loss is told."""

    def initialised(header: str, _: int) -> bool:
        if "Initialise the cluster" not in header:
            return False
        wait_for(lambda: bool(lab.api("vault-iisas", "GET", "sys/init").body.get("initialized")), 20, "sys/init")
        return True

    killed = lab.kill_at("deploy/vault.yml", initialised)
    assert killed.returncode < 0, killed.output[-3000:]
    run = lab.run("deploy/vault.yml")
    if run.returncode == 0:
        assert lab.clear_shares()
    else:
        assert "empty its Raft directory" in run.text


@pytest.mark.long
def test_a_cluster_whose_bundle_is_nowhere_is_refused(lab: Lab, bare: None) -> None:
    lab.play("deploy/vault.yml")
    (lab.state / "unseal-bundle.json").unlink()
    for node in lab.nodes:
        lab.ssh(node, "rm " + shlex.quote("/etc/openbao/unseal-bundle.json"))
    run = lab.run("deploy/vault.yml")
    assert run.returncode != 0
    assert "empty its Raft directory" in run.text


@pytest.mark.long
def test_a_bundle_of_another_cluster_is_refused(lab: Lab, bare: None) -> None:
    lab.play("deploy/vault.yml")
    for node in lab.nodes:
        lab.ssh(
            node,
            "systemctl stop openbao; rm -rf /var/lib/openbao/*; systemctl reset-failed openbao; systemctl start openbao",
        )
    run = lab.run("deploy/vault.yml")
    assert run.returncode != 0
    assert "unseal-bundle.json" in run.output
