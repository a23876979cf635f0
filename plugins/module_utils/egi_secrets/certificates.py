"""What X.509 certificates say, read with the standard library alone, since hosts have no other.

Nothing here verifies a signature: trust is what a handshake shows (listeners.py), or what `cryptography` says on the
controller (tls.py).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _BMP_STRING = 0xA0, 0x17, 0x1E  # tags of DER (X.690): [0] EXPLICIT, UTCTime, BMPString
_LONG_FORM = 0x80
_ATTRIBUTES = {  # object identifiers of X.520, as DER has them
    b"\x55\x04\x03": "CN",
    b"\x55\x04\x06": "C",
    b"\x55\x04\x07": "L",
    b"\x55\x04\x08": "ST",
    b"\x55\x04\x0a": "O",
    b"\x55\x04\x0b": "OU",
    b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19": "DC",
}


@dataclass(frozen=True)
class Certificate:
    """A certificate's identity, beginning and end.

    Attributes:
        sha256: of its DER, in hexadecimal.
        serial: its number in hexadecimal, as `openssl x509 -serial` prints it.
        issuer: who signed it, such as `CN=Some CA,O=EGI`; most particular first.
        subject: whose it is, in the same form.
        not_before: when it begins, timezone-aware.
        not_after: when it ends, timezone-aware.
    """

    sha256: str
    serial: str
    issuer: str
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime

    def days_left(self, now: float) -> float:
        """Return the days until it ends, below zero where it has.

        Args:
            now: seconds since the epoch.
        """
        return round((self.not_after.timestamp() - now) / 86_400, 2)

    def told(self, now: float) -> dict[str, object]:
        """Return it as modules do.

        Args:
            now: seconds since the epoch.
        """
        return {
            "sha256": self.sha256,
            "serial": self.serial,
            "issuer": self.issuer,
            "subject": self.subject,
            "not_before": self.not_before.isoformat(),
            "not_before_seconds": self.not_before.timestamp(),
            "not_after": self.not_after.isoformat(),
            "not_after_seconds": self.not_after.timestamp(),
            "days_left": self.days_left(now),
        }


def from_pem(text: str) -> list[bytes]:
    """Return the certificates of a PEM file as DER, in its order; none where it holds none.

    Raises:
        ValueError: what stands between the markers is no base64.
    """
    return [ssl.PEM_cert_to_DER_cert(match[0]) for match in _PEM.finditer(text)]


def fingerprints(text: str) -> list[str]:
    """Return the sha256 of each certificate of a PEM file, in its order; see from_pem."""
    return [fingerprint(der) for der in from_pem(text)]


def fingerprint(der: bytes) -> str:
    """Return the sha256 of a certificate's DER."""
    return hashlib.sha256(der).hexdigest()


def read(der: bytes) -> Certificate:
    """Read a certificate: Certificate → tbsCertificate → serialNumber, issuer, validity, subject (RFC 5280, section 4.1).

    Raises:
        ValueError, IndexError: it is none.
    """
    parts = list(_children(_first(_first(der))))
    if parts[0][0] == _VERSION:
        parts = parts[1:]
    (_, serial), _algorithm, (_, issuer), (_, validity), (_, subject) = parts[:5]
    begins, ends = (_time(tag, text) for tag, text in _children(validity))
    return Certificate(
        sha256=fingerprint(der),
        serial=serial.lstrip(b"\0").hex().upper(),
        issuer=_name(issuer),
        subject=_name(subject),
        not_before=begins,
        not_after=ends,
    )


def first(text: str) -> Certificate:
    """Return the first certificate of a PEM file, with the end of that which ends first: clients go by all of them.

    Raises:
        ValueError, IndexError: it holds none, or what is none.
    """
    found = [read(der) for der in from_pem(text)]
    return replace(found[0], not_after=min(each.not_after for each in found))


def _time(tag: int, text: bytes) -> dt.datetime:
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return dt.datetime.strptime(text.decode("ascii"), form).replace(tzinfo=dt.UTC)


def _name(der: bytes) -> str:
    """Return a distinguished name's attributes as text: RDNSequence → SET → SEQUENCE of type and value."""
    told = []
    for _, relative in _children(der):
        for _, attribute in _children(relative):
            (_, kind), (tag, value) = _children(attribute)
            text = value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", errors="replace")
            told.append(f"{_ATTRIBUTES.get(kind, kind.hex())}={text}")
    return ",".join(reversed(told))


def _first(der: bytes) -> bytes:
    """Return the content of the first element."""
    for _, content in _children(der):
        return content
    raise ValueError("no DER")


def _children(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of a DER sequence's content (X.690, section 8.1)."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & _LONG_FORM:
            octets = length & ~_LONG_FORM
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        yield tag, der[at : at + length]
        at += length
