"""What the parts of the checker pass to each other. All of it is immutable; nothing here does anything.

Times called `now`, `…_at` or `…_since` are seconds of this host's monotonic clock, which goes on from one run to the
next and does not jump when the clock is set. Times of other hosts are never compared with it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

NEVER = float("-inf")


class Kind(enum.StrEnum):
    """How a probe of a site ended."""

    OK = "ok"
    """A write through the site was committed."""
    FORWARDED = "forwarded"
    """A timely 403: the request reached the active node, which does not know us. The site serves; we have a problem."""
    LOCAL = "local"
    """The site itself is at fault: unreachable, no valid TLS for the name, sealed."""
    WRITE = "write"
    """The site takes requests, and a write through it fails. During an election that is so at every site."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one probe of a site found.

    Args:
        kind: how it ended.
        why: in a few words, where it failed.
        role: what sys/health said after a failed write: active, standby, sealed, uninitialised; otherwise empty.
        ms: how long it took, milliseconds.
    """

    kind: Kind
    why: str = ""
    role: str = ""
    ms: float = 0.0

    @property
    def serves(self) -> bool:
        """Whether a user's write would have got through."""
        return self.kind in (Kind.OK, Kind.FORWARDED)


@dataclass(frozen=True, slots=True)
class Score:
    """An observer's history of one site under one name.

    Args:
        fails: failures in a row.
        oks: successes in a row.
        serving: the verdict: True after `rise` successes, False after `fall` failures, None while it is not known yet.
        since: when the verdict last changed.
        why: what the last failure was.
    """

    fails: int = 0
    oks: int = 0
    serving: bool | None = None
    since: float = NEVER
    why: str = ""


class Standing(enum.StrEnum):
    """How a site stands with one observer."""

    UP = "up"
    DOWN = "down"
    DOUBT = "doubt"


@dataclass(frozen=True, slots=True)
class View:
    """What an observer has seen: name → site → standing."""

    names: Mapping[str, Mapping[str, Standing]] = field(default_factory=dict)

    def standing(self, name: str, site: str) -> Standing:
        """Return how a site stands; in doubt where the observer says nothing of it."""
        return self.names.get(name, {}).get(site, Standing.DOUBT)


@dataclass(frozen=True, slots=True)
class Watched(Generic[T]):
    """A key of the cluster that others write, as watched by our own clock.

    That it changed is seen by its version. So how old it is can be told without comparing clocks.

    Args:
        value: what it holds; None where there is none.
        version: its version in the KV store; 0 where there is none.
        changed_after: its last change was surely after this.
        seen_since: it has surely not changed since this.
        read_at: when it was last read.
    """

    value: T | None
    version: int
    changed_after: float
    seen_since: float
    read_at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A site that is no candidate.

    Args:
        until: seconds since the epoch by the cluster's clock; 0: until it is released.
        by: who holds it.
        why: what for.
    """

    until: float = 0.0
    by: str = ""
    why: str = ""


class Phase(enum.StrEnum):
    """Where the holder of a lease is."""

    MOVING = "moving"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move a name, taken by compare-and-set.

    Args:
        holder: the observer.
        phase: whether it is at work.
        source: where the name was: a site, or what was found instead.
        target: the site it goes to.
        why: why it moves, or why that failed.
        lock: seconds that nobody may send an update, counted from when each observer first sees this version.
        at: seconds since the epoch by the cluster's clock, for people.
    """

    holder: str
    phase: Phase
    source: str
    target: str
    why: str
    lock: float = 0.0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one DNS server of the zone says of a name.

    Args:
        server: its name in the settings.
        addresses: sorted; empty and no error: it says that there is no record.
        error: why it said nothing; empty where it did.
        ttl: for how long resolvers may go on saying so, s.
    """

    server: str
    addresses: tuple[str, ...] = ()
    error: str = ""
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the DNS servers say that a name is.

    Args:
        primary: place by the primary; None where it did not answer.
        places: all that are given, in the order of the servers: a site, an address of no site, or `no record`.
        silent: servers that did not answer.
    """

    primary: str | None
    places: tuple[str, ...]
    silent: tuple[str, ...] = ()

    @property
    def agreed(self) -> str | None:
        """The one place that all servers give that answer; None where they differ or none answers."""
        return self.places[0] if len(set(self.places)) == 1 else None


NO_RECORD = "no record"


class Consequence(enum.StrEnum):
    """What an answer of the DynDNS server means for us."""

    SENT = "sent"
    """Taken, or so it says: DNS shows whether it is true."""
    UNCHANGED = "unchanged"
    """It believes that nothing has to change; it looks at its second name server, and may be wrong."""
    LOCKED = "locked"
    """It could not update the primary, and refuses the whole domain for two minutes."""
    RETRY = "retry"
    """No answer, or none that is understood."""
    STOP = "stop"
    """It refuses us; asking again makes it worse."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The DynDNS server's answer, with what it means.

    Args:
        consequence: see there.
        text: what it said, or why it said nothing; for people.
    """

    consequence: Consequence
    text: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should see to.

    Args:
        key: what stays the same while it lasts.
        text: a sentence.
    """

    key: str
    text: str


class Act(enum.StrEnum):
    """What is to be done with a name now."""

    STAY = "stay"
    WAIT = "wait"
    ASK = "ask"
    LEASE = "lease"
    SEND = "send"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Change:
    """A move that arrived: from, to, why, and when by the cluster's clock."""

    source: str
    target: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class NameMemory:
    """What an observer remembers of a name from one check to the next.

    Args:
        trouble: what kind of reason there is not to leave it where it is; empty where there is none.
        trouble_since: since when.
        uneven_since: since when the DNS servers differ; None where they do not.
        lease: version of the lease while it is ours; 0 while it is not.
        leased_at: just before the request for it was sent.
        target: where we are moving it to; empty while we are not.
        source: from where.
        why: what for.
        sent_at: when an update was last sent and has not been seen to arrive; None otherwise.
        tries: updates without success in a row.
        not_before: no update before this.
        wait: why not.
        lock: seconds that the others may not either, to be told with the lease.
        blocked: the DynDNS account that was refused, as a fingerprint; another one is tried at once.
        sends: when updates were sent lately.
        last: the last move by this observer.
    """

    trouble: str = ""
    trouble_since: float = NEVER
    uneven_since: float | None = None
    lease: int = 0
    leased_at: float = NEVER
    target: str = ""
    source: str = ""
    why: str = ""
    sent_at: float | None = None
    tries: int = 0
    not_before: float = NEVER
    wait: str = ""
    lock: float = 0.0
    blocked: str = ""
    sends: tuple[float, ...] = ()
    last: Change | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a name.

    Args:
        act: stay, wait, ask the cluster first, take the lease, send an update, give the lease back.
        why: a few words or a sentence.
        memory: what to remember.
        target: the site, for LEASE and SEND.
        lease: what to write, for LEASE and RELEASE.
        cas: the version that the lease must still have.
        alarms: what a person should see to.
        arrived: the move that has just been seen to arrive.
    """

    act: Act
    why: str
    memory: NameMemory
    target: str = ""
    lease: Lease | None = None
    cas: int = 0
    alarms: tuple[Alarm, ...] = ()
    arrived: Change | None = None
