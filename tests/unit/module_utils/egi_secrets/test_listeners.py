from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets import listeners
from ansible.module_utils.egi_secrets.listeners import Listener

from tests.integration.servers import Authority
from tests.tls_services import context_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class FallsSilent:
    """A listener that finishes so many handshakes and answers no further one."""

    def __init__(self, context: ssl.SSLContext, handshakes: int) -> None:
        self._context = context
        self._left = handshakes
        self._held: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._left:
                self._left -= 1
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1)
            else:
                self._held.append(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for connection in self._held:
            connection.close()


@pytest.fixture
def silent(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[FallsSilent]:
    monkeypatch.setattr(listeners, "SECONDS", 0.3)
    server = FallsSilent(context_of(authority, "vault-infn"), handshakes=1)
    yield server
    server.close()


def test_who_falls_silent_is_not_taken_for_one_that_nobody_trusts(silent: FallsSilent, authority: Authority) -> None:
    where = Listener("vault-infn", "127.0.0.1", silent.port, ("vault-infn",))

    seen = listeners.look(where, authority.ca_file.read_text())

    assert seen.certificate is None
    assert "timed out" in seen.errors[""]
    assert "does not answer" in " ".join(listeners.problems(seen))
