"""A root token from a quorum of shares, on the controller: for whom, by whom, and what the next run has to know."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import arguments
from ..bundle import Bundle, shares_of
from ..errors import CeremonyError, PgpError
from ..keys import Share
from ..pgp import Keyrings, PublicKey, load_public_key
from ..preflight import Operator
from .root_record import Record, newest

PLAYBOOK = "playbooks/operate/generate-root.yml"
DISCARD = "playbooks/operate/discard-root.yml"


@dataclass(frozen=True)
class Recipient:
    """Whom the token is for: their name, and their PGP key."""

    name: str
    key: PublicKey

    @property
    def pgp_key(self) -> str:
        """The key as the server takes it."""
        return base64.b64encode(self.key.binary).decode()


def go_on(
    given: Mapping[str, Any], on_the_node: Callable[[dict[str, Any]], dict[str, Any]], *, check_mode: bool
) -> dict[str, Any]:
    """See to it that the attempt under way is ours, and give it the shares at hand.

    Args:
        given: arguments of vault_root_attempt for the controller.
        on_the_node: runs that module on the node with further arguments, and returns what it returns.
        check_mode: decrypt and send nothing.

    Returns:
        What the task returns.

    Raises:
        CeremonyError: refused.
        PgpError, BundleError: as in the steps.
    """
    bundle = arguments.bundle(given, check_mode=check_mode)
    operators = [
        Operator(each["name"], each["pgp_key_file"], int(each.get("shares", 1))) for each in given.get("operators") or []
    ]
    whom = recipient(str(given["operator"]), operators, bundle)
    remembered = newest(given.get("records") or [])
    record = continued(remembered, whom, bundle, float(given["now"]))
    messages = [displaced(remembered)] if remembered is not None and remembered.message and not record.message else []
    if record.message or check_mode:
        return told(record, bundle, changed=check_mode, messages=messages)
    rings = Keyrings.open([str(home) for home in given.get("gnupg_homes") or []])
    answer = on_the_node(
        {
            "fingerprint": record.fingerprint,
            "pgp_key": whom.pgp_key,
            "nonce": record.nonce,
            "given": list(record.given),
            "earlier": list(record.earlier),
            "shares": opened(at_hand(bundle, record, rings, bundle.threshold), record, rings),
        }
    )
    if answer.get("failed") or "nonce" not in answer:
        return answer
    return told(after(record, answer), bundle, changed=bool(answer["changed"]), messages=messages + answer["messages"])


def told(record: Record, bundle: Bundle, *, changed: bool, messages: list[str]) -> dict[str, Any]:
    """Return what the task returns; pure."""
    return {
        "changed": changed,
        "record": record.render(),
        "complete": bool(record.message),
        "missing": "" if record.message else missing(bundle, record, bundle.threshold),
        "messages": messages,
    }


def recipient(name: str, operators: Sequence[Operator], bundle: Bundle) -> Recipient:
    """Return whom the token is for.

    Args:
        name: as given on the command line.
        operators: the share-holders of the inventory.
        bundle: the cluster's unseal bundle.

    Raises:
        CeremonyError: no such operator, without a fit PGP key, or without a share of today's keys.
    """
    known = ", ".join(operator.name for operator in operators)
    found = next((operator for operator in operators if operator.name == name), None)
    if found is None:
        given = f"operator is {name!r}, who is not in vault_cluster_operators" if name else "operator is not given"
        raise CeremonyError(f"{given}: say whom the root token is for, with -e operator=<one of {known}>.")
    try:
        key = load_public_key(found.pgp_key_file, datetime.datetime.now(datetime.UTC))
    except PgpError as error:
        raise CeremonyError(f"vault_cluster_operators: {name}'s pgp_key_file {found.pgp_key_file} {error}.") from None
    if not any(share.fingerprint == key.fingerprint for share in bundle.shares):
        raise CeremonyError(
            f"{name} ({key.fingerprint}) holds no share of today's keys, and the share that completes the attempt is the "
            "one of whom the token is for: name an operator who holds one (docs/key-ceremony.md)."
        )
    return Recipient(name, key)


def continued(record: Record | None, whom: Recipient, bundle: Bundle, now: float) -> Record:
    """Return the record to go on from, a fresh one where there is none; pure.

    A token that was made for somebody else and never exchanged keeps nobody out: whoever has a threshold of shares makes
    another one, with which that one is revoked, by its time.

    Raises:
        CeremonyError: an attempt of another operator is under way, or a token is out.
    """
    fresh = Record(whom.name, whom.key.fingerprint, bundle.bundle_id, since=now, written=now)
    if record is None:
        return fresh
    fresh = replace(fresh, earlier=record.earlier, unswept=record.unswept)
    if record.granted(now):
        raise CeremonyError(
            f"{record.operator} has a root token until {moment(record.expires)}: let {record.operator} end it with "
            f"{DISCARD} first, or wait."
        )
    if record.accessor:
        return replace(fresh, since=record.since) if record.unswept else fresh
    if record.operator != whom.name and record.collecting:
        raise CeremonyError(
            f"An attempt for {record.operator} is under way since {moment(record.since)}: go on with "
            f"-e operator={record.operator}, or give it up with {DISCARD}."
        )
    if (record.operator, record.fingerprint, record.bundle_id) == (whom.name, whom.key.fingerprint, bundle.bundle_id):
        return record
    earlier = (*record.earlier, record.nonce) if record.nonce else record.earlier
    message = record.message if record.fingerprint == whom.key.fingerprint else ""
    return replace(fresh, since=record.since, earlier=earlier, message=message)


def displaced(record: Record) -> str:
    """Say what becomes of a token that was made and never exchanged; pure."""
    return (
        f"A root token was made for {record.operator} ({record.fingerprint}) and not exchanged: nobody uses it, and the one "
        "that is made now revokes it."
    )


def at_hand(bundle: Bundle, record: Record, rings: Keyrings, required: int) -> list[Share]:
    """Return the shares to decrypt: those that can be, that the attempt has not got, and no more than it may want.

    The recipient's own come last, and only where they complete it: no PIN is asked for in vain.
    """
    left = required - len(record.given)
    held = [share for share in shares_of(bundle.keys, rings.homes) if share.index not in record.given]
    own = [share for share in held if share.fingerprint == record.fingerprint]
    others = [share for share in held if share.fingerprint != record.fingerprint][: max(left - 1, 0)]
    return [*others, *own[: left - len(others)]] if own and len(others) + len(own) >= left else others


def opened(shares: Sequence[Share], record: Record, rings: Keyrings) -> list[dict[str, Any]]:
    """Decrypt shares, in memory, and return them as vault_root_attempt takes them on the node.

    Raises:
        PgpError: gpg could not.
    """
    return [
        {
            "index": share.index,
            "own": share.fingerprint == record.fingerprint,
            "key": rings.decrypt(share.ciphertext, share.fingerprint, f"share {share.index} of {share.operator}").reveal(),
        }
        for share in shares
    ]


def after(record: Record, answer: Mapping[str, Any]) -> Record:
    """Return the record as it is after what vault_root_attempt did on the node; pure."""
    nonce = str(answer["nonce"])
    return replace(
        record,
        nonce=nonce,
        earlier=(*record.earlier, record.nonce) if record.nonce not in ("", nonce) else record.earlier,
        given=tuple(int(index) for index in answer["given"]),
        message=str(answer["message"]),
        written=float(answer["now"]),
    )


def missing(bundle: Bundle, record: Record, required: int) -> str:
    """Say what is missing, and who can supply it; pure."""
    left = required - len(record.given)
    wanted = [share for share in bundle.shares if share.index not in record.given]
    others = list(dict.fromkeys(share.operator for share in wanted if share.fingerprint != record.fingerprint))
    last = f"{record.operator}'s is the last: it completes the attempt where the token can be opened"
    own = sum(share.fingerprint == record.fingerprint for share in wanted)
    if left <= own:
        return (
            f"The attempt for {record.operator} has {len(record.given)} of {required} shares. Now {record.operator} runs "
            f"{PLAYBOOK} with -e operator={record.operator}."
        )
    return (
        f"The attempt for {record.operator} has {len(record.given)} of {required} shares and needs {left} more: "
        f"{' or '.join(others)} can supply one by running {PLAYBOOK} with -e operator={record.operator}. {last}."
    )


def moment(seconds: float) -> str:
    """Return seconds since the epoch as people read them, UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
