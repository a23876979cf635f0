"""Users' programs at work, against a real TLS server: what they ask for, and how they tell how it went."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from bench.workload import client
from bench.workload.client import KEYS, Lane, Told, Workload, keys
from bench.workload.completeness import unread
from bench.workload.history import Request, parse, violations
from tests.integration.servers import Authority
from tests.tls_services import context_of, serving

NAME = "localhost"


class Secrets(http.server.BaseHTTPRequestHandler):
    """Secrets as the program sees them; answers in `server.spoilt` are given first, in place of the true ones."""

    protocol_version = "HTTP/1.1"
    server: Service

    def do_PUT(self) -> None:
        self.server.kept[self.path] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(204)

    def do_GET(self) -> None:
        kept = self.server.kept.get(self.path)
        self._answer(200 if kept else 404, json.dumps({"data": kept}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"") -> None:
        if self.server.spoilt:
            status, body = self.server.spoilt.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.server.closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class Service(http.server.ThreadingHTTPServer):
    closes = False

    def __init__(self, context: ssl.SSLContext, ca: str) -> None:
        super().__init__(("127.0.0.1", 0), Secrets)
        self.ca = ca
        self.kept: dict[str, object] = {}
        self.spoilt: list[tuple[int, bytes]] = []
        self.socket = context.wrap_socket(self.socket, server_side=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(authority: Authority) -> Iterator[Service]:
    with serving(Service(context_of(authority, NAME), authority.ca_file.read_text())) as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.workload.client.RETRY_AFTER", 0.05)


def workload(service: Service, *labels: str, **settings: Any) -> Workload:
    lanes = [
        {"label": label, "host": NAME, "port": service.server_address[1], "address": "127.0.0.1", **settings}
        for label in labels
    ]
    return Workload(lanes=lanes, ca=service.ca, path="mine", token="the user's", rate=50.0, timeout=1.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture
def lane(service: Service) -> Lane:
    return workload(service, "one").lanes[0]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[Request]]:
    def read() -> list[Request]:
        return parse(capsys.readouterr().out.splitlines())

    return read


def test_a_second_attempt_writes_a_value_of_its_own(service: Service, lane: Lane, told: Callable[[], list[Request]]) -> None:
    service.spoilt = [(404, b""), (500, b"")]
    lane.work(0)
    first, second = (each for each in told() if each.kind == "write")
    assert (first.outcome, second.outcome, second.retry) == ("unknown", "done", True)
    assert first.value != second.value


@pytest.mark.parametrize("lanes", range(1, 15))
def test_every_key_is_read_by_every_patient_lane_and_its_own_right_after_writing(
    lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def answer(lane: Lane, kind: str, key: str, value: str | None, **_: object) -> Told:
        asked.append((kind, key))
        return Told(lane.label, kind, key, value, 0.0, outcome="done")

    monkeypatch.setattr(Lane, "_request", answer)
    places = [{"label": f"lane{number}", "host": NAME, "port": 1} for number in range(lanes)]
    common = Workload(lanes=places, ca="", path="", token="", rate=1.0, timeout=1.0)

    for turn in range(2 * len(common.keys)):
        common.lanes[0].work(turn)

    everything = set(keys(each.label for each in common.lanes))
    assert len(everything) == lanes * KEYS
    assert {key for kind, key in asked if kind == "read"} == everything
    right_after = {key for (kind, key), other in pairwise(asked) if kind == "write" and other == ("read", key)}
    assert right_after >= set(keys(["lane0"]))


class Register:
    """What holds the values, without a network: each request takes effect at once, and the last writes can be taken back.

    Args:
        outage: after so many acknowledged writes one gets no answer; meanwhile the last ones are taken back.
        lost: how many.
    """

    def __init__(self, outage: int = -1, lost: int = 0) -> None:
        self.history: list[Request] = []
        self._kept: dict[str, str | None] = {}
        self._before: list[tuple[str, str | None]] = []
        self._outage = outage
        self._lost = lost

    def answer(self, lane: Lane, kind: str, key: str, value: str | None, **how: Any) -> Told:
        now, outcome = float(len(self.history)), "done"
        if kind == "read":
            value = self._kept.get(key)
        elif len(self._before) == self._outage:
            outcome, self._outage = "unknown", -1
            self.take_back(self._lost)
        else:
            self._before.append((key, self._kept.get(key)))
            self._kept[key] = value
        self.history.append(Request(lane.label, kind, key, value, now, now + 0.5, outcome, **how))
        return Told(lane.label, kind, key, value, now, now + 0.5, outcome)

    def take_back(self, count: int) -> None:
        for _ in range(count):
            key, value = self._before.pop()
            self._kept[key] = value

    def judged(self, monkeypatch: pytest.MonkeyPatch, *patient: bool, turns: int, lost: int = 0, more: int = 0) -> list[str]:
        """Have lanes work so many turns; take writes back; have them work more, and read all; return what is found."""
        ask: Any = lambda lane, *what, **how: self.answer(lane, *what, **how)  # noqa: E731, PLW0108  # bound to its lane
        monkeypatch.setattr(Lane, "_request", ask)
        monkeypatch.setattr("bench.workload.client.RETRY_AFTER", 0)
        monkeypatch.setattr(ssl, "create_default_context", lambda **_: None)  # dear, and nobody connects
        lanes = [{"label": f"{number}", "host": NAME, "port": 1, "patient": each} for number, each in enumerate(patient)]
        common = Workload(lanes=lanes, ca="", path="", token="", rate=1.0, timeout=1.0)
        for turn in range(turns + more):
            if turn == turns:
                self.take_back(lost)
            for lane in common.lanes:
                lane.work(turn)
        for lane in common.lanes:
            if lane.patient:
                lane.read_all(0.0)
        return [each.kind for each in violations(self.history)]


LANES = [(True,), (True, False), (True, True, False, False)]


@pytest.mark.parametrize("patient", LANES)
@pytest.mark.parametrize("more", [1, KEYS - 1, 12])
def test_whatever_is_taken_back_while_they_work_is_found(
    monkeypatch: pytest.MonkeyPatch, patient: tuple[bool, ...], more: int
) -> None:
    for turns in range(10, 10 + KEYS):
        assert Register().judged(monkeypatch, *patient, turns=turns, more=more) == []
        for lost in (1, 2, 3, 5, 9):
            found = Register().judged(monkeypatch, *patient, turns=turns, lost=lost, more=more)
            assert found, f"{lost} after turn {turns}"


@pytest.mark.parametrize("patient", LANES)
def test_so_is_what_was_taken_back_while_a_write_got_no_answer(
    monkeypatch: pytest.MonkeyPatch, patient: tuple[bool, ...]
) -> None:
    for outage in range(10, 10 + KEYS * len(patient)):
        assert Register(outage).judged(monkeypatch, *patient, turns=24) == []
        for lost in (1, 2, 3, 5, 9):
            assert Register(outage, lost).judged(monkeypatch, *patient, turns=24), f"{lost} after write {outage}"


def test_nothing_is_written_over_whose_read_was_not_answered(
    service: Service, lane: Lane, told: Callable[[], list[Request]]
) -> None:
    service.spoilt = [(503, b""), (503, b"")]
    lane.work(0)
    assert [(each.kind, each.outcome, each.retry) for each in told()] == [
        ("read", "refused", False), ("read", "refused", True), ("read", "done", False)]  # fmt: skip


def test_at_the_end_every_key_is_read_by_patient_lanes(service: Service, told: Callable[[], list[Request]]) -> None:
    both = workload(service, "one", "other")
    both.end()
    assert both.run() == []
    history = told()
    assert unread(history, ["one", "other"], keys(["one", "other"])) == []
    assert len(history) == 2 * 2 * KEYS


def test_last_reads_of_a_place_that_is_down_end_at_the_deadline(lane: Lane, told: Callable[[], list[Request]]) -> None:
    lane._port = free_port()
    lane.read_all(time.monotonic())
    assert {(each.key, each.last, each.outcome) for each in told()} == {("one-0", True, "refused")}


def test_after_a_connection_was_closed_a_lane_connects_to_its_node_with_its_timeout(
    service: Service, lane: Lane, told: Callable[[], list[Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[tuple[str, int], float | None]] = []
    connect = socket.create_connection

    def watched(address: tuple[str, int], timeout: float | None = None, *more: Any, **named: Any) -> socket.socket:
        made.append((address, timeout))
        return connect(address, timeout, *more, **named)

    monkeypatch.setattr(socket, "create_connection", watched)
    service.closes = True
    lane.work(0)
    assert [each.outcome for each in told()] == ["done"] * 3
    assert made == [(("127.0.0.1", service.server_address[1]), 1.0)] * 3


def test_a_lane_of_a_node_keeps_its_connection_and_connects_nowhere_by_itself(service: Service, lane: Lane) -> None:
    lane.work(0)
    connection = lane._connection
    lane.work(1)
    assert connection is not None
    assert lane._connection is connection
    connection.close()
    with pytest.raises(http.client.NotConnected):
        connection.request("GET", "/")


@pytest.mark.parametrize("body", [b'{"data": {}}', b'{"data": null}', b"[]", b"<html>", b""])
def test_an_answer_without_a_value_is_a_read_of_what_nobody_wrote(
    service: Service, lane: Lane, told: Callable[[], list[Request]], body: bytes
) -> None:
    service.spoilt = [(404, b""), (204, b""), (200, body)]
    lane.work(0)
    history = told()
    assert [each.outcome for each in history] == ["done"] * 3
    assert [each.kind for each in violations(history)] == ["invented"]


def test_a_lane_that_breaks_down_is_named_and_the_others_go_on(
    service: Service, told: Callable[[], list[Request]], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = workload(service, "one", "other", patient=False)

    def break_down(turn: int) -> None:
        raise KeyError("value")

    monkeypatch.setattr(both.lanes[0], "work", break_down)
    threading.Timer(0.2, both.end).start()
    assert both.run() == ["one"]
    assert len(told()) > 1


def test_the_program_says_by_its_status_that_a_lane_broke_down() -> None:
    task = {"lanes": [{"label": "one", "host": 5, "port": 1}], "ca": "", "path": "", "token": "", "rate": 1, "timeout": 1}
    ended = subprocess.run(
        [sys.executable, client.__file__], input=json.dumps(task) + "\n", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "one broke down: " in ended.stderr
    assert "TypeError" in ended.stderr
