"""Snapshots that are proven, and the gate, against real servers."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ceremony import Ceremony
from tests.integration.modules import Result, run_module, start_module
from tests.integration.servers import Authority, Cluster, server_binary
from tests.pgp_homes import PgpHome


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, people: dict[str, PgpHome]
) -> Iterator[Ceremony]:
    """Three members."""
    directory = tmp_path_factory.mktemp("rolling")
    servers = Cluster(directory / "servers", ["n1", "n2", "n3"], authority)
    servers.start()
    try:
        made = Ceremony(servers, people, directory / "controller")
        made.stand_up()
        yield made
    finally:
        servers.stop()


@pytest.fixture
def standing(cluster: Ceremony) -> Ceremony:
    """All of them healthy voters."""
    cluster.unseal("alice", "bob").succeeded()
    gate(cluster).succeeded()
    return cluster


def given(ceremony: Ceremony) -> dict[str, Any]:
    return {
        "nodes": ceremony.cluster.arguments,
        "ca_file": str(ceremony.cluster.ca_file),
        "token": ceremony.root_token().reveal(),
        "timeout": 3.0,
    }


def gate(ceremony: Ceremony, patience: float = 30.0, **arguments: Any) -> Result:
    return run_module("vault_cluster_gate", patience=patience, **given(ceremony), **arguments)


def asked(ceremony: Ceremony, *names: str) -> dict[str, Any]:
    return {
        **given(ceremony),
        "product": "openbao",
        "binary": str(server_binary()),
        "directory": str(ceremony.controller / "snapshots"),
        "label": "test",
        "bundle_file": str(ceremony.bundle_file),
        "gnupg_homes": ceremony.homes(*names),
    }


def snapshot(ceremony: Ceremony, *names: str, **arguments: Any) -> Result:
    return run_module("vault_snapshot", **{**asked(ceremony, *names), **arguments})


def servers_in(directory: Path) -> list[int]:
    """Return the processes that were started with a configuration in a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"-config={directory}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def await_(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"Waited for {what}."
        time.sleep(0.02)


def left_behind(since: float = 0.0) -> list[Path]:
    """Return what the module left where it works, and what its throw-away servers did, which call their copies so."""
    tmp = Path("/tmp")  # noqa: S108 - nothing is written there
    copies = [
        Path(each.path) for each in os.scandir(tmp) if since and re.match(r"snapshot\d", each.name) and _since(each, since)
    ]
    return [*tmp.glob("snapshot-proof-*"), *copies]


def _since(entry: os.DirEntry[str], moment: float) -> bool:
    try:
        return entry.stat().st_mtime >= moment
    except FileNotFoundError:  # of a server that takes one elsewhere, and removes it
        return False


def test_a_snapshot_is_kept_restored_and_opened(standing: Ceremony) -> None:
    began = time.time()
    assert snapshot(standing, "alice", check_mode=True).succeeded().values["changed"]
    assert not (standing.controller / "snapshots").exists()

    one = snapshot(standing, "alice").succeeded()
    assert (one["opened"], one["missing"]) == (False, 1)
    both = snapshot(standing, "alice", "bob").succeeded()
    assert (both["opened"], both["missing"]) == (True, 0)

    path = Path(both["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert both["index"] > 0
    time.sleep(1.1)  # names have whole seconds
    snapshot(standing, "alice", keep=1).succeeded()
    assert len(list(path.parent.glob("*"))) == 1
    assert not path.exists()
    await_(lambda: left_behind(began) == [], "an empty /tmp", 10)


def test_a_run_that_is_killed_leaves_no_server_and_the_next_one_sweeps_up(standing: Ceremony, tmp_path: Path) -> None:
    """The throw-away server may be unsealed: it must not outlive the process that may end it."""
    killed = start_module("vault_snapshot", environment={"TMPDIR": str(tmp_path)}, **asked(standing, "alice", "bob"))
    await_(lambda: len(servers_in(tmp_path)) == 1, "the throw-away server")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    await_(lambda: servers_in(tmp_path) == [], "the end of the throw-away server")
    assert len(list(tmp_path.iterdir())) == 1

    kept = standing.controller / "snapshots"
    (unproven,) = kept.glob(".test.*.new")
    partial = kept / ".test.x.new"
    partial.write_text("cut off")
    in_use = tmp_path / "snapshot-proof-of-another-run"
    in_use.mkdir()
    descriptor = os.open(in_use, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    run_module("vault_snapshot", environment={"TMPDIR": str(tmp_path)}, **asked(standing, "alice")).succeeded()
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == [in_use]
    assert not partial.exists()
    assert not unproven.exists()


def test_a_snapshot_that_is_not_proven_is_not_kept_and_takes_no_older_ones_place(standing: Ceremony, tmp_path: Path) -> None:
    before = Path(snapshot(standing, "alice", label="good").succeeded()["path"])
    time.sleep(1.1)  # names have whole seconds
    broken = tmp_path / "bao"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    refused = snapshot(standing, "alice", label="good", binary=str(broken), keep=1).refused()
    assert list(before.parent.glob("*good*")) == [before]
    assert f"is not kept in {before.parent}" in refused


def test_what_proves_nothing_is_refused(standing: Ceremony, tmp_path: Path) -> None:
    broken = tmp_path / "bao"
    broken.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    broken.chmod(0o755)
    assert "no such thing" in snapshot(standing, "alice", binary=str(broken)).refused()
    assert "cannot run" in snapshot(standing, "alice", binary=str(tmp_path / "none")).refused()
    assert "OIDC_ACCESS_TOKEN" in snapshot(standing, "alice", token="").refused()
    file = tmp_path / "file"
    file.write_text("")
    assert "vault_cluster_snapshot_dir" in snapshot(standing, "alice", directory=str(file / "x")).refused()
    assert left_behind() == []


def test_the_gate_opens_when_the_cluster_can_spare_a_node(standing: Ceremony) -> None:
    leader = gate(standing).succeeded()["leader"]
    victim = next(server for server in standing.cluster.servers if server.name != leader)
    wrong = gate(standing, patience=0, versions={"n2": "9.9.9"}).refused()
    assert "n2 runs 2." in wrong
    assert "should run 9.9.9" in wrong

    victim.kill()
    shut = gate(standing, patience=1).refused()
    assert f"{victim.name} is unreachable" in shut
    victim.restart()
    assert f"{victim.name} is sealed" in gate(standing, patience=0).refused()
    standing.unseal("alice", "bob").succeeded()
    assert gate(standing).succeeded()["leader"] == leader


def test_the_gate_follows_the_leader(standing: Ceremony) -> None:
    before = gate(standing).succeeded()["leader"]
    waiting = start_module("vault_cluster_gate", patience=40.0, versions={}, **given(standing))
    standing.cluster[before].restart()
    standing.unseal("alice", "bob").succeeded()

    stdout, _ = waiting.communicate()
    assert not json.loads(stdout).get("failed"), stdout
