"""The command line, and runs as cron starts them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import wishes
from endpoint_failover.__main__ import main
from endpoint_failover.cycle import Memory
from endpoint_failover.model import Answer, Place, Score
from endpoint_failover.settings import Rules, Settings
from endpoint_failover.state import State

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import DnsServer, eventually, saying, within
from tests.unit.endpoint_failover.sites import NAME, SECOND, SITES, Sites, name_of, settings_of

PROGRAM = str(Path(__file__).resolve().parents[3] / "roles/endpoint_failover/files")
# Shorter than anybody would set it, within what fits together.
QUICK = replace(Rules(), interval=0.4, retry=0.2, timeout=0.6, dns_timeout=0.4, shared_interval=1.0)


def write(directory: Path, settings: Settings) -> Path:
    content: dict[str, Any] = {**asdict(settings), "state_dir": str(settings.state_dir)}
    content["check"] = content.pop("rules")
    file = directory / "settings.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def file(tmp_path: Path, authority: servers.Authority) -> Path:
    """Settings of a checker that sees nobody."""
    names = (name_of(tmp_path, port=9), name_of(tmp_path, SECOND, port=9))
    return write(tmp_path, settings_of(tmp_path, *names, ca_file=authority.ca_file))


def well(directory: Path) -> None:
    """Have the memory of a checker that looked just now, and saw both names at infn."""
    now = time.monotonic()
    memory = Memory(
        scores={name: dict.fromkeys(SITES, Score(serving=True, since=now)) for name in (NAME, SECOND)},
        places={name: Place("infn", ("infn",)) for name in (NAME, SECOND)},
        checked_at=now,
    )
    State(directory / "state").save(memory, {name: (Answer("ns1", ("127.0.0.12",)),) for name in (NAME, SECOND)})


def run(file: Path, *arguments: str) -> int:
    return main(["--settings", str(file), *arguments])


# --- wrong use


@pytest.mark.parametrize("arguments", [[], ["fly"], ["status", "--json", "--nagios"], ["move"], ["check", "--twice"]])
def test_wrong_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert (caught.value.code, "usage:" in capsys.readouterr().err) == (2, True)


def test_help_names_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(
        each in said for each in ("check", "status", "move", "nudge", "reach", "validate", "simulate", "docs/failover.md")
    )


@pytest.mark.parametrize("command", ["check", "status", "nudge", "reach", "validate", "move --to infn"])
def test_without_settings_each_command_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(tmp_path / "gone.json", *command.split()) == 1
    said = capsys.readouterr()
    assert said.out == "" and "gone.json cannot be read" in said.err and "Traceback" not in said.err


def test_settings_that_do_not_fit_together_are_told_all_at_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(file.read_text())
    content["check"] |= {"fall": 1, "lease_time": 1.0}
    content["names"][0] |= {"port": 0}
    content["names"][0]["servers"][0] |= {"address": "ns1.test", "port": 70000}
    content["names"][1]["dyndns"]["url"] = "https://dyndns.test:99999/nic/update"
    file.write_text(json.dumps(content))
    assert run(file, "validate") == 1
    said = capsys.readouterr().err
    for each in ("check.fall is 1", "check.lease_time is 1", "port of", "ns1.test", "70000", "99999"):
        assert each in said


def test_settings_that_fit_are_silent(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (run(file, "validate"), *capsys.readouterr()) == (0, "", "")


# --- status


def test_status_for_each_reader(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (run(file, "status", "--nagios"), capsys.readouterr().out[:7]) == (3, "UNKNOWN")
    well(tmp_path)
    assert (run(file, "status", "--nagios"), capsys.readouterr().out[:2]) == (0, "OK")
    assert run(file, "status") == 0
    assert capsys.readouterr().out.startswith("The checker at iisas checked 0 s ago")
    assert run(file, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["names"][NAME]["at"] == "infn"


def test_nagios_is_told_of_settings_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "gone.json", "status", "--nagios") == 3
    assert capsys.readouterr().out.startswith("UNKNOWN: The settings ")


# --- move and nudge


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--to iisas", "iisas is no candidate of"),
        ("--to nowhere", "nowhere is no candidate of"),
        ("--to infn --name other.test", "There is no generic name other.test"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    assert run(file, "move", *arguments.split()) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "state" / wishes.FILE).exists()


def test_a_move_without_a_checker_ends_in_time_and_says_why(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an old memory says of where the name is says nothing of now, even where it says that it is there."""
    well(tmp_path)
    for site in ("ifca", "infn"):
        with within(3.0):
            assert run(file, "move", "--to", site, "--timeout", "0.5") == 1
        said = capsys.readouterr().err
        assert f"Not moved to {site} within 0.5 s" in said and "No check was made meanwhile" in said
        assert wishes.read(tmp_path / "state") == {}


def test_a_nudge_without_a_checker_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "nudge") == 1
    assert "does cron run" in capsys.readouterr().err


def test_reach_tells_of_names_that_are_nowhere(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(file.read_text())
    with DnsServer(saying("127.0.0.12")) as dns:
        for name in content["names"]:
            name["servers"][0]["port"] = dns.port
        content["names"][1]["servers"][0]["port"] = servers.free_port(["127.0.0.1"])
        file.write_text(json.dumps(content))
        assert run(file, "reach") == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{NAME}:9 is at infn (127.0.0.12), which does not answer: connect: connection refused"
    assert second.startswith(f"{SECOND} is nowhere (ns1: ")


# --- simulate


def test_a_simulation_is_told_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", "--duration", "20", "--svg", str(tmp_path / "x.svg"), "--set", "fall=2"]
    assert run(tmp_path / "gone.json", *arguments) == 0
    assert capsys.readouterr().out
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("change", ["fall", "fall=x", "fall=nan", "tall=2", "fall=1", "=", "problems=1", "worst_case=1"])
def test_rules_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    assert run(tmp_path / "gone.json", "simulate", "--duration", "5", "--set", change) == 1
    said = capsys.readouterr().err
    assert change in said or "check.fall" in said


# --- who runs it


def test_root_becomes_the_checkers_user(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the checker could not read what it left behind."""
    became: list[tuple[str, object]] = []
    owner = os.stat_result((0o40700, 1, 1, 1, 4711, 4712, 0, 0, 0, 0))
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: owner if self.name == "state" else stat(self, **how))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for each in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, each, lambda value, each=each: became.append((each, value)))
    run(file, "status")
    assert became == [("setgroups", []), ("setgid", 4712), ("setuid", 4711)]


# --- runs, as cron starts them


@contextmanager
def started(file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "endpoint_failover", "--settings", str(file), "check", *arguments]
    process = subprocess.Popen(
        command, env={"PYTHONPATH": PROGRAM}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


@pytest.fixture
def busy(sites: Sites, tmp_path: Path) -> Iterator[tuple[Sites, Path, list[float]]]:
    """Three sites that take views, settings, and when the views came."""
    beats: list[float] = []

    def note(_: servers.Request) -> dict[str, Any]:
        beats.append(time.monotonic())
        return {"data": {"created_time": "2026-11-23T18:00:47Z", "version": len(beats)}}

    sites.answers["operations/data/failover/views/iisas"] = (200, note)
    with DnsServer(saying("127.0.0.12")) as dns:
        name = name_of(tmp_path, port=sites.settings.names[0].port, dns_ports=(dns.port,))
        sites.settings = replace(sites.settings, names=(name,), rules=QUICK)
        yield sites, write(tmp_path, sites.settings), beats


def memory_of(sites: Sites, wanted: Callable[[Memory], bool]) -> Callable[[], bool]:
    return lambda: wanted(State(sites.settings.state_dir).load()[0])


def test_a_single_check_looks_once_and_ends(busy: tuple[Sites, Path, list[float]]) -> None:
    sites, file, beats = busy
    with started(file, "--once") as once:
        assert once.wait(10) == 0
        assert once.stdout is not None and once.stdout.read() == ""
    assert len(beats) >= len(SITES)
    assert State(sites.settings.state_dir).load()[0].checked_at is not None


def test_runs_follow_each_other_without_a_gap_in_which_nobody_looks(busy: tuple[Sites, Path, list[float]]) -> None:
    sites, file, beats = busy
    up = memory_of(sites, lambda memory: all(each.serving for each in memory.scores.get(NAME, {"x": Score()}).values()))
    with started(file) as first:
        eventually(up, 10.0)
        with started(file) as second:
            assert first.wait(10) == 0
            seen = len(beats)
            eventually(lambda: len(beats) > seen + 6, 10.0)
            gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
            assert max(gaps) < 3.0, gaps  # two interpreters on a busy machine; cron's minute would be 60
            assert up()  # what is known is known to the new run as well
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0
        assert first.stdout is not None and "Traceback" not in first.stdout.read()
    assert len(sites.asked("login")) == 1  # the token too


@contextmanager
def at_ease(sites: Sites, file: Path) -> Iterator[None]:
    """A run in which all is well, and that by itself looks at holds never again."""
    sites.settings = replace(sites.settings, rules=replace(QUICK, shared_interval=1000.0))
    write(file.parent, sites.settings)
    for other in ("infn", "ifca"):
        view = {"data": {"names": {}}, "metadata": {"version": 7}}
        sites.answers[f"operations/data/failover/views/{other}"] = (200, {"data": view})
    with started(file):
        eventually(memory_of(sites, lambda memory: memory.checked_at is not None and not memory.alert), 10.0)
        yield


def test_a_nudge_reaches_the_run_that_is_under_way(busy: tuple[Sites, Path, list[float]]) -> None:
    sites, file, _ = busy
    with at_ease(sites, file):
        asked = len(sites.asked("metadata/holds"))
        assert run(file, "nudge") == 0
        eventually(lambda: len(sites.asked("metadata/holds")) > asked)


def test_how_things_stand_now_is_what_was_seen_after_the_question(
    busy: tuple[Sites, Path, list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    sites, file, _ = busy
    with at_ease(sites, file):
        for _ in range(5):
            asked, began = len(sites.asked("metadata/holds")), time.monotonic()
            assert run(file, "status", "--json", "--now") == 0
            assert json.loads(capsys.readouterr().out)["age"] < time.monotonic() - began
            assert len(sites.asked("metadata/holds")) > asked


def test_how_things_stand_now_without_a_checker_is_what_was_seen_last(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("There is nobody to wait for."))
    assert run(file, "status", "--json", "--now") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["age"]) == (False, None)


def test_how_things_stand_now_is_told_although_the_run_looks_for_long(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endpoint_failover.__main__.LOOKS", 0.2)
    monkeypatch.setattr("endpoint_failover.wishes.nudge", lambda _: True)
    assert run(file, "status", "--json", "--now") == 0
    assert json.loads(capsys.readouterr().out)["age"] is None


def test_a_nudge_that_comes_while_a_run_begins_does_not_end_it(file: Path) -> None:
    """Each minute another begins, and whoever nudges does not know."""
    text = """
import os, signal, sys
from endpoint_failover import loop
from endpoint_failover.__main__ import main
begin, nudge = loop.Run.__init__, loop.Run.nudge
def nudged(self, *given, **named):
    os.kill(os.getpid(), signal.SIGUSR1)
    begin(self, *given, **named)
loop.Run.__init__ = nudged
loop.Run.nudge = lambda self, *given: (print("heeded"), nudge(self, *given))
sys.exit(main(["--settings", sys.argv[1], "check", "--once"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", text, str(file)], env={"PYTHONPATH": PROGRAM}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heeded\n")


def test_a_traceback_is_nobodys_mail(tmp_path: Path, authority: servers.Authority) -> None:
    """A run without a state directory, without sites, without DNS, without a log."""
    settings = settings_of(tmp_path, name_of(tmp_path, port=9), ca_file=authority.ca_file)
    file = write(tmp_path, settings)
    with started(file, "--once") as alone:
        out, err = alone.communicate(timeout=20)
    assert (alone.returncode, "Traceback" in out + err) == (0, False)
    for each in settings.state_dir.iterdir():
        each.unlink()
    settings.state_dir.rmdir()
    with started(file, "--once") as homeless:
        out, err = homeless.communicate(timeout=20)
    assert homeless.returncode == 1
    assert "cannot be opened" in err and "Traceback" not in err
