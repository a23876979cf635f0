"""The check of a history: nothing that was acknowledged was lost, nothing old came back, nothing came from nowhere.

Each key is written by one lane, one request after the other; all lanes read it. A write takes effect once, at some moment
between its beginning and its acknowledgement. One of unknown outcome takes effect once, at any moment after its beginning,
after later writes too, or never; one that was refused never does. No value is sent twice, not by a second attempt either:
of a value that could take effect twice, reads say less.

So the secret holds each value during one stretch of time, and whatever was read can be held against the others: with `first`
the earliest end of a value's requests (its acknowledgement, its reads) and `last` the latest beginning, a value precedes
another if its first is before the other's last. Two values that precede each other cannot be. That finds every history that
a register cannot have, and no other (linearizability, Herlihy and Wing, 1990; zones, Gibbons and Korach, Testing shared
memories, 1997).

What nobody read, the check cannot miss: a write is seen to be lost by a read between its acknowledgement and the next write
of its key. client.py therefore reads each key right before it writes it over, and all keys in the end. What is rolled back
between that read and the write that follows it at once, or comes back before the read, stays unseen.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise, takewhile
from math import isfinite

NEVER = float("inf")


@dataclass(frozen=True)
class Request:
    """One request of a lane; see `client.Told`."""

    lane: str
    kind: str
    key: str
    value: str | None
    begin: float
    end: float
    outcome: str
    address: str = ""
    error: str = ""
    retry: bool = False
    place: str = ""
    patient: bool = True
    last: bool = False

    @property
    def done(self) -> bool:
        """Whether it was acknowledged."""
        return self.outcome == "done"


@dataclass
class _Value:
    """What a secret held for a time.

    Attributes:
        begin: of its write.
        first: by when it certainly was there; NEVER: nobody knows whether it ever was.
        last: when it may still have been to come, or was still to be read.
        refused: it certainly was never there.
    """

    begin: float
    first: float
    last: float
    refused: bool = False

    def precedes(self, other: _Value) -> bool:
        """Return whether it was certainly there before the other one was for the last time."""
        return self.first <= other.last


@dataclass(frozen=True)
class Violation:
    """A read that cannot be.

    Attributes:
        kind: stale, lost (stale, and nobody read anything newer afterwards) or invented.
        read: the request.
        sentence: what is wrong.
    """

    kind: str
    read: Request
    sentence: str


def parse(lines: Iterable[str]) -> list[Request]:
    """Return the requests that a client told, one line of JSON each."""
    return [Request(**json.loads(line)) for line in lines if line.strip()]


def violations(requests: Sequence[Request]) -> list[Violation]:
    """Return the reads that cannot be, in the order in which they ended; none in a sound history.

    Raises:
        ValueError: a value was sent twice.
    """
    found = []
    for key in sorted({each.key for each in requests}):
        of_key = [each for each in requests if each.key == key]
        reads = sorted((each for each in of_key if each.kind == "read" and each.done), key=lambda each: each.end)
        found += _judge(reads, _written(each for each in of_key if each.kind == "write"))
    return sorted(found, key=lambda each: each.read.end)


def _written(writes: Iterable[Request]) -> dict[str | None, _Value]:
    """Return the values of a key, the oldest first: None is there before all others."""
    values: dict[str | None, _Value] = {None: _Value(-NEVER, -NEVER, -NEVER)}
    for each in sorted(writes, key=lambda each: each.begin):
        if each.value in values:
            raise ValueError(f"{each.value} was written twice: a history of such values is not judged.")
        values[each.value] = _Value(each.begin, each.end if each.done else NEVER, each.begin, each.outcome == "refused")
    return values


def _judge(reads: Sequence[Request], values: Mapping[str | None, _Value]) -> list[Violation]:
    """Judge the reads of a key, in the order of their ends: what was read without fault counts for those that follow."""
    names, begins = list(values), [each.begin for each in values.values()]
    found: list[Violation] = []
    sound: list[Request] = []
    for read in reads:
        value = values.get(read.value)
        if value is None or value.refused or value.begin > read.end:
            why = "was never written" if value is None else "was refused" if value.refused else "had not been written"
            found.append(Violation("invented", read, f"{_name(read)} gave {read.value}, which {why}."))
            continue
        with_it = replace(value, first=min(value.first, read.end), last=max(value.last, read.begin))
        # Others can only be in its way where their last is not before its first: those written, or read, since.
        written = names[bisect_left(begins, with_it.first) : bisect_right(begins, with_it.last)]
        others = (name for name in chain(reversed(written), _read_since(with_it.first, sound)) if name != read.value)
        newer = next((name for name in others if values[name].precedes(with_it) and with_it.precedes(values[name])), None)
        if newer is None:
            value.first, value.last = with_it.first, with_it.last
            sound.append(read)
            continue
        later = any(
            each.begin > read.end and each.value in values and values[each.value].begin >= values[newer].begin
            for each in reads
        )
        sentence = f"{_name(read)} gave {read.value}, after {newer} had been acknowledged or read."
        found.append(Violation("stale" if later else "lost", read, sentence))
    return found


def _read_since(moment: float, reads: Sequence[Request]) -> Iterator[str | None]:
    """Return what those read, in the order of their ends, that did not end before a moment; the newest first."""
    return (each.value for each in takewhile(lambda each: each.end >= moment, reversed(reads)))


def _name(read: Request) -> str:
    return f"The read of {read.key} by {read.lane} at {read.address or 'its server'} ({read.begin:.3f} to {read.end:.3f} s)"


@dataclass(frozen=True)
class Gap:
    """A time without an acknowledged write: its beginning and length, s."""

    begin: float
    length: float


@dataclass(frozen=True)
class Figures:
    """What a load went through.

    Attributes:
        writes: acknowledged.
        reads: answered.
        failed: values of patient lanes whose first attempt failed, and reads likewise.
        failed_with_retry: lane → of them, those whose second attempt failed as well; lanes without any are left out. A
            program that knows one node alone cannot do without it, and fails for as long as it is down.
        gap: the longest without an acknowledged write, of all lanes together; before the first and after the last as well
            where it is said when it began and ended.
        gaps: the same of each place by itself.
        errors: why first attempts failed → how many.
    """

    writes: int
    reads: int
    failed: int
    failed_with_retry: Mapping[str, int]
    gap: Gap
    gaps: Mapping[str, Gap]
    errors: Mapping[str, int] = field(default_factory=dict)


def figures(requests: Sequence[Request], begin: float = -NEVER, end: float = NEVER) -> Figures:
    """Return what a load went through between two moments, s."""
    within = _begun_within(requests, begin, end)
    done = [each for each in within if each.done]
    errors: dict[str, int] = {}
    for each in within:
        if each.patient and not each.done and not each.retry:
            words = f"{each.kind}: {each.error}"
            errors[words] = errors.get(words, 0) + 1
    acknowledged = [each for each in requests if each.kind == "write" and each.done]
    return Figures(
        writes=sum(each.kind == "write" for each in done),
        reads=sum(each.kind == "read" for each in done),
        failed=sum(each.patient and not each.done and not each.retry for each in within),
        failed_with_retry=dict(Counter(each.lane for each in within if not each.done and each.retry)),
        gap=longest_gap((each.end for each in acknowledged), begin, end),
        gaps={
            place: longest_gap((each.end for each in acknowledged if _place(each) == place), begin, end)
            for place in sorted({_place(each) for each in requests})
        },
        errors=errors,
    )


def _begun_within(requests: Sequence[Request], begin: float, end: float) -> list[Request]:
    """Return the requests whose first attempt was begun between two moments: a second attempt belongs to the first."""
    begun: dict[str, float] = {}
    found = []
    for each in sorted(requests, key=lambda each: each.begin):
        if not each.retry:
            begun[each.lane] = each.begin
        if begin <= begun.get(each.lane, each.begin) <= end:
            found.append(each)
    return found


def _place(request: Request) -> str:
    return request.place or request.lane


def longest_gap(moments: Iterable[float], begin: float = -NEVER, end: float = NEVER) -> Gap:
    """Return the longest time between neighbours of those from `begin` to `end`, which count as well where they are finite.

    Without two moments it is endless.
    """
    bounds = [each for each in (begin, end) if isfinite(each)]
    ordered = sorted([*bounds, *(each for each in moments if begin <= each <= end)])
    gaps = [Gap(one, other - one) for one, other in pairwise(ordered)]
    return max(gaps, key=lambda each: each.length, default=Gap(0.0, NEVER))
