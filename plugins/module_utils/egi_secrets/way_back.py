"""The way back of a node's certificate: what its listeners serve is kept while another pair is tried.

Cut off anywhere, the pair that is served is complete in one of the two places. On the way there the certificate is written
first, on the way back the key: between lies a new certificate with an old key, which nobody takes for what is served.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from . import certificates
from .errors import SecretsError
from .host_files import ABSENT, DIRECTORY, FILE, Wanted


class NoWayBackError(SecretsError):
    """Nothing was kept that could be put back."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in one directory."""

    directory: Path
    certificate: Path
    key: Path

    @property
    def leaf(self) -> str | None:
        """The sha256 of the server's own certificate; None where there is none to read, or the key is not its key."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_ciphers("ALL:@SECLEVEL=0")  # whether they fit is asked, not whether they are strong
            context.load_cert_chain(self.certificate, self.key, password="")
            return certificates.fingerprints(self.certificate.read_text())[0]
        except (OSError, ValueError, IndexError):
            return None


def pair(certificate: Path, directory: Path | None = None) -> Pair:
    """Return a certificate and the key beside it, or what they are called in another directory."""
    here = directory or certificate.parent
    return Pair(here, here / certificate.name, here / certificate.with_suffix(".key").name)


def keep(disk: Pair, kept: Pair, served: str, *, owner: str = "root", group: str = "root") -> list[Wanted]:
    """Return what to write so that what is served can be put back.

    Args:
        disk: what the server reads at its next reload.
        kept: what an earlier run kept; another one's, where it ended before it removed it.
        served: sha256 of the certificate that the listeners serve; empty where nobody knows.
        owner: of what is kept.
        group: of what is kept.
    """
    if served and disk.leaf == served:
        return [
            Wanted(str(kept.directory), DIRECTORY, owner=owner, group=group, mode=0o700),
            *_copies(disk, kept, owner=owner, certificate=(group, 0o600), key=(group, 0o600)),
        ]
    if not served or (kept.leaf and (kept.leaf == served or _same(disk.key, kept.key))):
        return []
    return [Wanted(str(path), ABSENT, secret=True) for path in (kept.certificate, kept.key) if path.exists()]


def back(disk: Pair, kept: Pair, *, owner: str = "root", group: str, key_group: str) -> list[Wanted]:
    """Return what to write so that the server reads what was kept.

    Args:
        disk: where it reads.
        kept: what was kept.
        owner: of both files.
        group: of the certificate.
        key_group: of the key.

    Raises:
        NoWayBackError: no certificate was kept with its key.
    """
    if kept.leaf is None:
        raise NoWayBackError(f"{kept.directory} has no certificate with its key, so nothing was put back.")
    return _copies(kept, disk, owner=owner, certificate=(group, 0o644), key=(key_group, 0o640))


def _copies(source: Pair, target: Pair, *, owner: str, certificate: tuple[str, int], key: tuple[str, int]) -> list[Wanted]:
    """Return the two files, the key first."""
    return [
        Wanted(str(to), FILE, of.read_bytes(), secret=secret, owner=owner, group=group, mode=mode)
        for of, to, secret, (group, mode) in (
            (source.key, target.key, True, key),
            (source.certificate, target.certificate, False, certificate),
        )
    ]


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()
