"""Runs, on sites that answer, that do not, and on a machine where something is wrong."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import journal, loop, metrics, names, probe, wishes
from endpoint_failover.cycle import STEADY, Fence, Send, Tell
from endpoint_failover.errors import SettingsError
from endpoint_failover.loop import Run
from endpoint_failover.model import Consequence, Kind, Place
from endpoint_failover.settings import Settings
from endpoint_failover.state import FILE, State

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, DnsServer, TcpServer, saying, within
from tests.unit.endpoint_failover.sites import HOST_SECRET, NAME, SITES, Sites, name_of

WRITTEN = {"data": {"created_time": "2026-11-23T18:00:47.25Z", "version": 7}}
VIEW = "operations/data/failover/views/iisas"


@dataclass
class World:
    """Sites whose cluster takes views, two DNS servers, a DynDNS server, and the log."""

    sites: Sites
    dns: list[DnsServer]
    dyndns: TcpServer
    log: socket.socket
    answer: bytes = servers.http(200, "good 127.0.0.13")

    @property
    def settings(self) -> Settings:
        return self.sites.settings

    def logged(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self.log.recv(65536).decode())
            except BlockingIOError:
                return lines

    def heartbeats(self) -> int:
        return len(self.sites.asked(VIEW))


@pytest.fixture
def world(
    sites: Sites, tmp_path: Path, authority: Authority, certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    sites.answers[VIEW] = (200, WRITTEN)
    for other in ("infn", "ifca"):
        view = {"names": {NAME: dict.fromkeys(SITES, "up")}}
        sites.answers[f"operations/data/failover/views/{other}"] = (
            200,
            {"data": {"data": view, "metadata": {"version": 7}}},
        )
    with ExitStack() as stack:
        dns = [stack.enter_context(DnsServer(saying("127.0.0.12"))) for _ in range(2)]
        behave = servers.answering(certified, lambda _: made.answer)
        dyndns = stack.enter_context(TcpServer(behave))
        log = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        log.bind(str(tmp_path / "log"))
        log.setblocking(False)
        monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "log"))
        made = World(sites, dns, dyndns, log)
        name = name_of(
            tmp_path,
            port=sites.settings.names[0].port,
            dns_ports=tuple(each.port for each in dns),
            dyndns_port=dyndns.port,
            dyndns_ca=authority.ca_file,
        )
        sites.settings = replace(
            sites.settings, names=(name,), fence_file=str(tmp_path / "fence"), textfile=str(tmp_path / "failover.prom")
        )
        yield made


def test_a_check_looks_at_everything_and_remembers_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(world.settings)
    for _ in range(3):
        wait = run.check()

    memory, answers = State(world.settings.state_dir).load()
    assert {site: score.serving for site, score in memory.scores[NAME].items()} == dict.fromkeys(SITES, True)
    assert memory.places[NAME] == Place("infn", ("infn", "infn"))
    assert [answer.server for answer in answers[NAME]] == ["ns1", "ns2"]
    assert memory.cluster_offset is not None
    assert wait == world.settings.rules.interval
    assert 'site="infn"} 1' in Path(world.settings.textfile).read_text()
    said, complaints = capsys.readouterr()  # cron mails what is said
    assert {line.partition(" at ")[0] for line in said.splitlines()} <= {"The checker"}  # the others' have never written
    assert complaints == ""
    assert world.dyndns.requests == []


def test_a_check_in_which_everything_hangs_takes_no_longer_than_its_time_outs(world: World) -> None:
    for server in world.sites.servers.values():
        server.behave = servers.silent
    for each in world.dns:
        each.answer = servers.mute
    run, rules = Run(world.settings), world.settings.rules
    with within(len(SITES) * rules.timeout + rules.timeout + 1.5):
        run.check()  # with the first attempt to log in
    with within(rules.timeout + 1.0):
        run.check()
    assert {each.kind for each in run.checker.memory.outcomes[NAME].values()} == {Kind.LOCAL}


def test_a_surprise_in_one_probe_ends_neither_the_run_nor_the_other_probes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(address: str, *rest: Any) -> probe.Probed:
        if address == SITES["ifca"]:
            raise RuntimeError("never seen before")
        return probe.probe(address, *rest)

    monkeypatch.setattr(loop, "probe", broken)
    monkeypatch.setattr(names, "ask", lambda *_: 1 / 0)
    run = Run(world.settings)
    run.check()
    found = run.checker.memory.outcomes[NAME]
    assert (found["infn"].kind, found["ifca"].kind) == (Kind.OK, Kind.LOCAL)
    assert found["ifca"].why == "RuntimeError: never seen before"
    assert run.checker.memory.places[NAME].silent == ("ns1", "ns2")


def test_a_checker_that_nobody_knows_logs_in_again_and_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.sites.answers[VIEW] = (403, {"errors": ["permission denied"]})
    world.sites.answers["auth/approle/login"] = (400, {"errors": ["invalid secret id"]})
    run = Run(world.settings)
    for _ in range(5):
        run.check()

    said = capsys.readouterr().out
    assert "invalid secret id" in said and "does not know this checker" in said
    assert {each.kind for each in run.checker.memory.outcomes[NAME].values()} == {Kind.FORWARDED}
    assert len(world.sites.asked("login")) == 1
    assert world.dyndns.requests == []


# --- from outside


def test_a_run_ends_when_it_is_asked_to_and_saves(world: World) -> None:
    run = Run(world.settings)
    threading.Timer(0.5, run.stop).start()
    with within(3.0):
        run.go()
    assert State(world.settings.state_dir).load()[0] == run.checker.memory


def test_a_run_ends_by_itself_where_no_other_comes(world: World) -> None:
    with within(3.0):
        Run(replace(world.settings, rules=replace(world.settings.rules, run_for=0.5))).go()


def test_a_nudge_is_heeded_at_once_and_asks_for_holds(world: World) -> None:
    run = Run(world.settings)
    for _ in range(4):
        run.check()
    asked = len(world.sites.asked("metadata/holds"))
    run.settings = run.checker.settings = replace(world.settings, rules=replace(world.settings.rules, interval=30.0))
    going = threading.Thread(target=run.go)
    going.start()
    servers.eventually(lambda: world.heartbeats() > 12)
    run.nudge()
    try:
        servers.eventually(lambda: len(world.sites.asked("metadata/holds")) > asked, 3.0)
    finally:
        run.stop()
        going.join(5)
    assert not going.is_alive()


def test_it_can_be_rung_while_it_rings(world: World) -> None:
    """The handler of a signal may find the run anywhere: also in the middle of being woken."""
    run = Run(replace(world.settings, rules=replace(world.settings.rules, run_for=0.5)))
    for _ in range(20_000):
        run.nudge()
    with within(3.0):
        run.go()


def test_a_wish_is_heeded_and_forgotten_once_it_is_granted(world: World) -> None:
    run = Run(world.settings)
    wishes.make(world.settings.state_dir, {NAME: "ifca"}, 60)
    run.check()
    assert (run.checker.wishes, wishes.read(world.settings.state_dir)) == ({NAME: "ifca"}, {NAME: "ifca"})
    for each in world.dns:
        each.answer = saying("127.0.0.13")
    run.check()
    assert wishes.read(world.settings.state_dir) == {}


# --- effects


def test_an_update_is_sent_and_logged_without_the_secret(world: World) -> None:
    reply = Run(world.settings)._do(Send(NAME, "ifca"))
    assert reply.consequence is Consequence.SENT
    assert world.dyndns.requests[0].path.endswith("myip=127.0.0.13")
    (line,) = world.logged()
    assert f'event=update name={NAME} to=ifca answer="good 127.0.0.13"' in line
    assert HOST_SECRET not in line


def test_a_fence_is_a_file_that_root_looks_for(world: World, tmp_path: Path) -> None:
    Run(world.settings)._do(Fence("full"))
    assert (tmp_path / "fence").stat().st_mode & 0o777 == 0o600


def test_a_fence_that_cannot_be_asked_for_is_told(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(replace(world.settings, fence_file=str(tmp_path / "gone" / "fence")))._do(Fence("full"))
    assert "cannot be stopped" in capsys.readouterr().out


def test_what_is_told_is_one_line_in_the_log_whatever_is_in_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(world.settings)
    run._do(Tell("moved", 'to "ifca"\nevent=alarm', {"name": NAME, "why": "a b", "to": "ifca", "empty": ""}))
    (line,) = world.logged()
    assert line.endswith(f"""event=moved name={NAME} why="a b" to=ifca empty="" text="to 'ifca' event=alarm\"""")
    assert capsys.readouterr().out == 'to "ifca"\nevent=alarm\n'


def test_nobody_who_reads_what_is_said_is_needed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    Run(world.settings)._do(Tell("moved", "x"))
    assert len(world.logged()) == 1


# --- a machine where something is wrong


def test_a_run_goes_on_without_a_disk_and_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(world.settings)
    with servers.full_disk():
        for _ in range(5):
            run.check()
    memory = run.checker.memory
    assert all(score.serving for score in memory.scores[NAME].values())
    said = capsys.readouterr().out.splitlines()
    for what in ("memory", "metrics"):
        assert sum(line.startswith(f"The {what} ") and "cannot be written (File too large)" in line for line in said) == 1
    assert sorted(each.name for each in world.settings.state_dir.iterdir()) == []


def test_a_memory_that_is_none_is_told_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.settings.state_dir / FILE).write_text("no JSON")
    Run(world.settings).go(once=True)
    Run(world.settings).go(once=True)
    assert capsys.readouterr().out.count("begun afresh") == 1


def test_without_an_authority_it_says_what_to_do(world: World) -> None:
    with pytest.raises(SettingsError, match=r"gone\.crt cannot be read .*playbooks/deploy/failover\.yml"):
        Run(replace(world.settings, ca_file="/gone.crt"))


def test_a_clock_that_is_set_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(world.settings)
    run.check()
    for now in (0.0, 4e9, 1.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        run.check()
    memory = run.checker.memory
    assert all(score.serving for score in memory.scores[NAME].values())
    assert memory.alarms.keys() <= {"observer infn", "observer ifca"}


def test_a_dry_run_sends_nothing_and_remembers_nothing(world: World) -> None:
    for each in world.dns:
        each.answer = saying()
    Run(world.settings, dry_run=True).go(once=True)
    assert not (world.settings.state_dir / FILE).exists()
    assert not Path(world.settings.textfile).exists()
    assert world.dyndns.requests == []


def test_metrics_that_cannot_be_written_are_an_alarm_until_they_can(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "INTERVAL", 0.0)
    file = tmp_path / "textfiles" / "failover.prom"
    run = Run(replace(world.settings, textfile=str(file)))
    for _ in range(2):
        run.check()
    alarm = run.checker.memory.alarms["textfile"].text
    assert f"The metrics {file} cannot be written (No such file or directory): see that" in alarm

    file.parent.mkdir()
    for _ in range(1 + STEADY):
        run.check()
    assert "textfile" not in run.checker.memory.alarms


def test_nothing_grows_from_check_to_check(world: World) -> None:
    run = Run(world.settings)

    def size() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len((world.settings.state_dir / FILE).read_text())

    for _ in range(10):
        run.check()
    time_of_ten = time.monotonic()
    before = size()
    for _ in range(30):
        run.check()
    after = size()
    assert time.monotonic() - time_of_ten < 30
    # Figures in the memory may have a digit more.
    assert (after[0] - before[0] <= 3, after[1] - before[1] < 100) == (True, True), (before, after)


def test_a_memory_of_a_site_that_is_gone_is_left_behind(world: World) -> None:
    run = Run(world.settings)
    for _ in range(3):
        run.check()
    sites = {site: each for site, each in world.settings.sites.items() if site != "ifca"}
    name = replace(world.settings.names[0], candidates=("infn",))
    left = Run(replace(world.settings, sites=sites, names=(name,))).checker.memory
    assert set(left.scores[NAME]) == {"iisas", "infn"}
