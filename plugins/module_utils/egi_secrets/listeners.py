"""What a TLS listener really serves, seen as a client sees it: which certificate, who vouches for it, and whether it works.

Standard library alone: nodes look at their own listeners with it, and the controller at everybody's.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from . import certificates
from .certificates import Certificate

SECONDS = 5.0
SERVING = (200, 429, 472, 473)  # sys/health: active, standby, and standbys of Vault Enterprise
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for


@dataclass(frozen=True)
class Listener:
    """Where it is, and the names under which clients come to it.

    Attributes:
        node: whose it is, for messages.
        address: IP address or name to connect to.
        port: its TCP port.
        names: DNS names that its certificate must carry; the node's own first.
    """

    node: str
    address: str
    port: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


@dataclass(frozen=True)
class Seen:
    """What a listener served.

    Attributes:
        listener: which.
        certificate: its own; None where it did not answer.
        authorities: sha256 of those of the CA file's certificates that vouch for it, whether or not it has ended.
        status: HTTP status of sys/health; None where it was not asked, because nobody vouches for it.
        errors: by name, why a client that trusts the CA file does not accept it; "" for one that could not connect.
    """

    listener: Listener
    certificate: Certificate | None = None
    authorities: tuple[str, ...] = ()
    status: int | None = None
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether its server answers requests, under a certificate of the CA file."""
        return self.status in SERVING

    def told(self) -> dict[str, object]:
        """Return it as modules do."""
        return {
            "node": self.listener.node,
            "port": self.listener.port,
            "certificate": self.certificate.told(time.time()) if self.certificate else None,
            "authorities": list(self.authorities),
            "status": self.status,
            "serves": self.serves,
            "errors": self.errors,
        }


def look(listener: Listener, ca: str) -> Seen:
    """Look at a listener as a client does that trusts a CA file, under each of its names.

    Args:
        listener: which.
        ca: what the CA file holds, PEM.
    """
    roots = _roots(ca)
    try:
        return Seen(
            listener,
            certificates.read(_handshake(listener, _blind())),
            authorities=tuple(certificates.fingerprint(root) for root in roots if _vouches(listener, root)),
            status=_health(listener, roots),
            errors={name: why for name in listener.names if (why := _refusal(listener, ca, name))},
        )
    except (OSError, ValueError, IndexError) as error:
        return Seen(listener, errors={"": _words(error)})


def problems(seen: Seen, wanted: str | None = None) -> list[str]:
    """Say what keeps users from a listener, a sentence each.

    Args:
        seen: what it served.
        wanted: sha256 of the certificate that it should serve; None: any that clients accept.
    """
    where = f"{seen.listener} at {seen.listener.address}"
    if seen.certificate is None:
        return [f"{where} does not answer ({seen.errors.get('', 'no reason given')})."]
    found = [f"{where} is not accepted as {name}: {why}." for name, why in seen.errors.items()]
    if wanted not in (None, seen.certificate.sha256):
        found.append(f"{where} still serves the certificate with the serial number {seen.certificate.serial}.")
    if not seen.serves and not found:
        found.append(f"{where} does not serve: sys/health answers {seen.status or 'nothing'}.")
    return found


def _roots(ca: str) -> list[bytes]:
    try:
        return certificates.from_pem(ca)
    except ValueError:  # then nobody vouches, and each name's error says why
        return []


def _blind() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _trusting(roots: Sequence[bytes]) -> ssl.SSLContext:
    """Trust some CAs whatever the time is: a certificate that ended is no other CA's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    for root in roots:
        context.load_verify_locations(cadata=root)
    return context


def _handshake(listener: Listener, context: ssl.SSLContext, name: str = "") -> bytes:
    with (
        socket.create_connection((listener.address, listener.port), timeout=SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=name or listener.names[0]) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def _vouches(listener: Listener, root: bytes) -> bool:
    """Return whether what is served is of this root. Raises OSError where nobody knows: no answer came."""
    try:
        _handshake(listener, _trusting([root]))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _refusal(listener: Listener, ca: str, name: str) -> str:
    """Return why a client does not accept what is served. Raises OSError where nobody knows: no answer came."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as clients do from Python 3.13 on
        context.load_verify_locations(cadata=ca)
        _handshake(listener, context, name)
    except (ssl.SSLError, ValueError) as error:  # ValueError: the CA file holds no certificate
        return _words(error)
    return ""


def _health(listener: Listener, roots: Sequence[bytes]) -> int | None:
    name = listener.names[0]
    connection = http.client.HTTPConnection(name, listener.port, timeout=SECONDS)
    with suppress(OSError, http.client.HTTPException):
        raw = socket.create_connection((listener.address, listener.port), timeout=SECONDS)
        try:
            connection.sock = _trusting(roots).wrap_socket(raw, server_hostname=name)
            connection.request("GET", "/v1/sys/health")
            return connection.getresponse().status
        finally:
            raw.close()
            connection.close()
    return None


def _words(error: Exception) -> str:
    told = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return str(told).rstrip(".")
