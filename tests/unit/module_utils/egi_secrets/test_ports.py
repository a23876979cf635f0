"""Who listens on a port: real sockets of this process and of others, and a procfs of our own for what has no socket here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.ports import listening, taken

LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"


@pytest.fixture
def strangers() -> Iterator[tuple[int, int]]:
    """Another process that listens: its pid and port."""
    command = [sys.executable, "-c", LISTEN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_another_process_is_named(strangers: tuple[int, int]) -> None:
    pid, port = strangers
    held = listening("[::]", [port])
    holder = held[str(port)]
    assert holder is not None
    assert holder["pid"] == pid
    assert str(holder["command"]).startswith("python")
    assert taken(held, {"pid": os.getpid()}) == {str(port): f"{holder['command']} (pid {pid})"}
    assert taken(held, None) == {str(port): f"{holder['command']} (pid {pid})"}
    assert taken(held, {"pid": pid}) == {}


def test_a_port_of_ones_own_and_one_that_nobody_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        holder = listening("127.0.0.1", [port])[str(port)]
        assert holder is not None
        assert holder["pid"] == os.getpid()
    assert listening("127.0.0.1", [port]) == {str(port): None}


def test_what_is_connected_and_does_not_listen_is_in_nobodys_way() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port = client.getsockname()[1]
        assert listening("[::]", [port]) == {str(port): None}


@pytest.mark.parametrize(
    ("bound", "wanted", "clash"),
    [
        ("127.0.0.1", "[::]", True),
        ("127.0.0.1", "0.0.0.0", True),  # noqa: S104 - nothing is bound
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "[::1]", False),
        ("127.0.0.1", "vault.example", True),
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104 - on loopback of a test
        ("::", "127.0.0.1", True),
        ("::1", "0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("::1", "[::]", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "::1", False),
    ],
)
def test_an_address_is_in_the_way_of_another_as_the_kernel_has_it(bound: str, wanted: str, clash: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in bound else socket.AF_INET) as server:
        if bound.startswith("::ffff:"):
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            server.bind((bound, 0))
        except OSError:
            pytest.skip(f"this machine has no {bound}")
        server.listen()
        port = server.getsockname()[1]
        assert (listening(wanted, [port])[str(port)] is not None) is clash


def test_a_socket_that_is_nobodys_to_see(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = "   0: 0100007F:2009 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0"
    (tmp_path / "net/tcp").write_text(f"  sl  local_address rem_address   st\n{line}\n")
    held = listening("[::]", [8201], tmp_path)
    assert held == {"8201": {"pid": None, "command": None}}
    assert taken(held, {"pid": 7}) == {}, "it may be the server's own"
