from __future__ import annotations

import datetime as dt

import pytest
from ansible.module_utils.egi_secrets import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ENDS = dt.datetime(2027, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
NAME = [(NameOID.COUNTRY_NAME, "SK"), (NameOID.ORGANIZATION_NAME, "IISAS, Košice"), (NameOID.COMMON_NAME, "Some CA")]


def made(ends: dt.datetime = ENDS, serial: int = 1, issuer: list[tuple[x509.ObjectIdentifier, str]] = NAME) -> bytes:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(*each) for each in issuer])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("year", [2049, 2051])
def test_the_end_is_read_in_both_encodings_of_time(year: int) -> None:
    ends = dt.datetime(year, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    assert certificates.read(made(ends)).not_after == ends


def test_the_beginning_is_read() -> None:
    assert certificates.read(made()).not_before == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_a_file_ends_with_the_first_of_its_certificates() -> None:
    leaf, middle = made(serial=1), made(ENDS - dt.timedelta(days=9), serial=2)
    found = certificates.first(pem(leaf) + pem(middle))
    assert (found.serial, found.not_after) == ("01", ENDS - dt.timedelta(days=9))
    assert found.sha256 == certificates.fingerprint(leaf)


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xABCDEF0123456789, 2**158 + 5])
def test_the_serial_number_is_written_as_openssl_does(serial: int) -> None:
    digits = f"{serial:X}"
    assert certificates.read(made(serial=serial)).serial == digits.zfill(len(digits) + len(digits) % 2)


def test_the_issuer_is_read() -> None:
    assert certificates.read(made()).issuer == "CN=Some CA,O=IISAS, Košice,C=SK"
    assert certificates.read(made(issuer=[])).issuer == ""
    assert certificates.read(made(issuer=[(NameOID.SERIAL_NUMBER, "7")])).issuer == "550405=7"


def test_days_left_go_below_zero() -> None:
    told = certificates.read(made()).told(ENDS.timestamp() + 43_200)
    assert (told["days_left"], told["not_after"]) == (-0.5, ENDS.isoformat())


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x03\x02\x01\x01", b"\x30\x00", b"no certificate at all"])
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        certificates.read(der)


def test_all_certificates_of_a_file_are_found() -> None:
    one, two = made(), made(serial=2)
    text = f"# Root\n{pem(one)}\nsubject=second\n{pem(two)}"
    assert certificates.from_pem(text) == [one, two]
    assert certificates.fingerprints(text) == [
        x509.load_der_x509_certificate(each).fingerprint(hashes.SHA256()).hex() for each in (one, two)
    ]
    assert certificates.from_pem("nothing here") == []
