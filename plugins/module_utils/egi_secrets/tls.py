"""Decide whether a node's certificate, key and CA will do, before anything is copied to a host; on the controller alone."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from . import certificates
from .certificates import Certificate

MAX_CHAIN = 8
Extension = TypeVar("Extension", bound=x509.ExtensionType)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)  # those of Go's crypto/tls
_RSA_BITS = 2048
_SECRET = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True)
class Pem:
    """One PEM input: where it comes from, for messages, and its text. `text` is None where it cannot be read."""

    variable: str
    path: str
    text: str | None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.variable} ({self.path})"


@dataclass(frozen=True)
class Authority:
    """A certificate of a CA file.

    Attributes:
        sha256: of its DER, in hexadecimal.
        subject: such as `CN=Some CA,O=EGI`.
        not_before: when it begins, timezone-aware.
    """

    sha256: str
    subject: str
    not_before: dt.datetime


@dataclass(frozen=True)
class Verdict:
    """What was found of a server's TLS files.

    Attributes:
        problems: what is wrong, a sentence each.
        warnings: what will soon be.
        certificate: the server's own; None where it cannot be read.
        trust: what the CA file holds.
        authorities: sha256 of those of `trust` of which each by itself vouches for the certificate.
    """

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    certificate: Certificate | None = None
    trust: tuple[Authority, ...] = ()
    authorities: tuple[str, ...] = ()


class TlsError(Exception):
    """An input cannot be parsed; the message says which, and what to do."""


def judge(*, certificate: Pem, key: Pem, ca: Pem, names: Sequence[str], now: dt.datetime, warn_days: int) -> Verdict:
    """Judge a server's TLS files.

    `names` must all be covered by the certificate; `now` is timezone-aware; a certificate with less than `warn_days` left
    is worth a warning.
    """
    unreadable = tuple(
        f"{pem} cannot be read: {pem.reason}. Put the file there or correct the variable."
        for pem in (certificate, key, ca)
        if pem.text is None
    )
    if unreadable:
        return Verdict(unreadable, ())
    exposed = tuple(
        f"{pem} holds a private key, and hosts have it readable for all: leave the key to {key.variable} alone, and have "
        "another one made where this file was published."
        for pem in (certificate, ca)
        if _SECRET.search(pem.text or "")
    )
    if exposed:
        return Verdict(exposed, ())
    try:
        chain, roots, private = _certificates(certificate), _certificates(ca), _private_key(key)
    except TlsError as error:
        return Verdict((str(error),), ())
    leaf = chain[0]
    vouching = [root for root in roots if _leads_to(chain, root, now)]
    problems = (
        *_key_problems(leaf, private, certificate, key),
        *_chain_problems(leaf, vouching, certificate, ca),
        *_ca_problems(roots, ca),
        *_strict_problems(chain, vouching, certificate, ca),
        *_name_problems(leaf, names, certificate),
        *_validity_problems(leaf, now, certificate),
        *_usage_problems(leaf, certificate),
    )
    return Verdict(
        problems,
        (*_warnings(chain, now, warn_days, certificate), *_odd_key(chain[0], key)),
        certificates.read(leaf.public_bytes(serialization.Encoding.DER)),
        tuple(_authority(root) for root in roots),
        tuple(_authority(root).sha256 for root in vouching),
    )


def _warnings(chain: Sequence[x509.Certificate], now: dt.datetime, warn_days: int, certificate: Pem) -> Iterator[str]:
    """Warn of the certificate of the file that ends first: clients go by all of them."""
    first = min(chain, key=lambda each: each.not_valid_after_utc)
    left = first.not_valid_after_utc - now
    if dt.timedelta(0) <= left < dt.timedelta(days=warn_days):
        which = "" if first == chain[0] else f", the intermediate certificate {first.subject.rfc4514_string()!r},"
        yield f"{certificate}{which} ends in {left.days} days, on {first.not_valid_after_utc:%Y-%m-%d}: renew it."


def _odd_key(leaf: x509.Certificate, key: Pem) -> Iterator[str]:
    """Warn of a key that the server takes and Chrome does not (tried with Chromium 156): no web page, no login there."""
    public = leaf.public_key()
    p521 = isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP521R1)
    if p521 or isinstance(public, ed25519.Ed25519PublicKey):
        kind = "P-521" if p521 else "Ed25519"
        yield f"{key} is of {kind}, which Chrome refuses: have a certificate for a key of P-256, P-384 or RSA."


def _authority(one: x509.Certificate) -> Authority:
    return Authority(one.fingerprint(hashes.SHA256()).hex(), one.subject.rfc4514_string(), one.not_valid_before_utc)


def _certificates(pem: Pem) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates((pem.text or "").encode())
    except ValueError as error:
        msg = f"{pem} holds no PEM certificate: {error}. Give a file that starts with -----BEGIN CERTIFICATE-----."
        raise TlsError(msg) from error


def _private_key(pem: Pem) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key((pem.text or "").encode(), password=None)
    except TypeError as error:
        msg = f"{pem} has a passphrase, which a server cannot be asked for: use ansible-vault to protect the file instead."
        raise TlsError(msg) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        # The parser's own words stay out: they might quote what it could not parse.
        msg = f"{pem} holds no PEM private key: give the unencrypted key, or one encrypted with ansible-vault."
        raise TlsError(msg) from error


def _public(key: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form)  # type: ignore[attr-defined, no-any-return]


def _key_problems(leaf: x509.Certificate, private: PrivateKeyTypes, certificate: Pem, key: Pem) -> Iterator[str]:
    if _public(leaf.public_key()) != _public(private.public_key()):
        yield f"{key} is not the key of {certificate}: give the two files of one request."
    if not _servable(private):
        yield (
            f"{key} is of a kind that the server cannot use: have a certificate for a key of P-256, P-384, P-521, Ed25519, "
            f"or RSA of {_RSA_BITS} bits or more."
        )


def _servable(private: PrivateKeyTypes) -> bool:
    """Tell whether Go's TLS, which servers are built with, takes a key. One that it does not take stops the next start."""
    if isinstance(private, rsa.RSAPrivateKey):
        return private.key_size >= _RSA_BITS
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return isinstance(private.curve, _CURVES)
    return isinstance(private, ed25519.Ed25519PrivateKey)


def _leads_to(chain: Sequence[x509.Certificate], root: x509.Certificate, now: dt.datetime) -> bool:
    """Follow issuers from the leaf up to a certificate of the CA file."""
    if not _valid(root, now):
        return False
    current = chain[0]
    for _ in range(MAX_CHAIN):
        if _issued_by(current, root):
            return True
        above = next((one for one in chain[1:] if one != current and _issued_by(current, one) and _valid(one, now)), None)
        if above is None:
            break
        current = above
    return False


def _chain_problems(
    leaf: x509.Certificate, vouching: Sequence[x509.Certificate], certificate: Pem, ca: Pem
) -> Iterator[str]:
    if not vouching:
        yield (
            f"{certificate} does not lead to {ca}: nobody there issued it, nor its issuer {leaf.issuer.rfc4514_string()!r}. "
            "Append the intermediate certificates to the certificate file."
        )


def _ca_problems(roots: Sequence[x509.Certificate], ca: Pem) -> Iterator[str]:
    """Refuse what is no root, and two CAs that clients cannot tell apart.

    Whoever trusts an intermediate alone is served by some clients, and not by others; and who vouches for what a listener
    serves (listeners.py) is asked of each CA by itself.

    OpenSSL looks an issuer up by its name, and of two takes the one whose key has the identifier that the certificate names
    (RFC 5280, section 4.2.1.1); without identifiers it takes the first, and refuses the other one's certificates.
    """
    for place, one in enumerate(roots):
        if not _issued_by(one, one):
            yield (
                f"{ca} holds {one.subject.rfc4514_string()!r}, which is not self-signed: an intermediate certificate "
                "belongs into the certificate file, behind the server's own. Leave the root alone here."
            )
        if any(_confusable(one, other) for other in roots[:place]):
            yield (
                f"{ca} holds two certificates of {one.subject.rfc4514_string()!r} that clients cannot tell apart: have the "
                "new CA made with another name, or with subject key identifiers."
            )


def _strict_problems(
    chain: Sequence[x509.Certificate], vouching: Sequence[x509.Certificate], certificate: Pem, ca: Pem
) -> Iterator[str]:
    """Refuse what Python 3.13's clients do: they hold certificates to RFC 5280, section 4.2.1 (VERIFY_X509_STRICT)."""
    without = [one for one in chain if not _issued_by(one, one) and not _issuers_key_id(one)]
    if without:
        yield (
            f"{certificate} has no authority key identifier in {_subjects(without)}, and clients with Python 3.13 refuse "
            "it: have it issued with one."
        )
    above = [one for one in chain[1:] if not _issued_by(one, one)]
    for source, ones in ((certificate, above), (ca, _all_lax(vouching))):
        if lax := [one for one in ones if _laxities(one)]:
            what = ", ".join(dict.fromkeys(each for one in lax for each in _laxities(one)))
            yield (
                f"{source} has no {what} in {_subjects(lax)}, and clients with Python 3.13 refuse whom it vouches for: have "
                "certificates of a CA that has."
            )


def _all_lax(vouching: Sequence[x509.Certificate]) -> Sequence[x509.Certificate]:
    """Return those who vouch, unless clients accept one of them."""
    return vouching if all(_laxities(one) for one in vouching) else ()


def _laxities(one: x509.Certificate) -> list[str]:
    """Return what a CA's certificate lacks."""
    usage, constraints = _extension(one, x509.KeyUsage), _extension(one, x509.BasicConstraints)
    has = {
        "subject key identifier": bool(_key_id(one)),
        "key usage keyCertSign": usage is not None and usage.value.key_cert_sign,
        "critical basic constraints CA:TRUE": constraints is not None and constraints.critical and constraints.value.ca,
    }
    return [what for what, there in has.items() if not there]


def _subjects(ones: Sequence[x509.Certificate]) -> str:
    return " and ".join(repr(one.subject.rfc4514_string()) for one in ones)


def _issuers_key_id(one: x509.Certificate) -> bytes | None:
    found = _extension(one, x509.AuthorityKeyIdentifier)
    return found.value.key_identifier if found else None


def _extension(one: x509.Certificate, kind: type[Extension]) -> x509.Extension[Extension] | None:
    try:
        return one.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _confusable(one: x509.Certificate, other: x509.Certificate) -> bool:
    same_name, same_key = one.subject == other.subject, _public(one.public_key()) == _public(other.public_key())
    return same_name and not same_key and (not _key_id(one) or _key_id(one) == _key_id(other))


def _key_id(one: x509.Certificate) -> bytes:
    found = _extension(one, x509.SubjectKeyIdentifier)
    return found.value.digest if found else b""


def _issued_by(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _valid(one: x509.Certificate, now: dt.datetime) -> bool:
    return one.not_valid_before_utc <= now <= one.not_valid_after_utc


def _name_problems(leaf: x509.Certificate, names: Sequence[str], certificate: Pem) -> Iterator[str]:
    try:
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        covered = []
    missing = [name for name in names if not any(covers(pattern, name) for pattern in covered)]
    if missing:
        held = ", ".join(covered) or "no DNS name at all"
        yield f"{certificate} does not name {', '.join(missing)}; it names {held}: have it issued with every name."


def covers(pattern: str, name: str) -> bool:
    """Tell whether a certificate's DNS name covers `name` (RFC 6125: a wildcard is the whole first label, and one label)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern == name:
        return True
    head, _, tail = pattern.partition(".")
    _, _, name_tail = name.partition(".")
    return head == "*" and "." in tail and tail == name_tail


def _validity_problems(leaf: x509.Certificate, now: dt.datetime, certificate: Pem) -> Iterator[str]:
    if now < leaf.not_valid_before_utc:
        begins = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        yield f"{certificate} is not valid before {begins}: check the clock of this machine."
    if now > leaf.not_valid_after_utc:
        yield f"{certificate} ended on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it."


def _usage_problems(leaf: x509.Certificate, certificate: Pem) -> Iterator[str]:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        yield f"{certificate} may not be used by a TLS server: have it issued with extended key usage serverAuth."
