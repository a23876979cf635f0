"""The unseal keys are dealt anew by operators in turn, while users work, and whatever stops halfway goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkin import Checkin
from lab import Lab, Run, leaks, wait_for
from load import Load, assert_served

REKEY = "operate/rekey.yml"
ANEW = ("-e", '{"vault_cluster_rekey_anew": true}')
DISKS = "/etc /var /root /home /tmp /run /opt /usr/local /srv"


def rekey(lab: Lab, *operators: str, arguments: tuple[str, ...] = (), threshold: int = 2) -> Run:
    """Run the playbook as the first of some operators, with all their keyrings at hand."""
    run = lab.run(REKEY, *given(lab, operators, threshold), *arguments, jwt=Checkin(lab).token(operators[0]))
    assert run.returncode == 0, run.output[-6000:]
    return run


def given(lab: Lab, operators: tuple[str, ...], threshold: int) -> tuple[str, str]:
    homes = [str(lab.state / "gpg" / name) for name in operators]
    return "-e", json.dumps({"vault_cluster_gnupg_homes": homes, "vault_cluster_threshold": threshold})


def unseal(lab: Lab, operator: str, threshold: int = 2) -> Run:
    return lab.play("operate/unseal.yml", *given(lab, (operator,), threshold), operator=operator)


def follower(lab: Lab) -> str:
    active = lab.active()
    return next(node for node in lab.nodes if node != active)


def status(lab: Lab, node: str) -> int:
    return lab.api(node, "GET", "sys/health").status


def assert_settled(lab: Lab, threshold: int = 2) -> None:
    """All copies are the same, tell of no rekey under way, and of no node that wants older keys."""
    bundle = lab.bundle()
    assert (bundle["threshold"], bundle.get("pending"), bundle.get("previous")) == (threshold, None, None)
    text = (lab.state / "unseal-bundle.json").read_text()
    assert [lab.ssh(node, "cat /etc/openbao/unseal-bundle.json") == text for node in lab.nodes] == [True] * 3


def assert_opens(lab: Lab, *operators: str, threshold: int = 2) -> None:
    """A node that starts again is opened by these, each in turn."""
    node = follower(lab)
    lab.ssh(node, "systemctl reset-failed openbao; systemctl restart openbao")  # tests restart it more often than people
    wait_for(lambda: status(lab, node) == 503, 60, f"{node} to start, sealed")
    for operator in operators:
        assert status(lab, node) == 503
        unseal(lab, operator, threshold)
    assert status(lab, node) == 429


def both_forms(shares: list[str]) -> list[str]:
    return [*shares, *(base64.b64encode(bytes.fromhex(share)).decode() for share in shares)]


def test_operators_in_turn_change_the_threshold_under_load(lab: Lab) -> None:
    old = lab.bundle()
    secrets = both_forms(lab.clear_shares())
    with Load(lab, name=False, keep="rekey.json") as load:
        runs = [rekey(lab, "alice", threshold=3, arguments=("-vvv", "--diff"))]
        assert "The rekey needs 1 more share of 2: bob or carol can supply it" in runs[0].text
        runs.append(rekey(lab, "bob", threshold=3, arguments=("-vvv", "--diff")))
        assert "it needs 2 more shares of 3: alice or carol" in runs[1].text
        assert lab.bundle()["threshold"] == 2
        runs.append(rekey(lab, "alice", "carol", threshold=3, arguments=("-vvv", "--diff")))
        assert "3 of 3 unseal from now on" in runs[2].text
    seen = load.assert_sound()
    assert_served(seen)  # nothing restarts
    assert_settled(lab, 3)
    assert lab.bundle()["root_token"] == old["root_token"]
    secrets += both_forms(lab.clear_shares())
    assert [leaks(run.output, secrets) for run in runs] == [[], [], []]
    for node in lab.nodes:
        places = (f"grep -rlaF -f - {DISKS}", "journalctl --no-pager | grep -cF -f - | grep -v '^0$'")
        for place in places:
            command = f"cat > /dev/shm/patterns; {place.replace('-f -', '-f /dev/shm/patterns')}; rm /dev/shm/patterns"
            found = lab.podman("exec", "-i", f"{lab.resource}-{node}", "sh", "-c", command, stdin="\n".join(secrets) + "\n")
            assert found == ""
    files = [path for path in lab.state.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [str(path) for path in files if leaks(path.read_bytes().decode(errors="replace"), secrets)] == []


def test_the_new_shares_open_a_node_and_then_two_suffice_again(lab: Lab) -> None:
    assert_opens(lab, "carol", "alice", "bob", threshold=3)
    assert "2 of 3 unseal from now on" in rekey(lab, "alice", "bob", "carol").text
    assert_settled(lab)
    again = rekey(lab, "bob")
    assert "as the inventory wants them" in again.text
    assert again.recap("changed") == 0


def test_a_node_that_was_down_is_opened_with_the_shares_that_it_wants(lab: Lab) -> None:
    node = follower(lab)
    lab.ssh(node, "systemctl stop openbao")
    run = rekey(lab, "alice", "bob", arguments=ANEW)
    assert f"{node} may still want the keys from before" in run.text
    lab.ssh(node, "systemctl start openbao")
    wait_for(lambda: status(lab, node) == 503, 60, f"{node} to start, sealed")
    unseal(lab, "carol")
    unseal(lab, "bob")
    assert status(lab, node) == 429
    unseal(lab, "alice")  # sees that it has caught up
    assert_settled(lab)
    assert_opens(lab, "bob", "alice")


def after(task: str, further: int) -> Callable[[str, int], bool]:
    """Return what kills a run when so many tasks have ended since this one began, itself among them."""
    seen: list[int] = []

    def wanted(header: str, number: int) -> bool:
        if task in header:
            seen.append(number)
        return bool(seen) and number == seen[0] + further

    return wanted


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        pytest.param("begin", False, marks=pytest.mark.long),
        pytest.param("begin", True, marks=pytest.mark.long),
        pytest.param("give", False, marks=pytest.mark.long),
        pytest.param("give", True, marks=pytest.mark.long),
        pytest.param("verify", False, marks=pytest.mark.long),
        pytest.param("verify", True, marks=pytest.mark.long),
        ("close", False),
        pytest.param("close", True, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("same", [pytest.param(True, marks=pytest.mark.long), False])
def test_killed_right_after_a_step_and_run_by_the_next(lab: Lab, step: str, kept: bool, same: bool) -> None:
    """Before its outcome is on the nodes, or after, by the same controller or one that has only what the nodes hold."""
    old = lab.bundle()["bundle_id"]
    people = ("alice", "bob")
    wanted = after(f"Deal the keys anew: {step}", 3 if kept else 1)
    killed = lab.kill_at(REKEY, wanted, *given(lab, people, 2), *ANEW, jwt=Checkin(lab).token("alice"))
    assert killed.returncode < 0, killed.output[-3000:]
    bundle = lab.state / "unseal-bundle.json"
    if not same:
        bundle.unlink()
    # Whose run was killed takes its lock over at once; others when it has run out.
    rekey(lab, "alice", "carol", arguments=ANEW if step == "begin" else ())
    assert_settled(lab)
    assert lab.bundle()["bundle_id"] != old
    assert_opens(lab, "alice", "carol")


@pytest.mark.long
def test_a_stranger_at_a_standby_is_none_of_its_business(lab: Lab) -> None:
    """Unauthenticated, a standby lets anybody begin and cancel an attempt; it is another one."""
    node = follower(lab)
    rekey(lab, "alice", arguments=ANEW)
    lab.api(node, "PUT", "sys/rekey/init", {"secret_shares": 1, "secret_threshold": 1})
    lab.api(node, "DELETE", "sys/rekey/init")
    run = rekey(lab, "bob", "carol")
    assert "is cancelled" not in run.text
    assert_settled(lab)


def test_the_encryption_key_is_rotated(lab: Lab, jwt: str) -> None:
    first = lab.play("operate/rotate-encryption-key.yml", jwt=jwt)
    second = lab.play("operate/rotate-encryption-key.yml", jwt=jwt)
    term = int(first.text.partition("from now on it is key ")[2].partition(".")[0])
    assert f"Encryption key {term} of" in second.text
    assert "operations" in second.text


def test_the_controller_keeps_what_was_replaced(lab: Lab) -> None:
    kept = list(lab.state.glob("unseal-bundle.retired-*.json"))
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    names = {Path(line).name for line in lab.ssh(lab.nodes[0], "ls /etc/openbao/unseal-bundle.retired-*").split()}
    assert names & {path.name for path in kept}
