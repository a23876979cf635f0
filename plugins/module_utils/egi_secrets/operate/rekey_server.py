"""The server's side of a rekey, asked on the active node.

What was found of the real server (OpenBao 2.7.2), and leans on here:

* An attempt lives in the memory of the node that leads. Another leader does not know it; the one that stepped down keeps it,
  dealt keys and all, and goes on with it when it leads again. So an attempt is known by its nonce, and cancelled where it is
  not ours, or no longer.
* A share that an attempt has is refused as such; a verification takes it twice, and then refuses the set. A set that is
  complete and wrong is forgotten, all of it.
* With PGP keys a fault of one of them shows only when the last share is in.
* A verification that fails, or is cancelled, gets a new nonce; the attempt keeps its own.
* The unauthenticated attempt that a standby lets strangers start (sys/rekey) is another one, and does not disturb this one.

Source of the calls: https://openbao.org/api-docs/system/rotate/; HashiCorp Vault has the same below sys/rekey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..api import Secret
from ..errors import CeremonyError, RefusedError
from ..keys import Holder, Ours
from ..products import Product
from ..reconcile.server import Server
from ..unseal import is_wrong_key


@dataclass(frozen=True)
class Attempt:
    """The attempt that a server has.

    Attributes:
        nonce: its name.
        threshold: shares that will be needed.
        fingerprints: for each new share that of the primary key, upper case; empty: they would be in clear.
        progress: shares received.
        required: shares needed.
        verified: whether the new shares must be verified before they count.
        verifying: nonce of the verification; empty before the shares are dealt.
    """

    nonce: str
    threshold: int
    fingerprints: tuple[str, ...]
    progress: int
    required: int
    verified: bool
    verifying: str

    def is_ours(self, ours: Ours | None) -> bool:
        """Whether it is the attempt that our own run started, for the same shares and keys; pure."""
        if ours is None:
            return False
        wanted = tuple(holder.fingerprint for holder in ours.holders)
        return (self.nonce, self.threshold, self.fingerprints, self.verified) == (ours.nonce, ours.threshold, wanted, True)


@dataclass(frozen=True)
class Given:
    """What came of giving shares.

    Attributes:
        progress: shares that the server has.
        messages: new shares, base64 of a PGP message each, once they are dealt.
        complete: whether what was asked for is done.
        wrong: whether the shares were complete and refused, somebody else's not among them.
        disturbed: whether the shares were complete and refused with somebody else's among them, and ours given again alone.
    """

    progress: int
    messages: tuple[str, ...] = ()
    complete: bool = False
    wrong: bool = False
    disturbed: bool = False


class RekeyServer:
    """The active node's endpoints for a rekey, as an operator may use them.

    Args:
        server: its API, acting as an operator.
        product: which product it is.
    """

    def __init__(self, server: Server, product: Product) -> None:
        self.server = server
        self._api = product.api

    def attempt(self) -> Attempt | None:
        """Return the attempt under way."""
        found = self._ask("GET", "rekey_init")
        return _attempt(found) if found.get("started") else None

    def begin(self, holders: tuple[Holder, ...], threshold: int, keys: Mapping[str, str]) -> Attempt:
        """Begin an attempt.

        Args:
            holders: who is to hold each share.
            threshold: shares that are to be needed.
            keys: fingerprint → binary public key, base64.

        Raises:
            CeremonyError: the server encrypts to other keys than it was given.
        """
        body = {
            "secret_shares": len(holders),
            "secret_threshold": threshold,
            "pgp_keys": [keys[holder.fingerprint] for holder in holders],
            "require_verification": True,
            "backup": False,
        }
        begun = _attempt(self._ask("POST", "rekey_init", body))
        if not begun.is_ours(Ours(begun.nonce, threshold, holders)):
            self.cancel()
            raise CeremonyError(
                f"{self.server.node.name} began a rekey for other shares or keys than it was given; it was cancelled, and "
                "the old shares are valid. Look at that server: it is not what it should be."
            )
        return begun

    def cancel(self) -> None:
        """Have the server forget the attempt under way, new shares included.

        HashiCorp Vault cancels from 1.20 on only what is named by its nonce; who needs none does not read it.
        """
        attempt = self.attempt()
        self._ask("DELETE", "rekey_init", {"nonce": attempt.nonce} if attempt else None)

    def give(self, attempt: Attempt, shares: list[Secret]) -> Given:
        """Give old shares, until the new ones are dealt or none is left.

        A set that is refused with somebody else's shares in it is begun again with ours.
        """
        try:
            return self._give(attempt, attempt.progress, shares)
        except RefusedError as error:
            if not is_wrong_key(error):
                raise
        if not attempt.progress:
            return Given(0, wrong=True)
        try:
            return replace(self._give(attempt, 0, shares), disturbed=True)
        except RefusedError as error:
            if not is_wrong_key(error):
                raise
        return Given(0, wrong=True, disturbed=True)

    def verification(self, attempt: Attempt) -> int:
        """Return how many new shares the verification has."""
        return int(self._ask("GET", "rekey_verify").get("progress") or 0) if attempt.verifying else 0

    def verify_afresh(self) -> str:
        """Have the server forget the shares of the verification, and return the nonce of the new one."""
        return str(self._ask("DELETE", "rekey_verify").get("nonce") or "")

    def verify(self, nonce: str, progress: int, shares: list[Secret]) -> Given:
        """Give new shares that the verification does not have yet."""
        for share in shares:
            try:
                answer = self._ask("POST", "rekey_verify", {"key": share.reveal(), "nonce": nonce})
            except RefusedError as error:
                if "incorrect key shares" in " ".join(error.reasons) or is_wrong_key(error):
                    return Given(0, wrong=True)
                raise
            if answer.get("complete"):
                return Given(progress + 1, complete=True)
            progress = int(answer.get("progress") or 0)
        return Given(progress)

    def _give(self, attempt: Attempt, progress: int, shares: list[Secret]) -> Given:
        for share in shares:
            try:
                answer = self._ask("POST", "rekey_update", {"key": share.reveal(), "nonce": attempt.nonce})
            except RefusedError as error:
                if "already been provided" in " ".join(error.reasons):
                    continue
                raise
            if answer.get("complete"):
                messages = tuple(str(each) for each in answer.get("keys_base64") or [])
                return Given(progress + 1, messages, complete=True)
            progress = int(answer.get("progress") or 0)
        return Given(progress)

    def _ask(self, method: str, endpoint: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        answer = self.server.request(method, self._api[endpoint], body) or {}
        data = answer.get("data")  # OpenBao wraps what Vault says as it is
        return data if isinstance(data, dict) else answer


def _attempt(answer: Mapping[str, Any]) -> Attempt:
    return Attempt(
        nonce=str(answer.get("nonce") or ""),
        threshold=int(answer.get("t") or 0),
        fingerprints=tuple(str(each).upper() for each in answer.get("pgp_fingerprints") or []),
        progress=int(answer.get("progress") or 0),
        required=int(answer.get("required") or 0),
        verified=bool(answer.get("verification_required")),
        verifying=str(answer.get("verification_nonce") or ""),
    )
