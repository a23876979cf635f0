"""HTTP over verified TLS, within a deadline that nothing can stretch.

A server that accepts and says nothing, one that is half-way through a handshake, one that drips a byte a second: none of
them holds a check up longer than it may take. The standard library's time-outs count from byte to byte, so sockets do not
block here, and each wait is for what is left of the whole.
"""

from __future__ import annotations

import http.client
import io
import json
import queue
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import UnreachableError

T = TypeVar("T")

# Nothing that is asked here has a long answer.
LARGEST = 256 * 1024
_BLOCK = 16 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Args:
        status: HTTP status.
        body: what it says.
    """

    status: int
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def part(self, *keys: str) -> dict[str, Any]:
        """Return the object within objects that these keys lead to; an empty one where there is none."""
        content: Any = self.json
        for key in keys:
            content = content.get(key) if isinstance(content, dict) else None
        return content if isinstance(content, dict) else {}

    @property
    def errors(self) -> str:
        """What it says went wrong, as the cluster says it, on one line."""
        errors = self.json.get("errors")
        return plain("; ".join(str(each) for each in errors)) if isinstance(errors, list) else ""


def trust(ca_file: str) -> ssl.SSLContext:
    """Return what to trust: one authority, or what the system trusts where `ca_file` is empty.

    Args:
        ca_file: PEM file.

    Raises:
        OSError: it cannot be read.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def plain(text: str) -> str:
    """Return what others said as one line that neither a terminal nor a log takes for more than text."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


class Connection:
    """A TLS connection to one address, verified for one name. It carries one request.

    Args:
        address: IP address, or a name that is resolved.
        port: TCP port.
        name: that the certificate must be valid for.
        context: what to trust.
        timeout: s, for all that is done with it.

    Raises:
        UnreachableError: no connection (`connect`), or no verified TLS (`tls`).
    """

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._name = name
        try:
            plain = _connected(address, port, self._deadline)
        except (OSError, ValueError, OverflowError) as error:
            raise UnreachableError("connect", _words(error)) from None
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            plain.close()
            raise UnreachableError("tls", _words(error)) from None
        try:
            self._until(self._socket.do_handshake)
        except (OSError, ValueError) as error:
            self.close()
            raise UnreachableError("tls", _words(error)) from None

    def close(self) -> None:
        """Close it, without a farewell: the other side may be gone."""
        with suppress(OSError):
            self._socket.close()

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Send the one request, and return the answer.

        Args:
            method: HTTP method.
            path: quoted, with a slash at the beginning.
            headers: further ones.
            body: what is sent.

        Raises:
            UnreachableError: no answer in time (`answer`); the request may have been carried out.
        """
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._name}",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        if any("\r" in line or "\n" in line for line in lines):
            raise UnreachableError("answer", "a line break in a token or name")
        try:
            self._send("\r\n".join([*lines, "", ""]).encode() + body)
            return self._receive()
        except http.client.HTTPException as error:
            raise UnreachableError("answer", f"no HTTP ({type(error).__name__})") from None
        except (OSError, ValueError) as error:
            raise UnreachableError("answer", _words(error)) from None
        finally:
            self.close()

    def _send(self, content: bytes) -> None:
        left = memoryview(content)

        def send() -> int:
            return self._socket.send(left)

        while left:
            left = left[self._until(send) :]

    def _receive(self) -> Reply:
        content = bytearray()
        while not _is_complete(content) and (block := self._until(self._block)):
            content += block
            if len(content) > LARGEST:
                raise ValueError(f"an answer of more than {LARGEST // 1024} kB")
        if b"\r\n\r\n" not in content:
            raise ValueError("an answer that is cut off" if content else "closed without an answer")
        answer = http.client.HTTPResponse(_Received(bytes(content)))  # type: ignore[arg-type]  # what it needs of a socket
        answer.begin()
        return Reply(answer.status, answer.read())

    def _block(self) -> bytes:
        try:
            return self._socket.recv(_BLOCK)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # an answer that is cut off so is seen by its length

    def _until(self, step: Callable[[], T]) -> T:
        """Repeat a step until it neither wants to read nor to write any more."""
        while True:
            if time.monotonic() > self._deadline:  # nor does a server that never lets us wait
                raise TimeoutError
            try:
                return step()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, what: int) -> None:
        left = self._deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._socket, what)
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError


def _connected(address: str, port: int, deadline: float) -> socket.socket:
    """Return a connection to the first of the addresses that takes one."""
    trouble: Exception = TimeoutError()
    for family, kind, protocol, _, where in _resolved(address, port, deadline - time.monotonic()):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(left)
            plain.connect(where)
        except OSError as error:
            plain.close()
            trouble = error
        else:
            return plain
    raise trouble


def _resolved(address: str, port: int, seconds: float) -> Sequence[tuple[Any, ...]]:
    """Return what `getaddrinfo` does; it knows no time-out of its own, so names are left to a thread."""
    with suppress(socket.gaierror):
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: queue.SimpleQueue[Sequence[tuple[Any, ...]] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            found.put(error)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        result = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


def _is_complete(content: bytes | bytearray) -> bool:
    """Whether an answer is all there, by its own word: not every server closes the connection then."""
    head, end, body = content.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head + b"\r\n")
    if length:
        return len(body) >= int(length[1])
    return bool(_CHUNKED.search(head + b"\r\n")) and (b"\r\n" + body).endswith(b"\r\n0\r\n\r\n")


class _Received:
    """What was received, as http.client wants it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self._content)


def _words(error: BaseException) -> str:
    """Return what went wrong in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
