from __future__ import annotations

import os
import socket
import syslog
from pathlib import Path

import pytest
from endpoint_failover import journal

from tests.unit.endpoint_failover.servers import within


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "log"))
    listening.settimeout(2.0)
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "log"))
    return listening


def test_a_line_has_what_the_log_sorts_by(log: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write(syslog.LOG_WARNING, "event=alarm text=x")

    line = log.recv(1000).decode()
    assert line.startswith(f"<{syslog.LOG_DAEMON | syslog.LOG_WARNING}>")
    assert line.endswith(f" endpoint-failover[{os.getpid()}]: event=alarm text=x")
    assert capsys.readouterr() == ("", "")


def test_a_log_that_nobody_reads_holds_nobody_up(log: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    with within(2.0):
        for number in range(3000):
            journal.write(syslog.LOG_NOTICE, f"event=x number={number}")
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "event=x number=2999"
    assert log.recv(1000).decode().endswith("number=0")


@pytest.mark.parametrize("what", ["gone", "closed", "a stream"])
def test_without_a_log_it_is_said_where_cron_mails_it(
    log: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    log.close()
    if what == "gone":
        (tmp_path / "log").unlink()
    elif what == "a stream":
        (tmp_path / "log").unlink()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        other.bind(str(tmp_path / "log"))
    journal.write(syslog.LOG_NOTICE, "event=x")
    assert capsys.readouterr() == ("", "event=x\n")


def test_a_line_that_is_too_long_is_not_lost(log: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    journal.write(syslog.LOG_NOTICE, "x" * 10_000_000)
    assert len(capsys.readouterr().err) > 10_000_000
    log.close()
