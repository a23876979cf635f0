"""What an unseal bundle holds of keys: those in force, those that a rekey is dealing, and those that it replaced.

A node reads its seal from its own disk. One that was down while the keys were dealt anew wants the old shares at its next
start, and the new ones from the moment that it has caught up: so the old keys stay in the bundle until every member has been
seen to have the new ones on its disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SHARE_FIELDS = {"index", "operator", "fingerprint", "message"}
_HOLDER_FIELDS = {"operator", "fingerprint"}
_ATTEMPT_FIELDS = {"nonce", "threshold", "holders"}
_PENDING_FIELDS = {"attempt", "started", "shares", "verifying", "verified", "closing", "proof", "proving"}
_PREVIOUS_FIELDS = {"threshold", "shares", "replaced", "index", "unproven"}
_RETIRED_FIELDS = {"bundle_id", "threshold", "shares"}


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
class KeySet:
    """Shares of which a threshold unseals."""

    threshold: int
    shares: tuple[Share, ...]

    @property
    def key_id(self) -> str:
        """SHA-256 over the threshold and the shares: what identifies these keys."""
        covered = json.dumps(
            {"threshold": self.threshold, "shares": [asdict(share) for share in self.shares]}, sort_keys=True
        )
        return hashlib.sha256(covered.encode()).hexdigest()

    @property
    def numbers(self) -> tuple[int, int]:
        """The threshold, and how many shares there are: what a server tells of its keys."""
        return self.threshold, len(self.shares)

    @property
    def operators(self) -> list[str]:
        """The share-holders, each once, in order."""
        return list(dict.fromkeys(share.operator for share in self.shares))

    @property
    def holders(self) -> tuple[Holder, ...]:
        """For each share who holds it, by which key."""
        return tuple(Holder(share.operator, share.fingerprint) for share in self.shares)


@dataclass(frozen=True)
class Holder:
    """Who is to hold a share, and the primary fingerprint of the key that it is encrypted to."""

    operator: str
    fingerprint: str


@dataclass(frozen=True)
class Ours:
    """An attempt that a run of ours started: a share is given to no other.

    Attributes:
        nonce: the server's name of it.
        threshold: shares that will be needed.
        holders: for each share, in order.
    """

    nonce: str
    threshold: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True)
class Pending:
    """A rekey under way. Until its verification is complete, the old keys are in force.

    Attributes:
        attempt: what the server was asked for.
        started: UTC timestamp.
        shares: the new shares, as soon as they are dealt.
        verifying: nonce of the verification that has some of them.
        verified: which, by their index: the server takes one twice, and then refuses all of them.
        closing: the last share of the verification may have been submitted, so the new keys may be in force.
        proof: where nothing else tells which keys are in force: an attempt that is given shares of one set to see.
        proving: which set that is, `new` or `old`; empty without a proof.
    """

    attempt: Ours
    started: str
    shares: tuple[Share, ...] = ()
    verifying: str = ""
    verified: tuple[int, ...] = ()
    closing: bool = False
    proof: Ours | None = None
    proving: str = ""

    @property
    def keys(self) -> KeySet:
        """The new keys; only once they are dealt."""
        return KeySet(self.attempt.threshold, self.shares)


@dataclass(frozen=True)
class Previous:
    """Keys that were replaced, kept until every member has the new ones on its disk.

    Attributes:
        threshold: shares needed.
        shares: all of them.
        replaced: UTC timestamp.
        index: Raft index that a node must have applied to have the new keys on its disk.
        unproven: names of nodes that were not yet seen to have.
    """

    threshold: int
    shares: tuple[Share, ...]
    replaced: str
    index: int
    unproven: tuple[str, ...]

    @property
    def keys(self) -> KeySet:
        """These keys."""
        return KeySet(self.threshold, self.shares)


@dataclass(frozen=True)
class Retired:
    """What a bundle remembers of keys that were replaced: a copy with them is older, not another cluster's."""

    bundle_id: str
    threshold: int
    shares: int


def exactly(content: Mapping[str, Any], fields: set[str], what: str) -> None:
    """Refuse an object that lacks a field or has another one.

    Raises:
        ValueError: with those fields.
    """
    if set(content) != fields:
        odd = sorted(set(content) ^ fields)
        raise ValueError(f"{what} lacks or has unknown fields: {', '.join(odd)}")


def typed(content: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401  # of that kind
    """Return a value that must be of a kind; a bool is no int.

    Raises:
        TypeError: it is of another.
    """
    value = content[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{key} is no {kind.__name__}")
    return value


def message_of(content: Mapping[str, Any]) -> str:
    """Return a PGP message, base64.

    Raises:
        ValueError: it is none.
    """
    message: str = typed(content, "message", str)
    try:
        decoded = base64.b64decode(message, validate=True)
    except binascii.Error:
        decoded = b""
    if not decoded or not decoded[0] & 0x80:  # RFC 4880, 4.2: bit 7 of a packet's first octet is set
        raise ValueError("a message is no base64 of an OpenPGP message")
    return message


def shares_from(content: Sequence[object]) -> tuple[Share, ...]:
    """Parse shares, numbered from 1."""
    return tuple(_share(each, index) for index, each in enumerate(content, start=1))


def key_set_from(threshold: int, shares: tuple[Share, ...]) -> KeySet:
    """Return keys that can unseal.

    Raises:
        ValueError: there are fewer shares than are needed.
    """
    if not 1 <= threshold <= len(shares):
        raise ValueError(f"its threshold is {threshold} of {len(shares)} shares")
    return KeySet(threshold, shares)


def pending_from(content: object) -> Pending | None:
    """Parse a rekey under way; null is none."""
    if content is None:
        return None
    fields = _object(content, _PENDING_FIELDS, "pending")
    proof = fields["proof"]
    pending = Pending(
        attempt=_ours(fields["attempt"]),
        started=typed(fields, "started", str),
        shares=shares_from(typed(fields, "shares", list)),
        verifying=typed(fields, "verifying", str),
        verified=tuple(typed({"verified": each}, "verified", int) for each in typed(fields, "verified", list)),
        closing=typed(fields, "closing", bool),
        proof=None if proof is None else _ours(proof),
        proving=typed(fields, "proving", str),
    )
    if pending.shares and (pending.keys.holders != pending.attempt.holders):
        raise ValueError("the shares of its rekey are not those that were asked for")
    if (pending.closing and not pending.shares) or (pending.proof and not pending.closing):
        raise ValueError("its rekey has come further than its shares")
    if pending.proving not in (("new", "old") if pending.proof else ("",)):
        raise ValueError(f"proving is {pending.proving!r}")
    return pending


def previous_from(content: object) -> Previous | None:
    """Parse keys that were replaced; null is none."""
    if content is None:
        return None
    fields = _object(content, _PREVIOUS_FIELDS, "previous")
    keys = key_set_from(typed(fields, "threshold", int), shares_from(typed(fields, "shares", list)))
    unproven = typed(fields, "unproven", list)
    if not all(isinstance(name, str) for name in unproven):
        raise TypeError("unproven is no list of names")
    return Previous(
        keys.threshold, keys.shares, typed(fields, "replaced", str), typed(fields, "index", int), tuple(unproven)
    )


def retired_from(content: Sequence[object]) -> tuple[Retired, ...]:
    """Parse what is remembered of keys that were replaced."""
    found = [_object(each, _RETIRED_FIELDS, "replaces") for each in content]
    return tuple(
        Retired(typed(each, "bundle_id", str), typed(each, "threshold", int), typed(each, "shares", int)) for each in found
    )


def _ours(content: object) -> Ours:
    fields = _object(content, _ATTEMPT_FIELDS, "attempt")
    holders = [_object(each, _HOLDER_FIELDS, "a holder") for each in typed(fields, "holders", list)]
    named = tuple(Holder(typed(each, "operator", str), typed(each, "fingerprint", str)) for each in holders)
    return Ours(typed(fields, "nonce", str), typed(fields, "threshold", int), named)


def _share(content: object, index: int) -> Share:
    if not isinstance(content, dict):
        raise TypeError(f"share {index} is no object")
    exactly(content, _SHARE_FIELDS, f"share {index}")
    share = Share(
        index=typed(content, "index", int),
        operator=typed(content, "operator", str),
        fingerprint=typed(content, "fingerprint", str),
        message=message_of(content),
    )
    if share.index != index:
        raise ValueError(f"share {index} has index {share.index}")
    return share


def _object(content: object, fields: set[str], what: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError(f"{what} is no object")
    exactly(content, fields, what)
    return content
