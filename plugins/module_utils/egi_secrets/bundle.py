"""The unseal bundle: the only copy of a cluster's keys, every one of them encrypted to its operator.

It holds PGP ciphertext alone, so it may be shown and copied; what it must not be is lost. The controller has one copy,
every node another. Two copies are of the same keys when their `bundle_id` is the same. A rekey is recorded here too, step by
step, so that the next operator's run finds it on the nodes: of copies of one cluster the newest counts.
"""

from __future__ import annotations

import base64
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
from .keys import (
    KeySet,
    Pending,
    Previous,
    Retired,
    Share,
    exactly,
    key_set_from,
    message_of,
    pending_from,
    previous_from,
    retired_from,
    shares_from,
    typed,
)

FORMAT = 1  # of a bundle whose keys are the first, and which no rekey is changing
REKEYED_FORMAT = 2
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

# A temporary file younger than this, in s, may be another run's, about to be renamed.
_STALE_AFTER = 600

_FIELDS = {"format", "bundle_id", "cluster_name", "created", "threshold", "shares", "root_token"}
_REKEY_FIELDS = {"serial", "replaces", "pending", "previous"}
_ROOT_FIELDS = {"operator", "fingerprint", "message", "revoked_at"}


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
        serial: counts the changes of a rekey; of two copies with the same keys the greater is the newer.
        replaces: what is remembered of earlier keys, the first one first.
        pending: a rekey under way.
        previous: the keys before, while a member may still want them.
    """

    cluster_name: str
    created: str
    threshold: int
    shares: tuple[Share, ...]
    root_token: RootToken
    serial: int = 0
    replaces: tuple[Retired, ...] = ()
    pending: Pending | None = None
    previous: Previous | None = None

    @property
    def keys(self) -> KeySet:
        """The keys in force, unless a rekey is closing."""
        return KeySet(self.threshold, self.shares)

    @property
    def bundle_id(self) -> str:
        """SHA-256 over the threshold and the shares: what identifies these keys."""
        return self.keys.key_id

    @property
    def operators(self) -> list[str]:
        """The share-holders, each once, in order."""
        return self.keys.operators

    def candidates(self, node: str) -> list[KeySet]:
        """Return the keys that a sealed node may want, the likelier first."""
        if self.pending is not None and self.pending.closing:
            return [self.pending.keys, self.keys]
        if self.previous is not None and node in self.previous.unproven:
            return [self.previous.keys, self.keys]
        return [self.keys]

    def known_numbers(self) -> set[tuple[int, int]]:
        """Return thresholds and numbers of shares that a member may tell; a standby tells those of its start."""
        pending = [self.pending.keys.numbers] if self.pending is not None and self.pending.closing else []
        return {self.keys.numbers, *pending, *((each.threshold, each.shares) for each in self.replaces)}

    def render(self) -> str:
        """Return the bundle as JSON, the same text for the same content."""
        content = {"format": REKEYED_FORMAT, "bundle_id": self.bundle_id, **asdict(self)}
        if not (self.serial or self.replaces or self.pending or self.previous):
            content = {key: value for key, value in content.items() if key not in _REKEY_FIELDS} | {"format": FORMAT}
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
            "rekey": self._rekey(),
        }

    def _rekey(self) -> str:
        if self.pending is not None:
            stage = "closing" if self.pending.closing else "dealt" if self.pending.shares else "begun"
            return f"{stage}: {self.pending.attempt.threshold} of {len(self.pending.attempt.holders)} shares"
        if self.previous is not None:
            return f"not yet seen on {', '.join(self.previous.unproven)}"
        return "none"


def parse(text: str, place: str) -> Bundle:
    """Return the bundle that `text` is.

    Args:
        text: JSON.
        place: where it comes from, for messages.

    Raises:
        BundleError: it is not exactly a bundle of format 1 or 2, or its id does not match its shares.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise TypeError("it is no JSON object")
        kind = content.get("format")
        if kind not in (FORMAT, REKEYED_FORMAT) or isinstance(kind, bool):
            raise ValueError(
                f"its format is {kind!r} where this version of the playbooks knows {FORMAT} and {REKEYED_FORMAT}"
            )
        exactly(content, _FIELDS | (_REKEY_FIELDS if kind == REKEYED_FORMAT else set()), "the bundle")
        keys = key_set_from(typed(content, "threshold", int), shares_from(typed(content, "shares", list)))
        bundle = Bundle(
            cluster_name=typed(content, "cluster_name", str),
            created=typed(content, "created", str),
            threshold=keys.threshold,
            shares=keys.shares,
            root_token=_root_token(typed(content, "root_token", dict)),
        )
        if kind == REKEYED_FORMAT:
            bundle = replace(
                bundle,
                serial=typed(content, "serial", int),
                replaces=retired_from(typed(content, "replaces", list)),
                pending=pending_from(content["pending"]),
                previous=previous_from(content["previous"]),
            )
        if content["bundle_id"] != bundle.bundle_id:
            raise ValueError("its bundle_id does not match its shares")
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"The unseal bundle {place} is damaged ({error}): move it aside and run again; an intact copy is taken "
            "from the other places that keep one."
        ) from None
    return bundle


def _root_token(content: dict[str, Any]) -> RootToken:
    exactly(content, _ROOT_FIELDS, "root_token")
    revoked_at = content["revoked_at"]
    if revoked_at is not None and not isinstance(revoked_at, str):
        raise TypeError("revoked_at is neither null nor a timestamp")
    return RootToken(
        operator=typed(content, "operator", str),
        fingerprint=typed(content, "fingerprint", str),
        message=message_of(content),
        revoked_at=revoked_at,
    )


def reconcile(copies: Mapping[str, Bundle]) -> Bundle:
    """Return the one bundle that all copies are of.

    Two things change in a bundle's life. The root token's revocation: a copy that knows of it wins. And a rekey: copies with
    the keys before it, or with less of it, are older and lose.

    Args:
        copies: place → bundle found there; at least one.

    Raises:
        BundleError: they are of different clusters or keys; the message lists who has which.
    """
    newest = max(copies.values(), key=_age)
    older = {newest.bundle_id, *(each.bundle_id for each in newest.replaces)}
    kinds: dict[str, list[str]] = {}
    for place, bundle in copies.items():
        same = bundle.cluster_name == newest.cluster_name and _root_of(bundle) == _root_of(newest)
        kinds.setdefault("" if same and bundle.bundle_id in older else _unrevoked(bundle).render(), []).append(place)
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
    return mark_revoked(newest, min(revocations)) if revocations else newest


def _age(bundle: Bundle) -> tuple[int, int, bool, str]:
    """Return what sorts copies by age. Two of one serial come of runs that were cut off; the one that is further counts."""
    pending = bundle.pending
    return len(bundle.replaces), bundle.serial, pending is not None and pending.closing, bundle.render()


def _root_of(bundle: Bundle) -> tuple[str, str, str]:
    return bundle.created, bundle.root_token.fingerprint, bundle.root_token.message


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
            "operator's controller; playbooks/operate/unseal.yml and playbooks/site.yml do so from the nodes."
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


def retired_file(path: Path, key_id: str) -> Path:
    """Return where keys that are no longer in force are kept, beside the bundle file."""
    return path.with_name(f"{path.stem}.retired-{key_id[:12]}{path.suffix}")


def archive(path: Path, bundle: Bundle, keys: KeySet) -> Path:
    """Keep keys that are no longer in force in a file of their own beside the bundle: they open older snapshots.

    Args:
        path: the bundle file.
        bundle: whose keys they were.
        keys: these.

    Returns:
        The file.

    Raises:
        OSError: the disk is full or the directory is not writable.
    """
    place = retired_file(path, keys.key_id)
    write(place, _bare(bundle, keys).render())
    return place


def archive_abandoned(path: Path, old: Bundle, new: Bundle) -> None:
    """Keep keys that a rekey gives up after they could have come into force, in a file of their own beside the bundle.

    Nothing needs them, as far as the servers tell. Should that ever turn out to be wrong, these shares open the cluster.

    Args:
        path: the bundle file.
        old: what it holds.
        new: what it is about to hold.

    Raises:
        OSError: the disk is full or the directory is not writable.
    """
    if old.pending is None or not old.pending.closing:
        return
    keys = old.pending.keys
    known = {new.bundle_id, *(each.bundle_id for each in new.replaces)}
    if new.pending is not None and new.pending.shares:
        known.add(new.pending.keys.key_id)
    if keys.key_id not in known:
        write(path.with_name(f"{path.stem}.abandoned-{keys.key_id[:12]}{path.suffix}"), _bare(old, keys).render())


def _bare(bundle: Bundle, keys: KeySet) -> Bundle:
    """Return a bundle of its cluster's other keys, without what is told of a rekey; pure."""
    return replace(bundle, threshold=keys.threshold, shares=keys.shares, serial=0, replaces=(), pending=None, previous=None)


def shares_of(keys: KeySet, fingerprints: Iterable[str]) -> list[Share]:
    """Return the shares that are encrypted to one of these primary fingerprints, in order."""
    wanted = set(fingerprints)
    return [share for share in keys.shares if share.fingerprint in wanted]
