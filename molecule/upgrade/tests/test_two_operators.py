"""Two operators at once: the second is told who is at work, and changes nothing. Nobody cleans up after a run that died."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from checkin import Checkin
from lab import ANSI, NODES, Lab, kill_tree, wait_for

UPGRADE = "operate/upgrade-cluster.yml"
OLD = ("-e", "vault_version=2.7.1")  # the next version is another test's
pytestmark = pytest.mark.long
DRAIN = ("operate/drain-site.yml", "-e", "site=iisas", "-e", "why=a test")
LOCK = "operations/data/lock/run"


@pytest.fixture(scope="module")
def alice(lab: Lab) -> str:
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module")
def bob(lab: Lab) -> str:
    return Checkin(lab).token("bob")


@pytest.fixture(scope="module", autouse=True)
def service(lab: Lab, alice: str) -> None:
    """The service, configured, with its checkers."""
    lab.play(*NODES, *OLD, jwt=alice)
    lab.play("deploy/failover.yml", *OLD, jwt=alice)


@pytest.fixture(autouse=True)
def nobody_has_it(lab: Lab, alice: str) -> Iterator[None]:
    assert holder(lab, alice) == ""
    yield
    left = holder(lab, alice)
    if left:  # what one test leaves is not every other's failure
        change_lock(lab, alice, lambda _: {})
    assert left == ""


def holder(lab: Lab, jwt: str) -> str:
    """Return who has the lock."""
    node = lab.active()
    login = lab.api(node, "POST", "auth/jwt/login", {"jwt": jwt, "role": "operator"}).body["auth"]
    answer = lab.api(node, "GET", LOCK, token=login["client_token"])
    lab.api(node, "POST", "auth/token/revoke-self", token=login["client_token"])
    if answer.status == 404:
        return ""
    assert answer.status == 200, answer
    return str(answer.body["data"]["data"].get("run", {}).get("operator", ""))


def keyrings(lab: Lab) -> tuple[str, str]:
    homes = [str(lab.state / "gpg" / name) for name in ("alice", "bob")]
    return "-e", json.dumps({"vault_cluster_gnupg_homes": homes})


def at_work(lab: Lab, jwt: str, *arguments: str) -> subprocess.Popen[str]:
    """Start an upgrade, and return once it is restarting nodes."""
    level = "info" if "debug" in lab.ssh("vault-infn", "grep log_level /etc/openbao/openbao.hcl") else "debug"
    process = lab.start(UPGRADE, *keyrings(lab), *OLD, "-e", f"vault_server_log_level={level}", *arguments, jwt=jwt)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("TASK [") and "Take a snapshot, and prove it" in line:
            return process
    raise AssertionError(f"The upgrade ended with {process.wait()} before it took a snapshot.")


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    text = " ".join(ANSI.sub("", output).split())
    assert process.returncode == 0, text[-6000:]
    return text


def test_the_second_is_told_who_and_since_when_and_changes_nothing(lab: Lab, alice: str, bob: str) -> None:
    upgrade = at_work(lab, alice)
    for playbook, *arguments in (DRAIN, ("deploy/config.yml",), (UPGRADE,)):
        run = lab.run(playbook, *arguments, *OLD, operator="bob", jwt=bob)
        assert run.returncode != 0, run.output[-3000:]
        assert "Another run is changing the service: alice has held the lock since" in run.text
        assert f"with playbooks/{UPGRADE}, process {upgrade.pid} of" in run.text
        assert run.recap("changed") == 0
    assert upgrade.poll() is None, "The first ended before the second was told."
    assert "3 of 3 nodes were restarted" in finished(upgrade)


def test_a_killed_run_is_taken_over_at_once_on_its_controller(lab: Lab, alice: str, bob: str) -> None:
    upgrade = at_work(lab, alice)
    kill_tree(upgrade.pid)
    upgrade.communicate()
    assert holder(lab, alice) == "alice"

    run = lab.play(UPGRADE, *keyrings(lab), *OLD, operator="bob", jwt=bob)
    assert f"since its process {upgrade.pid} on this controller is gone" in run.text
    assert "alice has held the lock since" in run.text


def test_another_controller_takes_it_when_told_to_or_when_it_has_run_out(lab: Lab, alice: str, bob: str) -> None:
    upgrade = at_work(lab, alice)
    kill_tree(upgrade.pid)
    upgrade.communicate()
    elsewhere(lab, alice)
    told = lab.run(*DRAIN, *OLD, operator="bob", jwt=bob)
    assert told.returncode != 0, told.output[-3000:]
    (label,) = set(re.findall(r"-e take_over=([0-9a-f]{8})", told.text))
    again = lab.run(*DRAIN, *OLD, "-e", "take_over=00000000", operator="bob", jwt=bob)
    assert again.returncode != 0, "a label is one lock's alone"

    run = lab.play(UPGRADE, *keyrings(lab), *OLD, "-e", f"take_over={label}", operator="bob", jwt=bob)
    assert "you said that it is dead" in run.text

    upgrade = at_work(lab, alice, "-e", "vault_cluster_lock_lease=20")
    kill_tree(upgrade.pid)
    upgrade.communicate()
    elsewhere(lab, alice)
    wait_for(
        lambda: lab.run("operate/restore-site.yml", "-e", "site=iisas", jwt=bob).returncode == 0, 120, "the lock to run out"
    )


def elsewhere(lab: Lab, jwt: str) -> None:
    """Make it look as if whoever has the lock was on another controller."""

    def moved(content: dict[str, Any]) -> dict[str, Any]:
        content["run"]["process"] |= {"host": "elsewhere", "boot": "of another host"}
        return content

    change_lock(lab, jwt, moved)


def change_lock(lab: Lab, jwt: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write the lock as a function of what it holds, by hand."""
    node = lab.active()
    token = lab.api(node, "POST", "auth/jwt/login", {"jwt": jwt, "role": "operator"}).body["auth"]["client_token"]
    content = lab.api(node, "GET", LOCK, token=token).body["data"]["data"]
    assert lab.api(node, "POST", LOCK, {"data": change(content)}, token=token).status == 200
    lab.api(node, "POST", "auth/token/revoke-self", token=token)
