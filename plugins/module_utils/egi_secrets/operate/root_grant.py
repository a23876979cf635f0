"""A root token that a quorum of shares made: exchanged at once for one that ends by itself, and revoked.

The server's root tokens never end. So the one that the shares made lives for seconds: with it, a token of the same power
with a time to live is made, encrypted to its operator and written to a file; then the first is revoked, and what earlier
runs left over when they were killed is revoked as well. Clear text of a token is in this process's memory alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import bundle as bundles
from ..api import Api, Secret
from ..cluster import active_node
from ..errors import CeremonyError, PgpError, RefusedError, SecretsError
from ..pgp import Keyrings, PublicKey, encrypt
from ..reconcile.server import Server
from .root_record import Record
from .root_shares import DISCARD, PLAYBOOK, moment

MARK = "generate-root"  # in the metadata of the tokens that are made here
_CONCURRENCY = 8
# What the servers answer of an accessor whose token has ended: HashiCorp Vault 403 or 404, OpenBao 2.7.2 a bad request.
_GONE = (403, 404)
_GONE_REASON = "invalid accessor"
_CLOCKS = 2.0  # seconds that the members' clocks may be apart (a ceremony refuses more than one), and times in whole seconds


@dataclass
class Outcome:
    """What came of it: the record as it is now (None: nothing is left to remember), whether anything changed, sentences."""

    record: Record | None
    changed: bool
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where the encrypted token goes on the controller, and for how long it is valid, in s."""

    file: Path
    ttl: int


def grant(apis: list[Api], record: Record, key: PublicKey, homes: list[str], place: Place) -> Outcome:
    """Exchange the token that the shares made for one that ends.

    Killed anywhere, the next run goes on: a token that it made and nobody can open is found by its mark and revoked.

    Args:
        apis: the members' APIs.
        record: with the token that the server encrypted.
        key: of the operator.
        homes: GnuPG homes at hand.
        place: where the result goes.

    Raises:
        NoLeaderError: no active node.
        CeremonyError: the operator's key is not at hand, or the token is none of root's.
    """
    generated = _decrypted(base64.b64decode(record.message), record, homes, "the root token that the shares made")
    bundles.prepare_directory(place.file)
    api, _ = active_node(apis)
    with Server(api.node, api.ca_file, api.timeout, _CONCURRENCY) as server:
        server.act_with(generated)
        policies = api.token_policies(generated)
        if policies is None:
            return _resumed(api, record, homes, place)
        if policies != ["root"]:
            raise CeremonyError(f"The token that the shares made is no root token (its policies are {', '.join(policies)}).")
        own = str((server.read("auth/token/lookup-self") or {}).get("accessor"))
        made = server.write("auth/token/create-orphan", _wanted(record, place.ttl))["auth"]
        bundles.write(place.file, encrypt(Secret(str(made["client_token"])), key))
        accessor = str(made["accessor"])
        told, swept = _swept(server, record, {own, accessor})
        api.revoke_token(generated)
        if api.token_policies(generated) is not None:
            raise CeremonyError(
                f"{api.node.name} still accepts the root token that the shares made, after its revocation: run this again, "
                "and look at that server's journal when it stays so."
            )
    told.append("The token that the shares made is revoked, and the server no longer accepts it.")
    now = float(api.health().second)
    done = _granted(replace(record, unswept=not swept), accessor, now + place.ttl, place.file, now)
    return Outcome(done, True, [*told, handed_over(done, place)])


def _granted(record: Record, accessor: str, expires: float, file: Path, now: float) -> Record:
    """Return the record of a token that is in its file on this controller."""
    digest = _digest(file.read_bytes())
    return replace(record, message="", nonce="", given=(), accessor=accessor, expires=expires, digest=digest, written=now)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def handed_over(record: Record, place: Place) -> str:
    """Say where the token is, how it is read, and how it ends."""
    return (
        f"{record.operator} has a root token until {moment(record.expires)}, in {place.file}, encrypted to "
        f"{record.fingerprint}: `gpg --decrypt {place.file}` shows it. End it as soon as the work is done, with {DISCARD}."
    )


def discard(apis: list[Api], record: Record | None, homes: list[str], file: Path) -> Outcome:
    """Revoke the token that was handed over, before it ends by itself, and prove that it is gone.

    A token that the shares made and that was not exchanged yet is revoked too, and what was made with it: a run that was
    killed in the middle of the exchange has told no node of that. An attempt that wants shares is cancelled on the node, not
    here; and the file is removed after this, when no node remembers the token any more.

    Args:
        apis: the members' APIs.
        record: what is known; None: nothing but what the file tells.
        homes: GnuPG homes at hand.
        file: where the encrypted token is on this controller.

    Raises:
        NoLeaderError: no active node.
        CeremonyError: the token, or the key that opens it, is not at hand; or its file is another token's.
    """
    api, health = active_node(apis)
    told: list[str] = []
    valid = record is not None and record.granted(health.second)
    if record is not None and record.message:
        generated = _decrypted(base64.b64decode(record.message), record, homes, "the root token that the shares made")
        looked, swept = _look_through(api, generated, record)
        told += looked
        record = replace(record, unswept=not swept)
        told.append(_revoked(api, generated, "The root token that the shares made"))
    ended = record is not None and bool(record.accessor) and not valid
    content = file.read_bytes() if file.is_file() else None
    if record is not None and valid and (content is None or record.digest not in ("", _digest(content))):
        has = f"no {file}" if content is None else f"another token in {file}"
        raise CeremonyError(
            f"{record.operator} has a root token until {moment(record.expires)}, and this controller has {has}: let "
            f"{record.operator} run this where it was made, or wait until it ends by itself."
        )
    if content is not None and not ended:  # it may be valid, whatever the nodes remember
        token = _decrypted(content, record if valid else None, homes, f"the token in {file}")
        told.append(_revoked(api, token, f"The root token in {file}"))
    elif ended:
        told.append("The root token had ended by itself.")
    elif record is not None and record.message:
        told.append(
            f"This controller has no {file}: where another one ran {PLAYBOOK}, run this there too, so that no token is left "
            "in its file."
        )
    left = given_up(record, float(api.health().second))
    return Outcome(left, bool(told) or left != record, told)


def given_up(record: Record | None, now: float) -> Record | None:
    """Return what is to be remembered of an attempt that is given up, or of a token that has ended; pure.

    Its last share may have been given without an answer, or not all tokens could be looked through: a token that was made so
    is revoked by the next run, which has to know since when there may be one, and which attempts a node that leads again can
    still have in memory.
    """
    if record is None:
        return None
    open_ended = (record.nonce or record.earlier) and not (record.message or record.accessor)
    if not (open_ended or record.unswept):
        return None
    earlier = (*record.earlier, record.nonce) if record.nonce else record.earlier
    left = replace(record, nonce="", given=(), earlier=earlier, message="", accessor="", expires=0.0, digest="")
    return record if left == record else replace(left, written=now)


def _look_through(api: Api, generated: Secret, record: Record) -> tuple[list[str], bool]:
    """Revoke what a killed run made with the token of the shares, while that is valid; return what `_swept` does."""
    if api.token_policies(generated) != ["root"]:  # the run that revoked it looked
        return [], not record.unswept
    with Server(api.node, api.ca_file, api.timeout, _CONCURRENCY) as server:
        server.act_with(generated)
        own = str((server.read("auth/token/lookup-self") or {}).get("accessor"))
        return _swept(server, record, {own})


def _revoked(api: Api, token: Secret, what: str) -> str:
    if api.token_policies(token) is None:
        return f"{what} was not valid any more."
    api.revoke_token(token)
    if api.token_policies(token) is not None:
        raise CeremonyError(f"{api.node.name} still accepts the token after its revocation: run this again.")
    return f"{what} is revoked, and the server no longer accepts it."


def _wanted(record: Record, ttl: int) -> dict[str, Any]:
    return {
        "policies": ["root"],
        "ttl": f"{ttl}s",
        "explicit_max_ttl": f"{ttl}s",
        "renewable": False,
        "no_default_policy": True,
        "display_name": f"break-glass-{record.operator}",
        "meta": {"made_by": MARK, "for": record.operator},
    }


def _resumed(api: Api, record: Record, homes: list[str], place: Place) -> Outcome:
    """Go on where a run was killed after it had revoked the token that the shares made."""
    left = given_up(record, float(api.health().second))
    if not place.file.is_file():
        return Outcome(
            left,
            True,
            ["The root token that the shares made is not valid any more, and none was handed over: begin again."],
        )
    token = _decrypted(place.file.read_bytes(), record, homes, f"the token in {place.file}")
    found = api.token(token)
    if found is None:
        place.file.unlink()
        return Outcome(left, True, [f"The token in {place.file} is not valid any more: it was removed. Begin again."])
    expires = float(found["creation_time"]) + float(found["creation_ttl"])
    done = _granted(record, str(found["accessor"]), expires, place.file, float(api.health().second))
    return Outcome(done, True, [handed_over(done, place)])


def _swept(server: Server, record: Record, keep: set[str]) -> tuple[list[str], bool]:
    """As `_sweep`, and tell whether all were looked through.

    The token of the shares, which never ends, is revoked in any case: what fails here is only told of, and remembered.
    """
    try:
        return _sweep(server, record, keep), True
    except SecretsError as error:
        told = (
            f"Not all tokens could be looked through ({str(error).rstrip('.')}): what an earlier run left over when it was "
            f"killed may still be valid. The next {PLAYBOOK} looks through them again."
        )
        return [told], False


def _sweep(server: Server, record: Record, keep: set[str]) -> list[str]:
    """Revoke what runs of this operator's attempt left over when they were killed, and tell of other root tokens."""
    told = []
    accessors = [accessor for accessor in server.names("auth/token/accessors") if accessor not in keep]
    for token in server.each(accessors, lambda accessor: _by_accessor(server, accessor)):
        if token.get("policies") != ["root"]:
            continue
        if left_over(token, record):
            server.write("auth/token/revoke-accessor", {"accessor": token["accessor"]})
            told.append(f"A root token of {moment(token['creation_time'])} that a killed run left over is revoked.")
        else:
            ends = f"ends on {token['expire_time']}" if token.get("expire_time") else "never ends"
            told.append(
                f"There is another root token, made on {moment(token['creation_time'])}, which {ends} (accessor "
                f"{token['accessor']}). Where nobody needs it: revoke it by this accessor."
            )
    return told


def left_over(token: Mapping[str, Any], record: Record) -> bool:
    """Whether a killed run made a root token: it is marked as ours, or shares made it since our attempt began; pure."""
    if (token.get("meta") or {}).get("made_by") == MARK:
        return True
    return token.get("path") == "auth/token/root" and float(token["creation_time"]) >= record.since - _CLOCKS


def _by_accessor(server: Server, accessor: str) -> dict[str, Any]:
    try:
        answer = server.write("auth/token/lookup-accessor", {"accessor": accessor})
    except RefusedError as error:  # it ended meanwhile
        if error.status in _GONE or any(_GONE_REASON in reason for reason in error.reasons):
            return {}
        raise
    return dict(answer.get("data") or {})


def _decrypted(message: bytes, record: Record | None, homes: list[str], what: str) -> Secret:
    rings = Keyrings.open(homes)
    if record is None:  # nobody remembers whose it is, for sure
        for fingerprint in rings.homes:
            with suppress(PgpError):
                return rings.decrypt(message, fingerprint, what)
        raise CeremonyError(
            f"No key at hand opens {what}: let its operator run this with that key at hand, or remove the file once it is "
            "older than vault_cluster_root_token_ttl. Until then nothing is forgotten."
        )
    if not rings.holds(record.fingerprint):
        lost = f" Where that key is lost, {PLAYBOOK} for another operator revokes it." if record.message else ""
        raise CeremonyError(
            f"{what[0].upper()}{what[1:]} is encrypted to {record.operator} ({record.fingerprint}), whose secret key is "
            f"in no keyring at hand: let {record.operator} run this.{lost}"
        )
    return rings.decrypt(message, record.fingerprint, what)
