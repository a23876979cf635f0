"""Servers of tests, over TLS of an authority of theirs."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.integration.servers import Authority

Server = TypeVar("Server", bound=http.server.HTTPServer)


def context_of(authority: Authority, name: str) -> ssl.SSLContext:
    """Return what a server of that name serves with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name))
    return context


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Have a server serve in a thread of its own."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
