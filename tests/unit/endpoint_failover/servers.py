"""Real servers on loopback that do what servers do on a bad day: over TLS, over DNS.

A site is an address of its own (127.0.0.x) with one port for all, as generic names have it. What a server does with a
connection is a function; those below are the bad days.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import resource
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.servers import SIGNS

# Longer than anything that is under test may take: whoever waits so long has failed.
LONG = 20.0


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        self.directory = directory / name.replace(" ", "-")
        self.directory.mkdir()
        self.ca_file = str(self.directory / "ca.crt")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key, datetime.timedelta(days=1))
        signed = (
            own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        Path(self.ca_file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, left: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + left)
        )

    def context(self, *names: str, left: datetime.timedelta = datetime.timedelta(days=1)) -> ssl.SSLContext:
        """Return what a server needs to be called by these names; `left`: of the certificate's life."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(subject, key, left)
            .add_extension(alternatives, critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self.directory / f"{names[0]}-{certificate.serial_number}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(file)
        return made


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Request:
    """What a client asked.

    Args:
        method: of HTTP.
        path: with the query.
        headers: names in lower case.
        body: as sent.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[["TcpServer", socket.socket], None]
Handler = Callable[[Request], bytes]


@dataclass
class TcpServer:
    """A TCP server that does with each connection what `behave` says, in a thread of its own.

    Args:
        behave: what it does; it may be changed while it runs.
        address: of loopback.
        port: 0: one that is free.
    """

    behave: Behaviour
    address: str = "127.0.0.1"
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket = field(init=False, repr=False)
    _open: list[socket.socket] = field(default_factory=list, repr=False)

    def __enter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self.address, self.port))
        self._socket.listen(64)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the accept
        self._socket.close()
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as Go's servers do
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.behave(self, connection)
        self._open.remove(connection)


@contextmanager
def frozen(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Listen and accept nothing, as the kernel does for a process that is stopped (SIGSTOP); yield the port."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(8)
        yield listening.getsockname()[1]


# --- what a server does with a connection


def answering(context: ssl.SSLContext, handler: Handler) -> Behaviour:
    """Serve HTTPS: one request a connection, as it is asked to."""

    def behave(server: TcpServer, connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            request = receive(secure)
            server.requests.append(request)
            secure.sendall(handler(request))
            with suppress(OSError):
                secure.unwrap()

    return behave


def silent(server: TcpServer, _: socket.socket) -> None:
    """Accept, and say nothing."""
    server.stopped.wait(LONG)


def resetting(_: TcpServer, connection: socket.socket) -> None:
    """Reset the connection once something was sent."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


def closing(_: TcpServer, connection: socket.socket) -> None:
    """Close in the middle of the handshake."""
    connection.recv(100)
    connection.close()


def babbling(_: TcpServer, connection: socket.socket) -> None:
    """Speak plain HTTP where TLS is expected."""
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def half_open(context: ssl.SSLContext, seconds: float = 0.0) -> Behaviour:
    """Send the first half of the handshake, a byte each so many seconds where `seconds` are given, and no more."""

    def behave(server: TcpServer, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(incoming, outgoing, server_side=True)
        while not outgoing.pending:
            incoming.write(connection.recv(4096))
            with suppress(ssl.SSLWantReadError):
                secure.do_handshake()
        flight = outgoing.read()
        for byte in flight[: len(flight) // 2]:
            connection.send(bytes([byte]))
            if seconds and server.stopped.wait(seconds):
                return
        server.stopped.wait(LONG)

    return behave


def after_request(context: ssl.SSLContext, then: Callable[[TcpServer, ssl.SSLSocket], None]) -> Behaviour:
    """Take the request as it should, and then misbehave."""

    def behave(server: TcpServer, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            server.requests.append(receive(secure))
            then(server, secure)

    return behave


def never_answering(server: TcpServer, _: ssl.SSLSocket) -> None:
    server.stopped.wait(LONG)


def dripping(text: bytes, seconds: float) -> Callable[[TcpServer, ssl.SSLSocket], None]:
    """Send an answer a byte each so many seconds."""

    def then(server: TcpServer, secure: ssl.SSLSocket) -> None:
        for byte in text:
            secure.send(bytes([byte]))
            if server.stopped.wait(seconds):
                return

    return then


def endless(server: TcpServer, secure: ssl.SSLSocket) -> None:
    """Send without end."""
    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while not server.stopped.is_set():
        secure.sendall(b"x" * 65536)


def trickling(server: TcpServer, secure: ssl.SSLSocket) -> None:
    """Send without end a byte at a time, and so fast that a reader never has to wait."""
    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while not server.stopped.is_set():
        secure.send(b"x")


def lingering(text: bytes) -> Callable[[TcpServer, ssl.SSLSocket], None]:
    """Answer, and keep the connection open though asked to close it."""

    def then(server: TcpServer, secure: ssl.SSLSocket) -> None:
        secure.sendall(text)
        server.stopped.wait(LONG)

    return then


def cutting(text: bytes) -> Callable[[TcpServer, ssl.SSLSocket], None]:
    """Send something, and cut the connection without a farewell."""

    def then(_: TcpServer, secure: ssl.SSLSocket) -> None:
        secure.sendall(text)
        secure.shutdown(socket.SHUT_RDWR)

    return then


# --- HTTP


def receive(secure: ssl.SSLSocket) -> Request:
    """Read one request."""
    content = b""
    while b"\r\n\r\n" not in content:
        block = secure.recv(65536)
        if not block:
            raise ConnectionError("no request")
        content += block
    head, _, body = content.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += secure.recv(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


def http(status: int, content: Any = "", **headers: str) -> bytes:
    """Return an answer: JSON, or a text as it is."""
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    lines = [f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items()]
    return f"HTTP/1.1 {status} Whatever\r\n{''.join(lines)}Content-Length: {len(body)}\r\n\r\n".encode() + body


# --- DNS

Answerer = Callable[[dns.message.Message], dns.message.Message | bytes | None]


@dataclass
class DnsServer:
    """A DNS server, by UDP and TCP on one port.

    Args:
        answer: to a question; None: none at all. It may be changed while it runs.
        by_tcp: the same for TCP, where that differs.
    """

    answer: Answerer
    by_tcp: Answerer | None = None
    address: str = "127.0.0.1"
    port: int = 0
    questions: list[tuple[str, dns.message.Message]] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        while not self._sockets:
            udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
            udp.bind((self.address, self.port))
            try:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tcp.bind((self.address, udp.getsockname()[1]))
            except OSError:  # somebody else's TCP port
                udp.close()
                tcp.close()
                continue
            tcp.listen(8)
            self._sockets = [udp, tcp]
        self.port = udp.getsockname()[1]
        threading.Thread(target=self._serve, args=(udp, tcp), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for each in self._sockets:
            each.close()

    def _serve(self, udp: socket.socket, tcp: socket.socket) -> None:
        kept = []
        with selectors.DefaultSelector() as waiting:
            waiting.register(udp, selectors.EVENT_READ)
            waiting.register(tcp, selectors.EVENT_READ)
            while not self.ended.is_set():
                for key, _ in waiting.select(0.02):
                    with suppress(OSError):
                        if key.fileobj is udp:
                            wire, sender = udp.recvfrom(65535)
                            if (said := self._said("udp", wire)) is not None:
                                udp.sendto(said, sender)
                        else:
                            connection, _ = tcp.accept()
                            kept.append(connection)
                            length = int.from_bytes(connection.recv(2), "big")
                            if (said := self._said("tcp", connection.recv(length))) is not None:
                                connection.sendall(len(said).to_bytes(2, "big") + said)

    def _said(self, how: str, wire: bytes) -> bytes | None:
        question = dns.message.from_wire(wire)
        self.questions.append((how, question))
        said = (self.by_tcp or self.answer)(question) if how == "tcp" else self.answer(question)
        return said.to_wire() if isinstance(said, dns.message.Message) else said


def saying(*addresses: str, ttl: int = 60) -> Answerer:
    """Answer with these addresses, with authority."""

    def answer(question: dns.message.Message) -> dns.message.Message:
        said = dns.message.make_response(question)
        said.flags |= dns.flags.AA
        if addresses:
            said.answer.append(dns.rrset.from_text_list(question.question[0].name, ttl, "IN", "A", list(addresses)))
        return said

    return answer


def refusing(code: dns.rcode.Rcode) -> Answerer:
    """Answer with an error."""

    def answer(question: dns.message.Message) -> dns.message.Message:
        said = dns.message.make_response(question)
        said.set_rcode(code)
        return said

    return answer


def truncated(question: dns.message.Message) -> dns.message.Message:
    """Say that the answer does not fit."""
    said = dns.message.make_response(question)
    said.flags |= dns.flags.AA | dns.flags.TC
    return said


def mute(_: dns.message.Message) -> None:
    """Say nothing."""


# --- measuring


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where what is done takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.2f} s, and may take {seconds:g} s"


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.01)


def free_port(addresses: Sequence[str]) -> int:
    """Return a TCP port that is free on all of these addresses."""
    while True:
        sockets = [socket.socket() for _ in addresses]
        try:
            port = 0
            for each, address in zip(sockets, addresses, strict=True):
                each.bind((address, port))
                port = each.getsockname()[1]
        except OSError:
            continue
        else:
            return port
        finally:
            for each in sockets:
                each.close()


@contextmanager
def full_disk() -> Iterator[None]:
    """Have no file of this process grow: what a write to a full disk meets, for root as well."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
