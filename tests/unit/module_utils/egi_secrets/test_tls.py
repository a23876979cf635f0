from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.integration.servers import SIGNS

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
NAMES = ("node.example.org", "vault.example.org")


class Issuer:
    """A CA, or an intermediate where it has an issuer of its own. `without`: what its own certificate lacks."""

    def __init__(self, name: str, issuer: Issuer | None = None, *, days: int = 3650, without: str = "") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above = issuer or self
        made = builder(self.name, above.name, self.key.public_key(), days=days)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=without != "critical")
        if without != "identifier":
            made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        if without != "usage":
            made = made.add_extension(SIGNS, critical=True)
        self.certificate = made.add_extension(above.identifier, critical=False).sign(above.key, hashes.SHA256())

    @property
    def identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def issue(
        self,
        names: Sequence[str] = NAMES,
        *,
        days: int = 90,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        strict: bool = True,
        key: Any = None,
    ) -> tuple[str, str]:
        """Return certificate and key as PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
        leaf = builder(subject, self.name, key.public_key(), days=days)
        if names:
            leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        if strict:
            leaf = leaf.add_extension(self.identifier, critical=False)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return pem(leaf.sign(self.key, hashes.SHA256())), key_pem(key)


def builder(subject: x509.Name, issuer: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=100))
        .not_valid_after(NOW + dt.timedelta(days=days))
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: Any, passphrase: bytes | None = None) -> str:
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode())


ROOT = Issuer("root")


def judge(certificate: str | None, key: str | None, ca: str | None = None, now: dt.datetime = NOW) -> tls.Verdict:
    return tls.judge(
        certificate=tls.Pem("certificate_variable", "/a.crt", certificate, "No such file"),
        key=tls.Pem("key_variable", "/a.key", key, "Permission denied"),
        ca=tls.Pem("ca_variable", "/ca.crt", ca or pem(ROOT.certificate), "No such file"),
        names=NAMES,
        now=now,
        warn_days=30,
    )


def test_files_that_belong_together_have_no_problem() -> None:
    verdict = judge(*ROOT.issue())

    assert (verdict.problems, verdict.warnings) == ((), ())
    assert verdict.certificate is not None
    assert verdict.certificate.not_after == NOW + dt.timedelta(days=90)
    assert verdict.authorities == (verdict.trust[0].sha256,)


def test_files_that_cannot_be_read_are_all_named_with_the_reason() -> None:
    verdict = judge(None, None)

    assert "certificate_variable (/a.crt) cannot be read: No such file" in verdict.problems[0]
    assert "key_variable (/a.key) cannot be read: Permission denied" in verdict.problems[1]


def test_another_certificates_key_is_refused() -> None:
    certificate, _ = ROOT.issue()
    _, key = ROOT.issue()

    assert "is not the key of" in judge(certificate, key).problems[0]


def test_another_authority_of_the_same_name_is_refused() -> None:
    assert "does not lead to ca_variable" in judge(*Issuer("root").issue()).problems[0]


def test_an_intermediate_counts_when_the_certificate_file_carries_it() -> None:
    middle = Issuer("middle", ROOT)
    certificate, key = middle.issue()

    assert "does not lead to" in judge(certificate, key).problems[0]
    assert judge(certificate + pem(middle.certificate), key).problems == ()


@pytest.mark.parametrize(
    ("names", "missing"),
    [(["node.example.org"], "vault.example.org"), ([], "no DNS name at all"), (["*.org"], "node.example.org")],
)
def test_names_that_are_missing_are_named(names: list[str], missing: str) -> None:
    assert missing in judge(*ROOT.issue(names)).problems[0]


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("a.example.org", "A.example.org", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "b.a.example.org", False),
        ("*.example.org", "example.org", False),
        ("*", "localhost", False),
    ],
)
def test_a_wildcard_covers_one_label(pattern: str, name: str, covered: bool) -> None:
    assert tls.covers(pattern, name) is covered


def test_an_ended_certificate_is_refused_and_one_about_to_end_is_worth_a_warning() -> None:
    assert "ended on" in judge(*ROOT.issue(days=-1)).problems[0]
    soon = judge(*ROOT.issue(days=20))
    assert (soon.problems, len(soon.warnings)) == ((), 1)


def test_a_certificate_of_tomorrow_is_refused() -> None:
    problems = judge(*ROOT.issue(), now=NOW - dt.timedelta(days=200)).problems

    assert any("is not valid before" in sentence for sentence in problems)


def test_a_client_certificate_is_refused() -> None:
    assert "serverAuth" in judge(*ROOT.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH)).problems[0]


@pytest.mark.parametrize("text", ["", "rubbish", "-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_parsed_is_not_quoted(text: str) -> None:
    certificate, _ = ROOT.issue()
    (problem,) = judge(certificate, text).problems

    assert "holds no PEM private key" in problem
    assert "SECRET" not in problem


def test_a_key_with_a_passphrase_is_refused_with_the_way_out() -> None:
    certificate, _ = ROOT.issue()
    locked = key_pem(ec.generate_private_key(ec.SECP256R1()), b"passphrase")

    assert "use ansible-vault" in judge(certificate, locked).problems[0]


def test_of_two_authorities_it_is_said_which_vouches() -> None:
    old, new = Issuer("old"), Issuer("new")
    verdict = judge(*new.issue(), ca=pem(old.certificate) + pem(new.certificate))
    assert verdict.problems == ()
    assert [each.subject for each in verdict.trust] == ["CN=old", "CN=new"]
    assert verdict.authorities == (verdict.trust[1].sha256,)


def test_two_authorities_of_one_name_must_be_told_apart() -> None:
    assert judge(*ROOT.issue(), ca=pem(ROOT.certificate) + pem(Issuer("root").certificate)).problems == ()
    one, other = Issuer("root", without="identifier"), Issuer("root", without="identifier")
    problem, *_ = judge(*one.issue(), ca=pem(one.certificate) + pem(other.certificate)).problems
    assert "'CN=root' that clients cannot tell apart" in problem
    # The same key under a renewed certificate is the same CA.
    renewed = (
        builder(ROOT.name, ROOT.name, ROOT.key.public_key(), days=9000)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ROOT.key, hashes.SHA256())
    )
    verdict = judge(*ROOT.issue(), ca=pem(ROOT.certificate) + pem(renewed))
    assert verdict.problems == ()
    assert len(verdict.authorities) == 2


def test_an_intermediate_is_no_ca_to_trust() -> None:
    middle = Issuer("middle", ROOT)
    certificate, key = middle.issue()
    (problem,) = judge(certificate + pem(middle.certificate), key, pem(ROOT.certificate) + pem(middle.certificate)).problems
    assert "ca_variable (/ca.crt) holds 'CN=middle', which is not self-signed" in problem
    (alone,) = judge(certificate, key, pem(middle.certificate)).problems
    assert "belongs into the certificate file" in alone


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ec.generate_private_key(ec.SECP521R1()), True),
        (rsa.generate_private_key(65537, 2048), True),
        (ed25519.Ed25519PrivateKey.generate(), True),
        (ec.generate_private_key(ec.SECP256K1()), False),
        (rsa.generate_private_key(65537, 1024), False),  # noqa: S505 - that is what is refused
        (ed448.Ed448PrivateKey.generate(), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_key_that_servers_cannot_use_is_refused(key: Any, taken: bool) -> None:
    problems = judge(*ROOT.issue(key=key)).problems
    assert ("is of a kind that the server cannot use" in " ".join(problems)) is not taken
    assert (problems == ()) is taken


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_that_browsers_refuse_is_warned_of(key: Any) -> None:
    (warning,) = judge(*ROOT.issue(key=key)).warnings
    assert "which Chrome refuses: have a certificate for a key of P-256, P-384 or RSA" in warning


def test_a_certificate_that_does_not_name_its_issuers_key_is_refused() -> None:
    (problem,) = judge(*ROOT.issue(strict=False)).problems
    assert "certificate_variable (/a.crt) has no authority key identifier in 'CN=node'" in problem


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("identifier", "subject key identifier"),
        ("usage", "key usage keyCertSign"),
        ("critical", "critical basic constraints CA:TRUE"),
    ],
)
def test_a_ca_that_strict_clients_refuse_is_refused(without: str, named: str) -> None:
    lax = Issuer("lax", without=without)
    (problem,) = judge(*lax.issue(), ca=pem(lax.certificate)).problems
    assert f"ca_variable (/ca.crt) has no {named} in 'CN=lax'" in problem
    assert judge(*ROOT.issue(), ca=pem(ROOT.certificate) + pem(lax.certificate)).problems == (), "it is left for another"
    middle = Issuer("middle", ROOT, without=without)
    certificate, key = middle.issue()
    (problem,) = judge(certificate + pem(middle.certificate), key).problems
    assert f"certificate_variable (/a.crt) has no {named} in 'CN=middle'" in problem


def test_a_private_key_in_a_file_that_all_may_read_is_refused_and_not_quoted() -> None:
    certificate, key = ROOT.issue()
    for found in (judge(certificate + key, key), judge(certificate, key, pem(ROOT.certificate) + key)):
        (problem,) = found.problems
        assert "holds a private key" in problem
        assert key.splitlines()[1] not in problem


def test_an_intermediate_that_ends_before_the_certificate_is_worth_a_warning() -> None:
    middle = Issuer("middle", ROOT, days=20)
    certificate, key = middle.issue()
    (warning,) = judge(certificate + pem(middle.certificate), key).warnings
    assert "the intermediate certificate 'CN=middle', ends in 20 days" in warning
