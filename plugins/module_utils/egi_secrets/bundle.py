"""The unseal bundle: the only copy of a cluster's keys, every one of them encrypted to its operator.

It holds PGP ciphertext alone, so it may be shown and copied; what it must not be is lost. The controller has one copy,
every node another. Two copies are of the same keys when their `bundle_id` is the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .errors import BundleError

FORMAT = 1
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

# A temporary file younger than this, in s, may be another run's, about to be renamed.
_STALE_AFTER = 600

_FIELDS = {"format", "bundle_id", "cluster_name", "created", "threshold", "shares", "root_token"}
_SHARE_FIELDS = {"index", "operator", "fingerprint", "message"}
_ROOT_FIELDS = {"operator", "fingerprint", "message", "revoked_at"}


@dataclass(frozen=True)
class Share:
    """One share: `index` from 1, its operator, the primary fingerprint, and the message (base64 of binary OpenPGP)."""

    index: int
    operator: str
    fingerprint: str
    message: str

    @property
    def ciphertext(self) -> bytes:
        """The binary OpenPGP message."""
        return base64.b64decode(self.message)


@dataclass(frozen=True)
class RootToken:
    """The first root token, encrypted to one operator; `revoked_at` is a UTC timestamp, None while it is valid."""

    operator: str
    fingerprint: str
    message: str
    revoked_at: str | None

    @property
    def ciphertext(self) -> bytes:
        """The binary OpenPGP message."""
        return base64.b64decode(self.message)


@dataclass(frozen=True)
class Bundle:
    """The keys of one cluster.

    Args:
        cluster_name: name in the inventory, for people.
        created: UTC timestamp of the initialisation.
        threshold: shares needed to unseal.
        shares: all of them, in order.
        root_token: the first root token.
    """

    cluster_name: str
    created: str
    threshold: int
    shares: tuple[Share, ...]
    root_token: RootToken

    @property
    def bundle_id(self) -> str:
        """SHA-256 over the threshold and the shares: what identifies these keys."""
        covered = json.dumps(
            {"threshold": self.threshold, "shares": [asdict(share) for share in self.shares]}, sort_keys=True
        )
        return hashlib.sha256(covered.encode()).hexdigest()

    @property
    def operators(self) -> list[str]:
        """The share-holders, each once, in order."""
        return list(dict.fromkeys(share.operator for share in self.shares))

    def render(self) -> str:
        """Return the bundle as JSON, the same text for the same content."""
        content = {"format": FORMAT, "bundle_id": self.bundle_id, **asdict(self)}
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    def summary(self) -> dict[str, object]:
        """Return what a diff shows: who holds which share, without the messages."""
        return {
            "bundle_id": self.bundle_id,
            "cluster_name": self.cluster_name,
            "threshold": self.threshold,
            "shares": [f"{share.index}: {share.operator} {share.fingerprint}" for share in self.shares],
            "root_token": f"{self.root_token.operator} {self.root_token.fingerprint}",
            "root_token_revoked_at": self.root_token.revoked_at,
        }


def parse(text: str, place: str) -> Bundle:
    """Return the bundle that `text` is.

    Args:
        text: JSON.
        place: where it comes from, for messages.

    Raises:
        BundleError: it is not exactly a bundle of format 1, or its id does not match its shares.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise TypeError("it is no JSON object")
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')!r} where this version of the playbooks knows {FORMAT}")
        _exactly(content, _FIELDS, "the bundle")
        shares = tuple(_share(each, index) for index, each in enumerate(_typed(content, "shares", list), start=1))
        bundle = Bundle(
            cluster_name=_typed(content, "cluster_name", str),
            created=_typed(content, "created", str),
            threshold=_typed(content, "threshold", int),
            shares=shares,
            root_token=_root_token(_typed(content, "root_token", dict)),
        )
        if not 1 <= bundle.threshold <= len(shares):
            raise ValueError(f"its threshold is {bundle.threshold} of {len(shares)} shares")
        if content["bundle_id"] != bundle.bundle_id:
            raise ValueError("its bundle_id does not match its shares")
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"The unseal bundle {place} is damaged ({error}): move it aside and run again; an intact copy is taken "
            "from the other places that keep one."
        ) from None
    return bundle


def _share(content: object, index: int) -> Share:
    if not isinstance(content, dict):
        raise TypeError(f"share {index} is no object")
    _exactly(content, _SHARE_FIELDS, f"share {index}")
    share = Share(
        index=_typed(content, "index", int),
        operator=_typed(content, "operator", str),
        fingerprint=_typed(content, "fingerprint", str),
        message=_message(content),
    )
    if share.index != index:
        raise ValueError(f"share {index} has index {share.index}")
    return share


def _root_token(content: dict[str, Any]) -> RootToken:
    _exactly(content, _ROOT_FIELDS, "root_token")
    revoked_at = content["revoked_at"]
    if revoked_at is not None and not isinstance(revoked_at, str):
        raise TypeError("revoked_at is neither null nor a timestamp")
    return RootToken(
        operator=_typed(content, "operator", str),
        fingerprint=_typed(content, "fingerprint", str),
        message=_message(content),
        revoked_at=revoked_at,
    )


def _exactly(content: Mapping[str, Any], fields: set[str], what: str) -> None:
    if set(content) != fields:
        odd = sorted(set(content) ^ fields)
        raise ValueError(f"{what} lacks or has unknown fields: {', '.join(odd)}")


def _typed(content: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401  # of that kind
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is no {kind.__name__}")
    return value


def _message(content: Mapping[str, Any]) -> str:
    message: str = _typed(content, "message", str)
    try:
        decoded = base64.b64decode(message, validate=True)
    except binascii.Error:
        decoded = b""
    if not decoded or not decoded[0] & 0x80:  # RFC 4880, 4.2: bit 7 of a packet's first octet is set
        raise ValueError("a message is no base64 of an OpenPGP message")
    return message


def reconcile(copies: Mapping[str, Bundle]) -> Bundle:
    """Return the one bundle that all copies are of.

    The root token's revocation is the one thing that changes in a bundle's life: a copy that knows of it is newer than
    one that does not, and wins.

    Args:
        copies: place → bundle found there; at least one.

    Raises:
        BundleError: they are of different clusters or keys; the message lists who has which.
    """
    kinds: dict[str, list[str]] = {}
    for place, bundle in copies.items():
        kinds.setdefault(_unrevoked(bundle).render(), []).append(place)
    if len(kinds) > 1:
        listed = "; ".join(
            f"{' and '.join(places)}: {copies[places[0]].cluster_name} of {copies[places[0]].created}, "
            f"id {copies[places[0]].bundle_id[:12]}"
            for places in kinds.values()
        )
        raise BundleError(
            f"The copies of the unseal bundle differ ({listed}): find out which one unseals this cluster, move the "
            "others aside (do not delete them) and run again."
        )
    revocations = [bundle.root_token.revoked_at for bundle in copies.values() if bundle.root_token.revoked_at]
    one = next(iter(copies.values()))
    return mark_revoked(one, min(revocations)) if revocations else one


def mark_revoked(bundle: Bundle, revoked_at: str | None) -> Bundle:
    """Return the bundle with its root token marked as revoked at that UTC timestamp."""
    return replace(bundle, root_token=replace(bundle.root_token, revoked_at=revoked_at))


def _unrevoked(bundle: Bundle) -> Bundle:
    return mark_revoked(bundle, None)


@dataclass(frozen=True)
class Found:
    """A bundle file on the controller: its bundle, and whether its mode keeps others out."""

    bundle: Bundle
    text: str
    private: bool


def read(path: Path) -> Found | None:
    """Return the bundle in a file, None when there is no file.

    Raises:
        BundleError: it cannot be read or is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise BundleError(f"The unseal bundle {path} cannot be read ({reason}): mend it or its permissions.") from None
    return Found(parse(text, str(path)), text, mode == FILE_MODE)


def require(path: str) -> Bundle:
    """Return the bundle in a file that must exist.

    Raises:
        BundleError: it is missing, unreadable or damaged.
    """
    found = read(Path(path).expanduser())
    if found is None:
        raise BundleError(
            f"There is no unseal bundle at {path} (vault_cluster_bundle_file): fetch it from a node or another "
            "operator's controller; playbooks/site.yml does so from the nodes."
        )
    return found.bundle


def interrupted_writes(path: Path) -> list[Path]:
    """Return files of `write` whose process was killed between writing and renaming them."""
    return sorted(path.parent.glob(f".{path.name}.*.new"))


def prepare_directory(path: Path) -> None:
    """Make sure that `write` can succeed: create the directory (0700) and really write a file of a bundle's size there.

    Raises:
        BundleError: it cannot be written, or others may write there and so replace the bundle.
    """
    directory = path.parent
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BundleError(
                f"Others than its owner may write in {directory}, where the unseal bundle goes: chmod go-w "
                f"{directory}, or choose another vault_cluster_bundle_file."
            )
        _write_beside(path, "x" * 65536).unlink()
    except OSError as error:
        raise BundleError(
            f"The directory {directory} of the unseal bundle cannot be written ({error.strerror}): make it writable or "
            "choose another vault_cluster_bundle_file."
        ) from None


def write(path: Path, text: str) -> None:
    """Replace a bundle file so that a crash at any moment leaves the old or the new one, on disk, mode 0600.

    Raises:
        OSError: the disk is full or the directory is not writable.
    """
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    temporary = _write_beside(path, text)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    for stale in interrupted_writes(path):
        if time.time() - stale.stat().st_mtime > _STALE_AFTER:
            stale.unlink(missing_ok=True)


def _write_beside(path: Path, text: str) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def shares_of(bundle: Bundle, fingerprints: Iterable[str]) -> list[Share]:
    """Return the shares that are encrypted to one of these primary fingerprints, in order."""
    wanted = set(fingerprints)
    return [share for share in bundle.shares if share.fingerprint in wanted]
