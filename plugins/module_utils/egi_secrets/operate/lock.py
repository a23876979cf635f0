"""The lock that a changing run holds, so that of two operators at once the second is told, and changes nothing.

It is a lease, since a killed run cannot give it back: `operations/data/lock/run`. Each write states the version that it
replaces (check-and-set), so of two that begin in the same moment one has it. When it runs out is measured by the clock of
the node that leads, never by a controller's. A run that goes on renews it at its gates; one that finds there that another
has written meanwhile has lost it, and stops.

Source of the calls: https://openbao.org/api-docs/secret/kv/kv-v2/
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import LockedError, RefusedError
from ..reconcile.server import Server
from .controller import Process

PATH = "operations/data/lock/run"
_METADATA = PATH.replace("/data/", "/metadata/")
_BAD_REQUEST = 400
_ATTEMPTS = 5

State = Literal["free", "ours", "lost", "held", "ran out", "dead", "given up"]


@dataclass(frozen=True)
class Run:
    """A run of a playbook.

    Attributes:
        operator: who runs it.
        playbook: which.
        process: the ansible-playbook that it is, and where.
    """

    operator: str
    playbook: str
    process: Process


@dataclass(frozen=True)
class Lease:
    """A lock that somebody took.

    Attributes:
        run: whose.
        since: when that run took it, s since the epoch by the cluster's clock.
        until: when it runs out, by the same.
    """

    run: Run
    since: int
    until: int

    @property
    def label(self) -> str:
        """What it is called where somebody is to name it: this run's lock, and no later one's."""
        return hashlib.sha256(f"{self.run.process.identity} {self.since}".encode()).hexdigest()[:8]

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Lease | None:
        """Return what a key holds; None where it holds no lease."""
        try:
            run, process = content["run"], content["run"]["process"]
            return cls(
                Run(
                    str(run["operator"]),
                    str(run["playbook"]),
                    Process(
                        host=str(process["host"]),
                        user=str(process["user"]),
                        boot=str(process["boot"]),
                        pid=int(process["pid"]),
                        started=int(process["started"]),
                    ),
                ),
                int(content["since"]),
                int(content["until"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Found:
    """What lies in the cluster: the lease, where there is one, and the version of its key (0: none)."""

    lease: Lease | None
    version: int


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        held: this run has the lock now.
        version: of the key that this run wrote; 0: it has not.
        until: when it runs out; 0: it is not held.
        before: the lease that was found.
        after: the one that is there now.
        messages: what the operator should know.
    """

    held: bool
    version: int
    until: int = 0
    before: Lease | None = None
    after: Lease | None = None
    messages: tuple[str, ...] = ()


def decide(found: Found, run: Run, now: int, *, kept: int, take_over: str, ended: Callable[[Process], bool]) -> State:
    """Decide what the lock is to a run.

    Args:
        found: what lies in the cluster.
        run: who asks.
        now: the cluster's clock, s since the epoch.
        kept: version that this run wrote last and has kept since; 0: it comes without the lock.
        take_over: label of the lock that the operator says is nobody's any more; empty: none.
        ended: whether a process of this controller is known to have ended; False for one of another controller.

    Returns:
        `free`; `ours`; `lost`, when this run had it and somebody has written since; `held` by another; and three ways in
        which another's is free: it `ran out`, the run is `dead`, the operator says that it is `given up`.
    """
    lease = found.lease
    if lease and lease.run.process.identity == run.process.identity:
        return "ours"
    if kept and found.version != kept:
        return "lost"
    if lease is None:
        return "free"
    if lease.until <= now:
        return "ran out"
    if ended(lease.run.process):
        return "dead"
    return "given up" if take_over == lease.label else "held"


def take(
    server: Server,
    run: Run,
    now: int,
    *,
    lease: int,
    kept: int = 0,
    take_over: str = "",
    ended: Callable[[Process], bool],
    check_mode: bool = False,
) -> Outcome:
    """Take the lock, or renew it.

    Args:
        server: the API, acting as an operator.
        run: who asks.
        now: the cluster's clock, s since the epoch.
        lease: for how long, s.
        kept: see `decide`.
        take_over: see `decide`.
        ended: see `decide`.
        check_mode: change nothing.

    Raises:
        LockedError: another run holds it, or has taken it meanwhile.
    """
    for _ in range(_ATTEMPTS):
        found = look(server)
        state = decide(found, run, now, kept=kept, take_over=take_over, ended=ended)
        if state in ("held", "lost"):
            raise LockedError(refusal(state, found.lease, now))
        since = found.lease.since if found.lease and state == "ours" else now
        wanted = Lease(run, since, now + lease)
        if check_mode:
            return Outcome(held=False, version=0, before=found.lease, after=wanted)
        version = _write(server, asdict(wanted), found.version)
        if version:
            told = (taken_from(state, found.lease, now),) if found.lease and state != "ours" else ()
            return Outcome(True, version, wanted.until, found.lease, wanted, told)
    raise LockedError("Others take and give back the lock again and again: run this again. Nothing was changed.")


def give_back(server: Server, run: Run, *, check_mode: bool = False) -> Outcome:
    """Give the lock back, where this run has it; another's is left alone."""
    found = look(server)
    mine = found.lease is not None and found.lease.run.process.identity == run.process.identity
    if not mine or check_mode:
        return Outcome(held=False, version=0, before=found.lease, after=None if mine else found.lease)
    _write(server, {}, found.version)  # that somebody has written since is as good
    return Outcome(held=False, version=0, before=found.lease)


def look(server: Server) -> Found:
    """Return what lies in the cluster."""
    version = int((server.read(_METADATA) or {}).get("current_version") or 0)
    content = (server.read(PATH) or {}).get("data") or {}
    return Found(Lease.read(content), version)


def _write(server: Server, content: Mapping[str, Any], replaces: int) -> int:
    """Return the version that was written; 0 where somebody else has written since."""
    try:
        answer = server.write(PATH, {"options": {"cas": replaces}, "data": content})
    except RefusedError as error:
        if error.status == _BAD_REQUEST and any("check-and-set" in reason for reason in error.reasons):
            return 0
        raise
    return int(answer["data"]["version"])


def refusal(state: State, lease: Lease | None, now: int) -> str:
    """Say who has the lock, since when, and what to do."""
    if lease is None:
        return (
            "This run had the lock, and another has taken it and given it back since: what it saw at its beginning may not "
            "be so any more. It stops here; run it again."
        )
    who = _who(lease, now)
    if state == "lost":
        return (
            f"This run had the lock and did not renew it in time: now {who}. It stops here, before the next change. Run it "
            "again when that one has ended."
        )
    return (
        f"Another run is changing the service: {who}. It runs out at {_moment(lease.until)} unless that run renews it, as "
        "it does while it goes on. Nothing was changed. Wait for it; if you know that it is dead, "
        f"-e take_over={lease.label} takes its lock."
    )


def holder(lease: Lease | None, now: int) -> str:
    """Say who has the lock; nothing where nobody has."""
    if lease is None:
        return ""
    return f"{_who(lease, now)}; it {'runs' if lease.until > now else 'ran'} out at {_moment(lease.until)}."


def taken_from(state: State, lease: Lease, now: int) -> str:
    """Say whose lock was taken, and why it could be."""
    why = {
        "ran out": f"its lock ran out at {_moment(lease.until)}",
        "dead": f"its process {lease.run.process.pid} on this controller is gone",
        "given up": "you said that it is dead",
    }[state]
    return (
        f"A run did not give the lock back: {_who(lease, now)}. This one took it over, since {why}. What that run left in "
        "progress may have to be finished: see playbooks/operate/show-status.yml."
    )


def _who(lease: Lease, now: int) -> str:
    run, process = lease.run, lease.run.process
    minutes = max(0, now - lease.since) // 60
    return (
        f"{run.operator} has held the lock since {_moment(lease.since)} ({minutes} min) with {run.playbook}, process "
        f"{process.pid} of {process.user} on {process.host}"
    )


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
