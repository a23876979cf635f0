"""The check of a history: nothing that was acknowledged was lost, nothing old came back, nothing came from nowhere.

Each key is written by one lane, one request after the other, with values that are never used twice; all lanes read it. So
every read can be held against what must have been true (linearizability of a register whose writes may have an unknown
outcome; Herlihy and Wing, 1990): a write takes effect once, at some moment between its beginning and its acknowledgement;
one of unknown outcome takes effect at any moment after its beginning, or never, and when it did is known once its value was
read.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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

    @property
    def done(self) -> bool:
        """Whether it was acknowledged."""
        return self.outcome == "done"


@dataclass
class _Write:
    """A value that was sent, in one attempt or two.

    Attributes:
        begin: of the first attempt that may have been carried out.
        settled: by when it certainly was; NEVER: nobody knows.
        refused: no attempt may have been carried out.
    """

    begin: float
    settled: float
    refused: bool


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
    """Return the reads that cannot be, in the order in which they ended; none in a sound history."""
    found = []
    for key in sorted({each.key for each in requests}):
        of_key = [each for each in requests if each.key == key]
        reads = sorted((each for each in of_key if each.kind == "read" and each.done), key=lambda each: each.end)
        writes = _writes(each for each in of_key if each.kind == "write")
        found += _judge(reads, writes)
    return sorted(found, key=lambda each: each.read.end)


def _writes(requests: Iterable[Request]) -> dict[str, _Write]:
    writes: dict[str, _Write] = {}
    for each in sorted(requests, key=lambda each: each.begin):
        known = writes.get(str(each.value))
        settled = each.end if each.done else NEVER
        if known is None:
            writes[str(each.value)] = _Write(each.begin, settled, each.outcome == "refused")
        elif each.outcome != "refused":
            # A second attempt with the same value.
            known.begin = each.begin if known.refused else known.begin
            known.settled = min(known.settled, settled)
            known.refused = False
    return dict(sorted(writes.items(), key=lambda item: item[1].begin))


def _judge(reads: Sequence[Request], writes: Mapping[str, _Write]) -> list[Violation]:
    """Judge the reads of a key, in the order of their ends: a value that was read is known to have been written by then."""
    settled = {value: write.settled for value, write in writes.items()}
    found = []
    for read in reads:
        write = writes.get(read.value) if read.value is not None else None
        if read.value is not None and (write is None or write.refused or write.begin > read.end):
            why = "was refused" if write and write.refused else "had not been written" if write else "was never written"
            found.append(Violation("invented", read, f"{_name(read)} gave {read.value}, which {why}."))
            continue
        newer = _newer(read, writes, settled)
        if newer is not None:
            later = any(
                each.begin > read.end and each.value is not None and writes[each.value].begin >= writes[newer].begin
                for each in reads
                if each.value is None or each.value in writes
            )
            kind = "stale" if later else "lost"
            found.append(
                Violation(kind, read, f"{_name(read)} gave {read.value}, after {newer} had been acknowledged or read.")
            )
            continue
        if read.value is not None:
            settled[read.value] = min(settled[read.value], read.end)
    return found


def _newer(read: Request, writes: Mapping[str, _Write], settled: Mapping[str, float]) -> str | None:
    """Return a value that had certainly replaced what was read before the read began; None where there is none."""
    was_there = settled[read.value] if read.value is not None else -NEVER
    for value, write in reversed(list(writes.items())):  # by their beginning; the newest is most often the one
        if write.begin < was_there:
            break
        if settled[value] <= read.begin and not write.refused:
            return value
    return None


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
        gap: the longest between acknowledged writes, of all lanes together.
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
    within = [each for each in requests if begin <= each.begin <= end]
    done = [each for each in within if each.done]
    acknowledged = [each for each in done if each.kind == "write"]
    errors: dict[str, int] = {}
    for each in within:
        if each.patient and not each.done and not each.retry:
            words = f"{each.kind}: {each.error}"
            errors[words] = errors.get(words, 0) + 1
    return Figures(
        writes=len(acknowledged),
        reads=len(done) - len(acknowledged),
        failed=sum(each.patient and not each.done and not each.retry for each in within),
        failed_with_retry=dict(Counter(each.lane for each in within if not each.done and each.retry)),
        gap=longest_gap(each.end for each in acknowledged),
        gaps={
            place: longest_gap(each.end for each in acknowledged if _place(each) == place)
            for place in sorted({_place(each) for each in within})
        },
        errors=errors,
    )


def _place(request: Request) -> str:
    return request.place or request.lane


def longest_gap(moments: Iterable[float]) -> Gap:
    """Return the longest time between neighbours; endless where there are fewer than two."""
    ordered = sorted(moments)
    gaps = [Gap(one, other - one) for one, other in itertools.pairwise(ordered)]
    return max(gaps, key=lambda each: each.length, default=Gap(0.0, NEVER))
