"""What a rekey does next: a pure function of the unseal bundle, the server's attempt, and what the inventory wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..bundle import Bundle
from ..keys import Holder, KeySet, Pending
from ..products import AUDIT_LOG
from .rekey_server import Attempt

Do = Literal["nothing", "begin", "give", "verify", "prove", "begin proof", "switch"]


@dataclass(frozen=True)
class Wanted:
    """What the inventory wants of the keys.

    Attributes:
        threshold: shares that are to be needed.
        holders: who is to hold each, by which key.
        anew: deal new shares even to those who hold the old ones.
    """

    threshold: int
    holders: tuple[Holder, ...]
    anew: bool = False

    def is_of(self, keys: KeySet) -> bool:
        """Whether these keys are as wanted."""
        return (keys.threshold, keys.holders) == (self.threshold, self.holders)

    def is_of_attempt(self, pending: Pending) -> bool:
        """Whether a rekey under way deals these keys."""
        return (pending.attempt.threshold, pending.attempt.holders) == (self.threshold, self.holders)


@dataclass(frozen=True)
class Decision:
    """What is next.

    Attributes:
        do: begin an attempt, give it old shares, verify the new ones, find out which are in force, or take the new ones up.
        why: for the operator, where it is not what one expects; else empty.
        cancel: whether the server's attempt must be cancelled first.
    """

    do: Do
    why: str = ""
    cancel: bool = False


def decide(bundle: Bundle, wanted: Wanted, attempt: Attempt | None, numbers: tuple[int, int]) -> Decision:
    """Decide what is next; pure.

    Args:
        bundle: the newest copy of the bundle.
        wanted: what the inventory wants.
        attempt: what the server has under way.
        numbers: threshold and number of shares that the active node tells; it reads them when it begins to lead, and changes
            them itself.
    """
    pending = bundle.pending
    if pending is None:
        return _afresh(bundle, wanted, attempt, "")
    ours = attempt if attempt is not None and attempt.is_ours(pending.attempt) else None
    if pending.closing and not (ours and ours.verifying):
        return _settle(bundle, pending, attempt, numbers)
    if ours is None:
        why = "The server forgot the attempt, as it does when another node leads: it begins again. The old shares are valid."
        return _afresh(bundle, wanted, attempt, why)
    return _go_on(bundle, pending, ours, wanted)


def _go_on(bundle: Bundle, pending: Pending, attempt: Attempt, wanted: Wanted) -> Decision:
    """The server has the attempt that the bundle tells of."""
    if not wanted.is_of_attempt(pending):
        why = "The inventory wants other keys than those that were being dealt: that is cancelled. The old shares are valid."
        return Decision("begin" if wants(bundle, wanted) else "nothing", why, cancel=True)
    if pending.shares and attempt.verifying:
        return Decision("verify")
    if pending.shares or attempt.verifying:
        why = "The answer with the new shares was lost: they are given up, and dealt again. The old shares are valid."
        return Decision("begin", why, cancel=True)
    return Decision("give")


def wants(bundle: Bundle, wanted: Wanted) -> bool:
    """Whether there is anything to do. Who goes on with what another began anew need not say so again."""
    begun = bundle.pending is not None and wanted.is_of_attempt(bundle.pending)
    return begun or wanted.anew or not wanted.is_of(bundle.keys)


def _afresh(bundle: Bundle, wanted: Wanted, attempt: Attempt | None, why: str) -> Decision:
    """Begin, where anything is wanted; whatever attempt there is is not ours."""
    do: Do = "begin" if wants(bundle, wanted) else "nothing"
    if attempt is None:
        return Decision(do, why)
    return Decision(do, f"{foreign(attempt)} {why}".strip(), cancel=True)


def _settle(bundle: Bundle, pending: Pending, attempt: Attempt | None, numbers: tuple[int, int]) -> Decision:
    """Find out which keys are in force, when the last share of the verification may have arrived."""
    if numbers == pending.keys.numbers != bundle.keys.numbers:
        return Decision("switch", cancel=attempt is not None)
    # The server takes up its new numbers last of all: that they are the old ones proves nothing.
    why = (
        "The last share of the verification was on its way when a run ended, and the server has no attempt any more: a "
        "threshold of shares is asked for once more, to see which ones are in force."
    )
    if attempt is None:
        return Decision("begin proof", why)
    if not attempt.is_ours(pending.proof):
        return Decision("begin proof", f"{foreign(attempt)} {why}", cancel=True)
    return Decision("begin proof", why, cancel=True) if attempt.verifying else Decision("prove")


def foreign(attempt: Attempt) -> str:
    """Return what is said of an attempt that none of our runs goes on with; pure."""
    number = len(attempt.fingerprints)
    keys = f"of {number} shares, for {', '.join(attempt.fingerprints)}" if number else "shares, for no key at all"
    return (
        f"A rekey was under way that is not the bundle's ({attempt.threshold} {keys}; {attempt.progress} of "
        f"{attempt.required} shares given): it is cancelled, and no share of this keyboard went to it. A run of yours "
        "that was cut off may have left it, or one from when the same node led before: the server keeps it in memory. "
        f"If it is neither, find out in {AUDIT_LOG} who began it."
    )
