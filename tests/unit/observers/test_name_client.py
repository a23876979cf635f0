"""The user's program, against a real TLS server: what it calls a success, and how it says why it failed."""

from __future__ import annotations

import http.server
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.name_client import Client
from tests.integration.servers import Authority
from tests.tls_services import context_of, serving

NAME = "localhost"
TOKEN = "the user's"


class Secrets(http.server.BaseHTTPRequestHandler):
    """A key-value store as the program sees it; `server.mood` spoils it."""

    protocol_version = "HTTP/1.1"
    server: Service

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["X-Vault-Token"] == TOKEN
        if self.server.mood == "slow":
            time.sleep(1)
        if self.server.mood != "forgetful":
            self.server.kept[self.path] = json.loads(body)
        self._answer(500 if self.server.mood == "broken" else 204)

    def do_GET(self) -> None:
        kept = self.server.kept.get(self.path, {"value": "stale"})
        self._answer(200, json.dumps({"data": kept}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Service(http.server.ThreadingHTTPServer):
    mood = ""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Secrets)
        self.kept: dict[str, object] = {}
        self.socket = context.wrap_socket(self.socket, server_side=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(authority: Authority) -> Iterator[Service]:
    with serving(Service(context_of(authority, NAME))) as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.name_client.RETRY_AFTER", 0.05)


def client(service: Service, ca: Path, *, timeout: float = 3.0) -> Client:
    return Client(
        name=NAME, port=service.server_address[1], ca=ca.read_text(), path="secrets/mine", token=TOKEN, timeout=timeout
    )


def operate(one: Client, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    one.operate(7, time.monotonic())
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_what_was_written_and_read_back_is_a_success(
    service: Service, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    told = operate(client(service, authority.ca_file), capsys)
    assert (told["error"], told["address"], told["retried"]) == ("", "127.0.0.1", 0.0)
    assert list(service.kept) == ["/v1/secrets/mine-7"]


@pytest.mark.parametrize(
    ("mood", "says"),
    [("broken", "write: HTTP 500"), ("forgetful", "read: not what was written"), ("slow", "TimeoutError")],
)
def test_a_failure_says_why_and_is_tried_once_more(
    mood: str, says: str, service: Service, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    service.mood = mood
    told = operate(client(service, authority.ca_file, timeout=0.3), capsys)
    assert told["error"].startswith(says)
    assert told["retry_error"].startswith(says)


def test_a_certificate_of_a_stranger_is_refused(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = operate(client(service, Authority(tmp_path).ca_file), capsys)
    assert told["error"].startswith("SSLCertVerificationError")
    assert service.kept == {}
