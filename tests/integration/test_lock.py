"""The lock of a run, against a real server: two runs at once, a dead one, one that ran out, and nobody at the keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.configured import OPERATOR, Configured
from tests.integration.modules import Result, run_module, start_module
from tests.integration.servers import Authority, Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
POLICIES = REPOSITORY / "files/policies"
# Stands for another ansible-playbook: what a module finds above itself is this process.
OTHER = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.integration.modules import run_module
import json
for line in sys.stdin:
    print(json.dumps(run_module("vault_run_lock", **json.loads(line)).values), flush=True)
"""


class Run:
    """Another run on this controller."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, REPOSITORY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def lock(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """A server that is configured as declared."""
    directory = tmp_path_factory.mktemp("service")
    cluster = Cluster(directory, ["one"], Authority(directory))
    try:
        made = Configured.start(cluster, Path(shutil.copytree(POLICIES, directory / "policies")))
        made.run().succeeded()
        yield made
    finally:
        cluster.stop()


@pytest.fixture
def other(service: Configured) -> Iterator[Run]:
    run = Run()
    yield run
    run.kill()
    lock(service).succeeded()
    lock(service, state="released").succeeded()


def given(service: Configured, **arguments: Any) -> dict[str, Any]:
    return {
        "nodes": service.cluster.arguments,
        "ca_file": str(service.cluster.ca_file),
        "jwt": service.operator_token,
        "people": {OPERATOR: "alice"},
        **arguments,
    }


def lock(service: Configured, *, check_mode: bool = False, **arguments: Any) -> Result:
    return run_module("vault_run_lock", check_mode=check_mode, **given(service, **arguments))


def test_the_second_is_told_and_the_first_goes_on(service: Configured, other: Run) -> None:
    assert other.lock(given(service))["held"]

    told = lock(service).refused()
    assert "alice has held the lock since" in told
    assert f"process {other.process.pid} " in told
    assert "Nothing was changed" in told
    assert "alice has held" in lock(service, required=False).refused()
    assert "alice has held" in lock(service, check_mode=True).refused()
    assert not lock(service, state="released").succeeded()["changed"]

    again = other.lock(given(service))
    assert (again["held"], again["messages"]) == (True, [])
    assert not other.lock(given(service, state="released"))["held"]
    assert lock(service).succeeded()["messages"] == []


def test_a_killed_runs_lock_is_taken_over_at_once_on_its_controller(service: Configured, other: Run) -> None:
    other.lock(given(service))
    other.kill()

    (message,) = lock(service).succeeded()["messages"]
    assert f"its process {other.process.pid} on this controller is gone" in message


def test_one_that_ran_out_is_taken_over_and_its_run_stops(service: Configured, other: Run) -> None:
    kept = other.lock(given(service, lease=1))["version"]
    time.sleep(2.1)

    (message,) = lock(service).succeeded()["messages"]
    assert "its lock ran out" in message
    lost = other.lock(given(service, kept=kept))
    assert lost["failed"]
    assert "did not renew it in time" in lost["msg"]


def test_one_that_cannot_be_renewed_is_given_back(service: Configured, other: Run) -> None:
    kept = other.lock(given(service))["version"]
    failed = other.lock(given(service, kept=kept, jwt=service.provider.token("stranger@egi.eu")))
    assert "cannot be renewed, so this run stops before its next change" in failed["msg"]
    assert (failed["held"], failed["version"]) == (True, kept)
    other.lock(given(service, state="released"))
    assert lock(service).succeeded()["messages"] == []


def test_two_that_begin_in_the_same_moment(service: Configured) -> None:
    """Modules of one test are one run, so the other is a run of its own that begins with it."""
    runs = [Run(), Run()]
    try:
        for _ in range(3):
            for run in runs:
                assert run.process.stdin is not None
                run.process.stdin.write(json.dumps(given(service)) + "\n")
                run.process.stdin.flush()
            held = []
            for run in runs:
                assert run.process.stdout is not None
                held.append(json.loads(run.process.stdout.readline())["held"])
            assert sorted(held) == [False, True]
            runs[held.index(True)].lock(given(service, state="released"))
    finally:
        for run in runs:
            run.kill()


def test_nobody_at_the_keyboard_and_a_login_that_is_refused(service: Configured) -> None:
    assert "OIDC_ACCESS_TOKEN" in lock(service, jwt="").refused()
    (message,) = lock(service, jwt="", required=False).succeeded()["messages"]
    assert "Nobody is kept from changing the service at the same time" in message
    stranger = service.provider.token("stranger@egi.eu")
    assert "was refused" in lock(service, jwt=stranger).refused()
    assert not lock(service, jwt=stranger, required=False).succeeded()["held"]
    (message,) = lock(service, state="released", jwt="").succeeded()["messages"]
    assert "runs out by itself" in message


def test_without_an_active_node_recovery_is_not_kept_back(service: Configured) -> None:
    nowhere = [{**service.cluster.arguments[0], "url": "https://one.bao.test:1"}]
    assert "unseal.yml" in lock(service, nodes=nowhere).refused()
    assert not lock(service, nodes=nowhere, required=False).succeeded()["held"]


def test_no_token_is_left_and_check_mode_writes_nothing(service: Configured) -> None:
    before = service.client().read("operations/metadata/lock/run")
    assert not lock(service, check_mode=True).succeeded()["held"]
    assert service.client().read("operations/metadata/lock/run") == before
    process = start_module("vault_run_lock", **given(service))
    process.communicate()
    lock(service, state="released").succeeded()
    tokens = service.client().names("auth/token/accessors")
    names = [
        service.client().write("auth/token/lookup-accessor", {"accessor": each})["data"]["display_name"] for each in tokens
    ]
    assert [name for name in names if name.startswith("jwt")] == []
