"""Holds: a site that is held is no candidate for a generic hostname until it is released, or the hold runs out.

They lie in the cluster, where all checkers read them: `operations/data/holds/<site>`. When a hold runs out is measured by
the cluster's clock. Each write states the version that it replaces, so of two operators at once one is told.

Source of the calls: https://openbao.org/api-docs/secret/kv/kv-v2/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import HoldError, RefusedError
from ..reconcile.server import Server

MOUNT = "operations"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BAD_REQUEST = 400


@dataclass(frozen=True)
class Hold:
    """A hold.

    Attributes:
        until: seconds since the epoch by the cluster's clock; 0: until it is released.
        by: who holds the site.
        why: what for.
    """

    until: int = 0
    by: str = ""
    why: str = ""

    def lasts(self, now: int) -> bool:
        """Whether it holds at `now`, seconds since the epoch."""
        return self.until == 0 or self.until > now


def seconds(text: str) -> int:
    """Return how many seconds a duration has, such as 90s, 30m, 2h, 1d.

    Raises:
        HoldError: it is none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text.strip())
    if not found:
        raise HoldError(f"'{text}' is no duration: give `for` as a number and a unit, such as 30m, 2h or 1d.")
    return int(found[1]) * _UNITS[found[2]]


def read(server: Server, site: str) -> tuple[Hold | None, int]:
    """Return a site's hold, run out or not, and the version of its key; None and 0 where there is none."""
    version = int((server.read(f"{MOUNT}/metadata/holds/{site}") or {}).get("current_version") or 0)
    content: Mapping[str, Any] = (server.read(f"{MOUNT}/data/holds/{site}") or {}).get("data") or {}
    if not content:
        return None, version
    return Hold(int(content.get("until") or 0), str(content.get("by") or ""), str(content.get("why") or "")), version


def everyone(server: Server, now: int) -> dict[str, Hold]:
    """Return the holds that last, by site."""
    found = {site: read(server, site)[0] for site in server.names(f"{MOUNT}/metadata/holds")}
    return {site: hold for site, hold in found.items() if hold is not None and hold.lasts(now)}


def place(server: Server, site: str, hold: Hold, now: int, *, check_mode: bool = False) -> tuple[Hold | None, Hold]:
    """Hold a site.

    Args:
        server: the API, acting as an operator.
        site: the site.
        hold: what it is to be.
        now: the cluster's clock, s since the epoch.
        check_mode: change nothing.

    Returns:
        The hold before, and the one now. One's own hold is never cut short by running the same again.

    Raises:
        HoldError: another operator holds the site, or has just written.
    """
    before, version = read(server, site)
    if before and before.lasts(now) and before.by != hold.by:
        raise HoldError(
            f"{site} is held by {before.by or 'somebody'} already ({before.why or 'no reason given'}): ask them, or have "
            f"them release it with playbooks/operate/restore-site.yml -e site={site}."
        )
    if before and before.lasts(now) and (before.until == 0 or 0 < hold.until <= before.until):
        return before, before
    if not check_mode:
        try:
            server.write(f"{MOUNT}/data/holds/{site}", {"options": {"cas": version}, "data": asdict(hold)})
        except RefusedError as error:
            if error.status == _BAD_REQUEST and any("check-and-set" in reason for reason in error.reasons):
                raise HoldError(
                    f"Somebody else has just changed the hold on {site}: look again, and run this again."
                ) from None
            raise
    return before, hold


def release(server: Server, site: str, *, check_mode: bool = False) -> Hold | None:
    """Release a site, and return the hold that it had, run out or not."""
    before, _ = read(server, site)
    if before and not check_mode:
        server.delete(f"{MOUNT}/data/holds/{site}")
    return before
