from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import wishes
from endpoint_failover.errors import FailoverError

from tests.unit.endpoint_failover.servers import full_disk
from tests.unit.endpoint_failover.sites import NAME, SECOND

PROGRAM = str(Path(__file__).resolve().parents[3] / "roles/endpoint_failover/files")


def test_a_wish_is_there_until_it_is_dropped(tmp_path: Path) -> None:
    wishes.make(tmp_path, {NAME: "ifca"}, 60)
    wishes.make(tmp_path, {SECOND: "infn"}, 60)
    assert wishes.read(tmp_path) == {NAME: "ifca", SECOND: "infn"}
    assert stat.S_IMODE((tmp_path / wishes.FILE).stat().st_mode) == 0o600

    wishes.drop(tmp_path, {NAME: "infn"})  # another's, meanwhile
    assert wishes.read(tmp_path) == {NAME: "ifca", SECOND: "infn"}
    wishes.drop(tmp_path, {NAME: "ifca"})
    assert wishes.read(tmp_path) == {SECOND: "infn"}


def test_the_last_wish_for_a_name_counts(tmp_path: Path) -> None:
    wishes.make(tmp_path, {NAME: "ifca"}, 60)
    wishes.make(tmp_path, {NAME: "infn"}, 60)
    assert wishes.read(tmp_path) == {NAME: "infn"}


def test_a_wish_runs_out_and_does_not_outlive_a_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes.make(tmp_path, {NAME: "ifca"}, 0.0)
    assert wishes.read(tmp_path) == {}

    wishes.make(tmp_path, {NAME: "ifca"}, 60)
    monkeypatch.setattr(wishes, "boot_id", lambda: "another")
    assert wishes.read(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"x": 7}',
        '{"x": {}}',
        '{"x": {"site": "a"}}',
        '{"x": {"site": 1, "until": "y", "boot": 2}}',
        "\0",
    ],
)
def test_what_is_no_wish_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / wishes.FILE).write_text(content)
    assert wishes.read(tmp_path) == {}
    wishes.make(tmp_path, {NAME: "ifca"}, 60)
    assert wishes.read(tmp_path) == {NAME: "ifca"}


def test_one_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(FailoverError, match=r"runuser -u endpoint-failover"):
        wishes.make(tmp_path, {NAME: "ifca"}, 60)


def test_the_run_that_is_under_way_is_woken(tmp_path: Path) -> None:
    run = """
import signal, sys
from pathlib import Path
from endpoint_failover.lock import Lock
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
with Lock(Path(sys.argv[1])) as lock:
    lock.take()
    print("in", flush=True)
    print(signal.sigwait([signal.SIGUSR1]), flush=True)
"""
    assert wishes.nudge(tmp_path) is False
    with subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path)], env={"PYTHONPATH": PROGRAM}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        wishes.make(tmp_path, {NAME: "ifca"}, 60)
        assert process.stdout.readline() == f"{int(signal.SIGUSR1)}\n"
    assert process.returncode == 0


def test_what_the_file_says_is_by_the_clock_that_nobody_sets(tmp_path: Path) -> None:
    before = time.monotonic()
    wishes.make(tmp_path, {NAME: "ifca"}, 60)
    content: dict[str, Any] = json.loads((tmp_path / wishes.FILE).read_text())
    assert 0 <= content[NAME]["until"] - 60 - before < 5
    assert [each.name for each in tmp_path.iterdir()] == [wishes.FILE]
