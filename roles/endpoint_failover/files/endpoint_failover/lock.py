"""One run at a time, and no gap between two: the run that cron starts asks the one before to end, and takes over.

The lock is the kernel's (flock), so that nothing is left of a killed run, and the kernel tells who holds it: nothing is
written, so that neither a full disk nor an old file has a say. A signal goes only to the very process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .errors import FailoverError

# A run ends after the check that it is in, which may wait for a DynDNS server.
PATIENCE = 25.0
# After it was killed the kernel gives the lock back at once.
LAST = 3.0
_PAUSE = 0.05
_LOCKS = Path("/proc/locks")


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
        self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def take(self, patience: float = PATIENCE) -> bool:
        """Take the lock, from the run that holds it where there is one.

        Args:
            patience: s that it is given to end its check; then it is killed.

        Returns:
            False where yet another run is waiting for it already: then this one is not needed.

        Raises:
            FailoverError: the files cannot be opened, or the holder cannot be got rid of.
        """
        self._handle = _opened(self._file)
        if _locked(self._handle):
            return True
        queue = _opened(self._queue)
        try:
            if not _locked(queue):
                return False
            self._await(patience)
        finally:
            os.close(queue)
        return True

    def holder(self) -> Holder | None:
        """Return who holds the lock, as far as the kernel tells."""
        pid = _holding(self._file)
        found = Holder(pid, began(pid))
        return found if found.began else None

    def _await(self, patience: float) -> None:
        asked: Holder | None = None
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, LAST)):
            asked = None
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if _locked(self._handle):
                    return
                holder = self.holder()
                if holder is not None and holder != asked:
                    holder.signal(number)
                    asked = holder
                time.sleep(_PAUSE)
        raise FailoverError(
            f"Another run{f' (process {asked.pid})' if asked else ''} holds {self._file} and does not end: look at the "
            "processes of this user, and at what they wait for."
        )


def began(pid: int) -> int:
    """Return when a process began, clock ticks after boot; 0 where there is no such process."""
    try:
        # The second field is a name in brackets, which may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _holding(file: Path) -> int:
    """Return the process that has a file locked; 0 where there is none."""
    try:
        status = file.stat()
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    # 7: FLOCK  ADVISORY  WRITE 4711 fe:00:2147285 0 EOF
    found = [fields for fields in map(str.split, lines) if fields[1:4] == ["FLOCK", "ADVISORY", "WRITE"]]
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for _, _, _, _, pid, where, *_ in found:
        # The devices of btrfs and its like are others there: then who has the file open tells.
        if where == f"{device}:{status.st_ino}" or (where.endswith(f":{status.st_ino}") and _has_open(pid, status)):
            return int(pid)
    return 0


def _has_open(pid: str, status: os.stat_result) -> bool:
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(each.stat(), status):
                    return True
    return False


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FailoverError(
            f"{path} cannot be opened ({error.strerror}): run this as the user of the checker, and see that the directory "
            "is there (playbooks/deploy/failover.yml)."
        ) from None


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
