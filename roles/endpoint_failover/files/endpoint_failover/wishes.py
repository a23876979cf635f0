"""Where operators at this site want a name, told to the run that is under way: a small file, and a signal."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cluster import write_private
from .errors import FailoverError
from .lock import Lock
from .state import boot_id

FILE = "wishes.json"


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a name is wanted.

    Args:
        site: there.
        until: after this nobody wants it any more, s of the monotonic clock.
        boot: of this boot.
    """

    site: str
    until: float
    boot: str


def read(directory: Path) -> dict[str, str]:
    """Return name → site, of the wishes that have not run out."""
    now, boot = time.monotonic(), boot_id()
    return {name: wish.site for name, wish in _stored(directory).items() if wish.boot == boot and now < wish.until}


def make(directory: Path, sites: Mapping[str, str], seconds: float) -> None:
    """Wish for names to be at sites for some seconds, and have the run that is under way know.

    Args:
        directory: of the checker's state.
        sites: name → site.
        seconds: for how long.

    Raises:
        FailoverError: it cannot be written.
    """
    until = time.monotonic() + seconds
    wanted = {name: Wish(site, until, boot_id()) for name, site in sites.items()}
    _store(directory, {**_stored(directory), **wanted})
    nudge(directory)


def drop(directory: Path, names: Mapping[str, str]) -> None:
    """Forget wishes, where they are still those: name → site."""
    _store(directory, {name: wish for name, wish in _stored(directory).items() if names.get(name) != wish.site})


def nudge(directory: Path) -> bool:
    """Have the run that is under way look at everything at once, holds included; return whether there is one."""
    holder = Lock(directory).holder()
    if holder is None:
        return False
    holder.signal(signal.SIGUSR1)
    return True


def _stored(directory: Path) -> dict[str, Wish]:
    try:
        content = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return {
            str(name): Wish(str(wish["site"]), float(wish["until"]), str(wish["boot"])) for name, wish in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _store(directory: Path, wishes: Mapping[str, Wish]) -> None:
    content = {name: {"site": wish.site, "until": wish.until, "boot": wish.boot} for name, wish in wishes.items()}
    try:
        write_private(directory / FILE, json.dumps(content))
    except OSError as error:
        raise FailoverError(
            f"{directory / FILE} cannot be written ({error.strerror}): run this as the user of the checker "
            "(runuser -u endpoint-failover -- endpoint-failover …)."
        ) from None
