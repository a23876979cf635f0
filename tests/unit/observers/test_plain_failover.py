"""The plain design that the checkers are compared with does what its description says, and no more."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import Authority, free_ports

PROGRAM = Path(__file__).resolve().parents[3] / "bench/plain_failover"
NAME = "localhost"
FIRST, SECOND = "127.0.0.1", "127.0.0.2"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_HEAD(self) -> None:
        self.send_response(self.server.health)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.updates.append((self.path, str(self.headers["Authorization"])))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"good")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Service(http.server.ThreadingHTTPServer):
    health = 200

    def __init__(self, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__((address, port), Handler)
        self.updates: list[tuple[str, str]] = []
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Plain:
    """The program, its two sites, and the DynDNS server."""

    def __init__(self, directory: Path, services: dict[str, Service], ca: Path) -> None:
        self.first, self.second, self.dyndns = (services[each] for each in ("first", "second", "dyndns"))
        self._settings = directory / "settings.json"
        secret = directory / "secret"
        secret.write_text("host secret\n")
        settings: dict[str, Any] = {
            "name": NAME,
            "port": self.first.server_address[1],
            "ca": str(ca),
            "candidates": [["infn", FIRST], ["ifca", SECOND]],
            "timeout": 0.5,
            "dyndns": {
                "url": f"https://localhost:{self.dyndns.server_address[1]}/nic/update",
                "address": FIRST,
                "secret_file": str(secret),
            },
            "state": str(directory / "last"),
        }
        self._settings.write_text(json.dumps(settings))

    def run(self) -> list[str]:
        """Run it once; return where it has had the name moved so far."""
        subprocess.run([sys.executable, PROGRAM, self._settings], check=True, timeout=20)
        return [path.rpartition("myip=")[2] for path, _ in self.dyndns.updates]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Plain]:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(NAME))
    port, dyndns_port = free_ports(2)
    places = {"first": (FIRST, port), "second": (SECOND, port), "dyndns": (FIRST, dyndns_port)}
    with ExitStack() as stack:
        services = {each: stack.enter_context(Service(*place, context)) for each, place in places.items()}
        for service in services.values():
            threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            stack.callback(service.shutdown)
        yield Plain(tmp_path, services, authority.ca_file)


def test_the_first_healthy_site_gets_the_name_and_one_update(plain: Plain) -> None:
    assert plain.run() == [FIRST]
    assert plain.run() == [FIRST]
    credentials = plain.dyndns.updates[0][1].removeprefix("Basic ")
    assert base64.b64decode(credentials).decode() == "localhost:host secret"


@pytest.mark.parametrize(("health", "expected"), [(200, FIRST), (429, FIRST), (503, SECOND), (501, SECOND)])
def test_active_and_standby_are_healthy_and_sealed_is_not(plain: Plain, health: int, expected: str) -> None:
    plain.first.health = health
    assert plain.run() == [expected]


def test_one_look_is_enough_for_it_and_back_again(plain: Plain) -> None:
    plain.run()
    plain.first.health = 503
    plain.run()
    plain.first.health = 200
    assert plain.run() == [FIRST, SECOND, FIRST]


def test_when_none_is_healthy_nothing_moves(plain: Plain) -> None:
    plain.run()
    plain.first.health = plain.second.health = 503
    assert plain.run() == [FIRST]


def test_it_believes_that_an_update_arrived(plain: Plain) -> None:
    plain.dyndns.shutdown()
    plain.dyndns.socket.close()
    with socket.socket() as closed:
        assert closed.connect_ex((FIRST, plain.dyndns.server_address[1])) != 0
    plain.run()
    plain.run()
    assert plain.dyndns.updates == []
