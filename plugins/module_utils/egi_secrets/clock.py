"""How far apart the members' clocks are, as precisely as a clock that tells whole seconds lets one know.

sys/health tells the server's time in whole seconds. A query sent at `sent` and answered at `received` (the
controller's monotonic clock) with second `s` was read at some moment t between them, when the server's true time S was
within [s, s + 1). Its offset S - t is therefore within (s - received, s + 1 - sent). Offsets do not change within the
measurement, so the intervals of repeated queries are intersected; where the second ticks over between two queries, the
intersection is as narrow as the time between them. The controller's own clock cancels out of every difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

Verdict = Literal["within", "beyond", "undecided"]


@dataclass(frozen=True)
class Offset:
    """Bounds in seconds of one server's clock minus the controller's monotonic clock, `low` <= offset <= `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The best single guess."""
        return (self.low + self.high) / 2

    @property
    def unsure(self) -> float:
        """By how much that may be wrong."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Judgement:
    """Whether all clocks are within the limit; `behind` and `ahead` are the pair furthest apart, by `apart` seconds."""

    verdict: Verdict
    behind: str = ""
    ahead: str = ""
    apart: float = 0.0


def observe(sent: float, received: float, second: int) -> Offset:
    """Return what one answer says of a server's offset.

    Args:
        sent: controller's monotonic time in s just before the query left.
        received: the same just after its answer came.
        second: the server's time in it, whole seconds since the epoch, rounded down.
    """
    return Offset(low=second - received, high=second + 1 - sent)


def narrow(known: Offset | None, seen: Offset) -> Offset:
    """Return what both say together; where they contradict each other (a clock was set meanwhile), the newer alone."""
    if known is None:
        return seen
    both = Offset(low=max(known.low, seen.low), high=min(known.high, seen.high))
    return both if both.low <= both.high else seen


def judge(offsets: Mapping[str, Offset], limit: float) -> Judgement:
    """Decide whether any two clocks are further apart than `limit` seconds.

    Args:
        offsets: for each node what is known of its clock.
        limit: largest difference allowed, s.

    Returns:
        `beyond` when some pair is surely further apart, `within` when no pair can be, `undecided` when more queries are
        needed. The pair named is the one whose clocks look furthest apart.
    """
    pairs = list(permutations(offsets, 2))
    if not pairs:
        return Judgement("within")
    behind, ahead = max(pairs, key=lambda pair: offsets[pair[1]].middle - offsets[pair[0]].middle)
    apart = offsets[ahead].middle - offsets[behind].middle
    if any(offsets[b].low - offsets[a].high > limit for a, b in pairs):
        verdict: Verdict = "beyond"
    elif all(offsets[b].high - offsets[a].low <= limit for a, b in pairs):
        verdict = "within"
    else:
        verdict = "undecided"
    return Judgement(verdict, behind, ahead, apart)
