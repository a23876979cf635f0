"""One run at a time, and no gap between two: the run that cron starts asks the one before to end, and takes over.

The lock is the kernel's (flock), so that nothing is left of a killed run. Whoever holds it writes its process id and when
that process began; a signal goes only to a process that is both.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from .errors import FailoverError

# A run ends after the check that it is in, which may wait for a DynDNS server.
PATIENCE = 25.0
# After it was killed the kernel gives the lock back at once.
LAST = 3.0
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: its id, and when it began in the kernel's clock ticks."""

    pid: int
    began: int

    @property
    def alive(self) -> bool:
        """Whether that very process is still there."""
        return began(self.pid) == self.began

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.alive:
            with suppress(OSError):
                os.kill(self.pid, number)


class Lock:
    """The lock of a checker's state directory.

    Args:
        directory: where its files lie.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "run.lock"
        self._queue = directory / "next.lock"
        self._handle: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()

    def take(self, patience: float = PATIENCE) -> bool:
        """Take the lock, from the run that holds it where there is one.

        Args:
            patience: s that it is given to end its check; then it is killed.

        Returns:
            False where yet another run is waiting for it already: then this one is not needed.

        Raises:
            FailoverError: the files cannot be written, or the holder cannot be got rid of.
        """
        handle = _opened(self._file)
        if not _locked(handle):
            queue = _opened(self._queue)
            with queue:
                if not _locked(queue):
                    handle.close()
                    return False
                self._await(handle, patience)
        self._handle = handle
        handle.seek(0)
        handle.truncate()
        json.dump({"pid": os.getpid(), "began": began(os.getpid())}, handle)
        handle.flush()
        return True

    def holder(self) -> Holder | None:
        """Return who holds the lock, as far as that is known."""
        try:
            content = json.loads(self._file.read_text(encoding="ascii"))
            found = Holder(int(content["pid"]), int(content["began"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.alive else None

    def _await(self, handle: IO[str], patience: float) -> None:
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, LAST)):
            holder = self.holder()
            if holder is not None:
                holder.signal(number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if _locked(handle):
                    return
                time.sleep(_PAUSE)
        raise FailoverError(
            f"Another run holds {self._file} and does not end: look at the processes of this user, and at what they "
            "wait for."
        )


def began(pid: int) -> int:
    """Return when a process began, clock ticks after boot; 0 where there is no such process."""
    try:
        # The second field is a name in brackets, which may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _opened(path: Path) -> IO[str]:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+")
    except OSError as error:
        raise FailoverError(
            f"{path} cannot be opened ({error.strerror}): run this as the user of the checker, and see that the directory "
            "is there (playbooks/deploy/failover.yml)."
        ) from None


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
