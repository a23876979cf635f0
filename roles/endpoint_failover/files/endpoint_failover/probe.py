"""Does a site serve? Found out as a user would: verified TLS for the generic name, and a write that must be committed.

A standby that is cut off from its leader answers health checks, names the lost leader and serves stale reads; only a write
that has to be forwarded shows it. So each probe writes, and what it writes is of use: this observer's heartbeat and its view
of all sites. Each probe connects anew, since a connection that stands proves nothing of the certificate that the next user
will be shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from ssl import SSLContext

from .errors import UnreachableError
from .model import Kind, Outcome
from .settings import Name
from .wire import Connection, Reply

# To ask a site that did not commit a write what it is.
HEALTH_TIMEOUT = 0.5
OK = range(200, 300)
FORBIDDEN, NOT_FOUND, SEALED = 403, 404, 503
ROLES = {200: "active", 429: "standby", 472: "standby", 473: "standby", 501: "uninitialised", 503: "sealed"}


@dataclass(frozen=True, slots=True)
class Write:
    """The write that proves that a site serves.

    Args:
        path: quoted.
        headers: with the token.
        body: JSON.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe of a site found.

    Args:
        outcomes: by generic name.
        answer: to the write, where there was one.
    """

    outcomes: Mapping[str, Outcome]
    answer: Reply | None = None


def probe(address: str, names: Sequence[Name], write: Write, context: SSLContext, timeout: float) -> Probed:
    """Probe one site under all generic names: each must be served with a valid certificate, and one write committed.

    Args:
        address: of the site.
        names: the generic names.
        write: what is written.
        context: what to trust.
        timeout: s, for everything but the question what a site is that did not commit the write.

    Returns:
        An outcome for each name, and the answer to the write. Outcomes differ where the certificate or the port is not
        right for one of the names.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(len(names)) as pool:
        attempts: list[Future[Reply]] = [
            pool.submit(_ask, address, name, context, timeout, write if not at else None) for at, name in enumerate(names)
        ]
    # Where the first name's certificate or port is not right, users of another may write all the same.
    writer = next((at for at, attempt in enumerate(attempts) if _connected(attempt)), 0)
    written = attempts[writer]
    if writer:
        left = max(timeout - (time.monotonic() - began), HEALTH_TIMEOUT)
        written = _tried(lambda: _ask(address, names[writer], context, left, write))
    verdict = _outcome(written, lambda: _role(address, names[writer], context))
    verdict = replace(verdict, ms=round((time.monotonic() - began) * 1000, 1))
    outcomes = {
        name.name: verdict if at == writer else _shared(verdict, attempt)
        for at, (name, attempt) in enumerate(zip(names, attempts, strict=True))
    }
    return Probed(outcomes, None if written.exception() else written.result())


def _connected(attempt: Future[Reply]) -> bool:
    """Whether there was a verified connection."""
    error = attempt.exception()
    return not isinstance(error, UnreachableError) or error.stage == "answer"


def _tried(ask: Callable[[], Reply]) -> Future[Reply]:
    """Return what came of a request, as an attempt that has ended."""
    attempt: Future[Reply] = Future()
    try:
        attempt.set_result(ask())
    except UnreachableError as error:
        attempt.set_exception(error)
    return attempt


def _ask(address: str, name: Name, context: SSLContext, timeout: float, write: Write | None) -> Reply:
    connection = Connection(address, name.port, name.name, context, timeout)
    if write is None:
        return connection.request("GET", "/v1/sys/health", {})
    return connection.request("PUT", write.path, write.headers, write.body)


def _outcome(attempt: Future[Reply], role: Callable[[], str]) -> Outcome:
    """Return what came of the write."""
    try:
        answer = attempt.result()
    except UnreachableError as error:
        if error.stage != "answer":
            return Outcome(Kind.LOCAL, _said(error))
        what = role()
        return Outcome(Kind.WRITE, "a write was not answered", what) if what else Outcome(Kind.LOCAL, _said(error))
    if answer.status in OK:
        return Outcome(Kind.OK)
    if answer.status in (FORBIDDEN, NOT_FOUND):
        return Outcome(Kind.FORWARDED, f"HTTP {answer.status}")
    reasons = answer.errors
    what = role()
    if what in ("sealed", "uninitialised"):
        return Outcome(Kind.LOCAL, what, what)
    why = f"a write was refused: HTTP {answer.status}" + (f", {reasons}" if reasons else "")
    return Outcome(Kind.WRITE, why[:200], what)


def _shared(verdict: Outcome, attempt: Future[Reply]) -> Outcome:
    """Return the outcome under a name that did not write: its own where TLS or port are at fault, else the write's."""
    try:
        attempt.result()
    except UnreachableError as error:
        if error.stage != "answer" or verdict.serves:
            return Outcome(Kind.LOCAL, _said(error))
    return verdict


def _role(address: str, name: Name, context: SSLContext) -> str:
    """Return what a node says that it is; empty where it says nothing."""
    try:
        answer = Connection(address, name.port, name.name, context, HEALTH_TIMEOUT).request("GET", "/v1/sys/health", {})
    except UnreachableError:
        return ""
    return ROLES.get(answer.status, "")


def _said(error: UnreachableError) -> str:
    return {"connect": error.why, "tls": f"TLS: {error.why}", "answer": error.why}[error.stage]
