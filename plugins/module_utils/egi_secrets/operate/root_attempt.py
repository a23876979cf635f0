"""A root token from a quorum of shares, on the node: shares go to the attempt that our own runs started, and to no other.

Anybody who reaches a standby may start, cancel or spoil such an attempt (docs/security.md, Doors), so what is under way is
compared with what our runs remember each time, and the server itself compares the nonce that comes with each share.

Measured with OpenBao 2.7.2: a share with another attempt's nonce is refused; a set of shares that is not the key is thrown
away while the attempt stays; an attempt is forgotten when another node becomes active, and when it is complete.
Standard library alone: this runs on the nodes.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import NodeError, RefusedError, UnreachableError
from ..node_state import UnixConnection
from ..products import AUDIT_LOG
from ..raft import ELECTION

ATTEMPTS = 5  # how often ours is begun anew, in one run, while somebody replaces it
_NO_LEADER = 500  # to a standby that knows of no active node
_OK = range(200, 300)


@dataclass(frozen=True)
class Attempt:
    """What the server tells of the attempt under way; `message` is the token, base64 of PGP ciphertext, once complete."""

    started: bool
    nonce: str
    fingerprint: str
    progress: int
    required: int
    message: str = ""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Attempt:
        """Read an answer of sys/generate-root."""
        return cls(
            started=bool(answer.get("started")),
            nonce=str(answer.get("nonce") or ""),
            fingerprint=str(answer.get("pgp_fingerprint") or "").upper(),
            progress=int(answer.get("progress") or 0),
            required=int(answer.get("required") or 0),
            message=str(answer.get("encoded_token") or "") if answer.get("complete") else "",
        )


@dataclass(frozen=True)
class Share:
    """A share in clear: its index, whether it is the recipient's own, and the key, which no representation shows."""

    index: int
    own: bool
    key: str = field(repr=False)


@dataclass(frozen=True)
class Wanted:
    """What is wanted.

    Attributes:
        operator: whom the token is for, for messages.
        fingerprint: of their PGP key.
        pgp_key: the key, base64 of OpenPGP packets.
        nonce: the attempt that our runs remember; empty: none.
        given: indexes of the shares that they gave to it.
        shares: those at hand; none: only see to it that an attempt of ours is under way.
        earlier: attempts that our runs started before that one.
    """

    operator: str
    fingerprint: str
    pgp_key: str
    nonce: str = ""
    given: tuple[int, ...] = ()
    shares: tuple[Share, ...] = ()
    earlier: tuple[str, ...] = ()


class Door(Protocol):
    """The server's endpoints of generate-root, as root on the node reaches them."""

    def look(self) -> Attempt:
        """Tell what is under way."""

    def start(self, pgp_key: str) -> Attempt:
        """Start an attempt."""

    def cancel(self) -> None:
        """Cancel the one under way."""

    def submit(self, nonce: str, key: str) -> Attempt:
        """Give a share to the attempt of that nonce."""


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        attempt: as it is now.
        given: indexes of the shares that it has.
        changed: whether anything was sent that changed it.
        messages: what was found, sentences.
    """

    attempt: Attempt
    given: tuple[int, ...]
    changed: bool = False
    messages: list[str] = field(default_factory=list)


def why_afresh(seen: Attempt, wanted: Wanted, nonce: str, given: Sequence[int]) -> str | None:
    """Say why an attempt of ours has to be started, "" where nothing is to be told; None: ours is under way; pure."""
    if not seen.started:
        if not nonce:
            return ""
        return (
            "The attempt that was under way is gone: another node became active, or somebody cancelled it. It was begun "
            "anew; shares that were given to it do no longer count, and are still valid."
        )
    if seen.nonce != nonce:
        return _not_ours(seen, wanted.earlier)
    if seen.fingerprint != wanted.fingerprint.upper():
        return (
            f"The attempt under way is for the PGP key {seen.fingerprint or 'of nobody'}, not for {wanted.operator}'s: it "
            "was cancelled, no share was given to it, and ours was begun anew."
        )
    if seen.progress != len(given):
        return (
            f"The attempt under way has {seen.progress} shares where our runs gave {len(given)}: somebody else sends shares "
            "to it, or a run was killed. It was cancelled and begun anew; what was given to it does no longer count."
        )
    return None


def _not_ours(seen: Attempt, earlier: Sequence[str]) -> str:
    """Say why an attempt that is not the one of our last run is given up; pure."""
    if seen.nonce in earlier:
        return (
            "The node that leads had the attempt under way when it led before, for an earlier run. It was cancelled, "
            "no share was given to it, and a new one was begun. Shares that others were given do no longer count, and are "
            "still valid."
        )
    whose = f"PGP key {seen.fingerprint}" if seen.fingerprint else "no PGP key"
    return (
        f"A STRANGER began the attempt that was under way (nonce {seen.nonce}, for {whose}): no run that the nodes know of "
        "started it. It was cancelled, no share was given to it, and ours was begun anew. Without a threshold of shares it "
        f"was worth nothing; {AUDIT_LOG} tells from where it came (sys/generate-root/attempt). A run of yours that was cut "
        "off as it began, or another operator's at this moment, looks the same: run one after the other."
    )


def turn(left: int, shares: Sequence[Share]) -> list[Share]:
    """Return which shares are given now, in order; pure.

    The share that completes the attempt is the recipient's own: the token is then made where the key is that opens it, and
    exchanged at once for one that ends. So without the recipient one share less than the threshold is given, and the
    recipient's share is kept for the end.

    Args:
        left: shares that the attempt still needs.
        shares: those at hand that it has not got.
    """
    others = [share for share in shares if not share.own]
    own = [share for share in shares if share.own]
    first = others[: left - 1] if left > 0 else []
    if own and len(first) + len(own) >= left:
        return [*first, *own[: left - len(first)]]
    return first


def pursue(door: Door, wanted: Wanted) -> Outcome:
    """Give the shares at hand to our own attempt, beginning it anew where it is not under way.

    Raises:
        NodeError: somebody replaces ours each time, or the shares are not this cluster's.
    """
    nonce, given, told, changed = wanted.nonce, wanted.given, list[str](), False
    wrong_alone = 0
    for _ in range(ATTEMPTS):
        seen = door.look()
        reason = why_afresh(seen, wanted, nonce, given)
        if reason is not None:
            told += [reason] if reason else []
            if seen.started:
                door.cancel()
            try:
                seen = door.start(wanted.pgp_key)
            except RefusedError:
                continue  # somebody was faster; what is under way is looked at again
            if seen.fingerprint != wanted.fingerprint.upper():
                raise NodeError(
                    "",
                    f"The server calls {wanted.operator}'s PGP key {seen.fingerprint or 'nothing'}, gpg calls it "
                    f"{wanted.fingerprint}: no share was given. Compare {wanted.operator}'s pgp_key_file with their key.",
                )
            nonce, given, changed = seen.nonce, (), True
        try:
            seen, given = _give(door, seen, given, wanted.shares)
        except RefusedError as error:
            wrong_alone += _is_wrong(error) and not given
            told.append(_refused(error, wrong_alone))
            given = () if _is_wrong(error) else given
            changed = True
            continue
        return Outcome(seen, given, changed or given != wanted.given, told)
    raise NodeError(
        "",
        f"{ATTEMPTS} times in a row somebody replaced or spoiled our attempt while it was under way; no share was given to "
        f"another one than ours. Find in {AUDIT_LOG} from where sys/generate-root/attempt is asked, refuse that address on "
        "port 8200, and run this again; with a threshold of keyrings at one keyboard it takes milliseconds. "
        + " ".join(told),
    )


def _give(door: Door, seen: Attempt, given: tuple[int, ...], shares: Sequence[Share]) -> tuple[Attempt, tuple[int, ...]]:
    fresh = [share for share in shares if share.index not in given]
    for share in turn(seen.required - seen.progress, fresh):
        seen = door.submit(seen.nonce, share.key)
        given = (*given, share.index)
    return seen, given


def _is_wrong(error: RefusedError) -> bool:
    """Whether the server says that the completed set of shares is not its key, after which it keeps none of them."""
    words = " ".join(error.reasons)
    return any(sign in words for sign in ("aborted", "invalid key", "failed to compute", "message authentication failed"))


def _refused(error: RefusedError, wrong_alone: int) -> str:
    if not _is_wrong(error):
        return f"The attempt changed while shares were given to it ({'; '.join(error.reasons)}): it was looked at again."
    if wrong_alone > 1:  # once may be somebody's share that came between ours
        raise NodeError(
            "",
            "The server does not accept the key that the shares at hand make: the unseal bundle is another cluster's, or "
            "from before a rekey. No token was made.",
        )
    return (
        "A share that the attempt was given is not of this cluster: the server threw all of them away. Anybody may send "
        "one; an operator who ran this before runs it again."
    )


class SocketDoor:
    """The endpoints through the server's Unix socket.

    Args:
        path: of the socket.
        attempt: path of the endpoint below /v1/, from products.py.
        update: the same of the one that takes shares.
        timeout: seconds for each answer.
    """

    def __init__(self, path: Path, attempt: str, update: str, timeout: float) -> None:
        self._path, self._attempt, self._update, self._timeout = path, attempt, update, timeout

    def look(self) -> Attempt:
        """Tell what is under way, waiting for an election to end."""
        deadline = time.monotonic() + ELECTION
        while True:
            try:
                return Attempt.of(self._ask("GET", self._attempt))
            except RefusedError as error:
                if not (error.redirected or error.status == _NO_LEADER) or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def start(self, pgp_key: str) -> Attempt:
        """Start an attempt."""
        return Attempt.of(self._ask("PUT", self._attempt, {"pgp_key": pgp_key}))

    def cancel(self) -> None:
        """Cancel the one under way."""
        self._ask("DELETE", self._attempt)

    def submit(self, nonce: str, key: str) -> Attempt:
        """Give a share to the attempt of that nonce."""
        return Attempt.of(self._ask("PUT", self._update, {"nonce": nonce, "key": key}))

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
        connection = UnixConnection(self._path, self._timeout)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, f"/v1/{path}", content, {"X-Vault-Request": "true"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                "",
                f"The server does not answer {method} {path} on its Unix socket {self._path} ({type(error).__name__}): see "
                "playbooks/operate/show-status.yml, and run this again.",
            ) from None
        finally:
            connection.close()
        try:
            told = json.loads(text) if text else {}
        except ValueError:
            told = {}
        if answer.status in _OK:
            return told if isinstance(told, dict) else {}
        # Without the value of the right nonce, which the server's own words hold.
        reasons = [str(reason).partition(";")[0] for reason in (told.get("errors") or [] if isinstance(told, dict) else [])]
        raise RefusedError(
            "",
            answer.status,
            reasons,
            f"The server refused {method} {path} on its Unix socket: HTTP {answer.status}, "
            f"{'; '.join(reasons) or 'without a reason'}.",
        )


def now() -> float:
    """Return this host's time, whole seconds since the epoch."""
    return float(int(time.time()))
