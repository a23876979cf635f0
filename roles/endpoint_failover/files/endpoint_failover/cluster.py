"""The cluster as checkers use it: heartbeats with views, the leases, the holds, and their own login.

KV version 2, in a mount that operators and checkers share. What others wrote is read with care: it may be of another
version of this program.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from ssl import SSLContext
from typing import Any, TypeVar
from urllib.parse import quote

from .cycle import Shared
from .errors import IdentityError, UnreachableError
from .model import Hold, Lease, Phase, Standing, View
from .probe import FORBIDDEN, OK, Write
from .settings import Settings
from .wire import Connection, Reply, plain

T = TypeVar("T")

# After a refused login the next is tried later and later: a person has to see to it.
LOGIN_LEAST, LOGIN_MOST = 15.0, 600.0
# What a token that nobody knows looks like: a request with it is forwarded and refused, which proves that it was forwarded.
NO_TOKEN = "s.none"  # noqa: S105
# The year 9999: a hold until later, or one in milliseconds by mistake, is one until it is released.
FARTHEST = 253_402_300_000.0


@dataclass(slots=True)
class Token:
    """What this checker acts with.

    Args:
        value: the token; empty: none.
        renew_at: when half of its life is over, s of the monotonic clock.
        ends_at: when it ends.
        boot: the boot that the monotonic clock counts from.
    """

    value: str = ""
    renew_at: float = 0.0
    ends_at: float = 0.0
    boot: str = ""

    def __repr__(self) -> str:
        return f"Token(renew_at={self.renew_at})"


class Cluster:
    """The cluster, through any of its sites.

    Args:
        settings: the checker's.
        context: what to trust.
        boot: identity of this boot.
        clock: monotonic, s.
    """

    def __init__(
        self, settings: Settings, context: SSLContext, boot: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._context = context
        self._boot = boot
        self._clock = clock
        self._file = settings.state_dir / "token.json"
        self._token = self._stored()
        self._refusals = 0
        self._not_before = float("-inf")
        self.trouble = ""
        """Why this checker cannot renew its token or log in, as a sentence; empty where it can."""

    # --- identity

    def log_in(self, via: Sequence[str], *, refused: bool = False) -> None:
        """Renew the token, or log in anew, where that is due and can be done; `trouble` says what keeps it from that.

        Each attempt to log in costs the cluster a lease, so that they are few also where the new token is refused too.

        Args:
            via: sites to try, in this order.
            refused: the token that we have was refused.
        """
        now, token = self._clock(), self._token
        if token.value and not refused and now < token.renew_at:
            self._refusals = 0
            return
        if now < self._not_before:
            return
        self._not_before = now + min(LOGIN_MOST, LOGIN_LEAST * 2.0 ** min(self._refusals, 8))
        try:
            if refused or not token.value or now >= token.ends_at or not self._renew(via):
                self._log_in_anew(via, refused=refused)
        except IdentityError as error:
            self.trouble = str(error)

    def _log_in_anew(self, via: Sequence[str], *, refused: bool) -> None:
        cluster = self._settings.cluster
        body = {"role_id": _secret(cluster.role_id_file), "secret_id": _secret(cluster.secret_id_file)}
        answer = self._first(via, "PUT", f"auth/{cluster.login}/login", body, token="")
        if answer is None:
            return
        if refused or answer.status not in OK:
            self._refusals += 1
        if answer.status not in OK:
            raise IdentityError(
                f"The cluster refused this checker's login (HTTP {answer.status}, {answer.errors or 'without a reason'}): "
                "give it a new secret id (playbooks/deploy/failover.yml)."
            )
        self._keep(answer)

    def _renew(self, via: Sequence[str]) -> bool:
        answer = self._first(via, "PUT", "auth/token/renew-self", {})
        if answer is None or answer.status not in OK:
            return answer is None
        # Near the end of what the token may live, renewing it gives less and less.
        before = self._token.ends_at
        self._keep(answer)
        return before == float("inf") or self._token.ends_at > before + 1

    def _keep(self, answer: Reply) -> None:
        auth = answer.part("auth")
        now, lease = self._clock(), float(auth.get("lease_duration") or 0)
        self._token = Token(str(auth.get("client_token") or ""), now + lease / 2, now + lease, self._boot)
        self.trouble = ""
        try:
            write_private(self._file, json.dumps(asdict(self._token)))
        except OSError:
            return  # it lives as long as this run; state.py tells of the disk

    def _stored(self) -> Token:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            token = Token(str(content["value"]), float(content["renew_at"]), float(content["ends_at"]), str(content["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Token()
        # The clock of another boot says nothing of when it ends.
        return token if token.boot == self._boot else Token(token.value, 0.0, float("inf"), self._boot)

    # --- what is written

    def heartbeat(self, view: View) -> Write:
        """Return the write of this observer's view."""
        path = self._path("data", f"failover/views/{self._settings.observer}")
        # As one text: the audit log has a digest of 64 characters for every single value.
        names = json.dumps({name: dict(sites) for name, sites in view.names.items()}, separators=(",", ":"))
        body = json.dumps({"data": {"names": names}}).encode()
        return Write(path, self._headers(), body)

    def publish(self, view: View, via: Sequence[str]) -> float | None:
        """Write the view, and return the cluster's clock, s since the epoch; None where that failed."""
        write = self.heartbeat(view)
        for site in via:
            try:
                answer = self._connect(site).request("PUT", write.path, write.headers, write.body)
            except UnreachableError:
                continue
            if answer.status in OK:
                return stamp_of(answer)
        return None

    def write_lease(self, name: str, lease: Lease, cas: int, via: Sequence[str]) -> int:
        """Write the lease of a name where it has still version `cas`.

        Returns:
            Its new version; 0 where it was not written, or nobody knows.
        """
        body = {"options": {"cas": cas}, "data": asdict(lease)}
        answer = self._first(via[:1], "PUT", f"{self._settings.cluster.mount}/data/failover/lease/{name}", body)
        if answer is None or answer.status not in OK:
            return 0
        return int(answer.part("data").get("version") or 0)

    # --- what is read

    def read_shared(self, names: Sequence[str], via: Sequence[str]) -> Shared | None:
        """Read the other observers' views, the holds, and the leases; None where any of it cannot be read."""
        mount = self._settings.cluster.mount
        others = self._settings.others
        wanted = [*(f"failover/views/{other}" for other in others), *(f"failover/lease/{name}" for name in names)]
        for site in via:
            try:
                held = [each for each in self._names(site, f"{mount}/metadata/holds") if each in self._settings.sites]
                paths = [*wanted, *(f"holds/{each}" for each in held)]
                with ThreadPoolExecutor(len(paths)) as pool:
                    found = dict(zip(paths, pool.map(lambda path: self._key(site, path), paths), strict=True))  # noqa: B023
            except UnreachableError:
                continue
            return Shared(
                views={other: _parsed(found[f"failover/views/{other}"], _view) for other in others},
                holds={each: hold for each in held if (hold := _parsed(found[f"holds/{each}"], _hold)[0]) is not None},
                leases={name: _parsed(found[f"failover/lease/{name}"], _lease) for name in names},
            )
        return None

    def _names(self, site: str, path: str) -> list[str]:
        answer = self._request(site, "LIST", path)
        if answer.status not in (*OK, 404):
            raise UnreachableError("answer", f"HTTP {answer.status}")
        return [str(name) for name in answer.part("data").get("keys") or []]

    def _key(self, site: str, path: str) -> tuple[dict[str, Any] | None, int]:
        """Return content and version of a key; None and its version, or 0, where there is none."""
        answer = self._request(site, "GET", f"{self._settings.cluster.mount}/data/{path}")
        if answer.status not in (*OK, 404):
            raise UnreachableError("answer", f"HTTP {answer.status}")
        content = answer.part("data").get("data")
        version = int(answer.part("data", "metadata").get("version") or 0)
        return (content if isinstance(content, dict) else None), version

    # --- requests

    def _path(self, kind: str, path: str) -> str:
        return "/v1/" + quote(f"{self._settings.cluster.mount}/{kind}/{path}")

    def _headers(self, token: str | None = None) -> dict[str, str]:
        value = (self._token.value or NO_TOKEN) if token is None else token
        return {"Content-Type": "application/json", **({"X-Vault-Token": value} if value else {})}

    def _connect(self, site: str) -> Connection:
        """Connect under the first name that a site serves with a valid certificate."""
        trouble = UnreachableError("connect", "no name")
        deadline = time.monotonic() + self._settings.rules.timeout
        for name in self._settings.names:
            address, left = self._settings.sites[site].address, deadline - time.monotonic()
            try:
                return Connection(address, name.port, name.name, self._context, left)
            except UnreachableError as error:
                trouble = error
        raise trouble

    def _request(
        self, site: str, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Reply:
        content = b"" if body is None else json.dumps(body).encode()
        return self._connect(site).request(method, "/v1/" + quote(path), self._headers(token), content)

    def _first(
        self, via: Sequence[str], method: str, path: str, body: Mapping[str, Any], token: str | None = None
    ) -> Reply | None:
        """Return the first answer that is the cluster's own; None where there is none."""
        for site in via:
            try:
                answer = self._request(site, method, path, body, token)
            except UnreachableError:
                continue
            if answer.status in OK or answer.status in (400, FORBIDDEN):
                return answer
        return None


def stamp_of(answer: Reply) -> float | None:
    """Return when a write was committed, by the cluster's clock, s since the epoch."""
    text = str(answer.part("data").get("created_time") or "")
    try:
        # Nanoseconds, which Python's own parser takes six digits of.
        return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()
    except ValueError:
        return None


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read, all or nothing."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _secret(path: str) -> str:
    """Return what a file holds that nobody else may read.

    Raises:
        IdentityError: it is missing, or others can read it.
    """
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise IdentityError(
            f"{path} cannot be read ({why}), so this checker cannot log in to the cluster: run "
            "playbooks/deploy/failover.yml."
        ) from None
    if mode & 0o077 or not text:
        raise IdentityError(f"{path} is empty, or others than its owner can read it (mode {mode:04o}): it must be 0600.")
    return text


def _parsed(found: tuple[dict[str, Any] | None, int], kind: Callable[[dict[str, Any]], T]) -> tuple[T | None, int]:
    content, version = found
    if content is None:
        return None, version
    try:
        return kind(content), version
    except (KeyError, ValueError, TypeError, AttributeError):
        return None, version


def _view(content: dict[str, Any]) -> View:
    return View(
        {
            str(name): {str(site): Standing(standing) for site, standing in sites.items()}
            for name, sites in json.loads(content["names"]).items()
        }
    )


def _hold(content: dict[str, Any]) -> Hold:
    """Return a hold. Whoever wrote it wanted the site held, so what cannot be read as a time lasts until it is released."""
    try:
        until = float(content.get("until") or 0)
    except (ValueError, TypeError):
        until = 0.0
    within = 0.0 < until < FARTHEST
    return Hold(until if within else 0.0, plain(str(content.get("by") or "")), plain(str(content.get("why") or "")))


def _lease(content: dict[str, Any]) -> Lease:
    return Lease(
        holder=str(content["holder"]),
        phase=Phase(content["phase"]),
        source=plain(str(content["source"])),
        target=str(content["target"]),
        why=plain(str(content["why"])),
        lock=float(content.get("lock") or 0),
        at=float(content.get("at") or 0),
    )
