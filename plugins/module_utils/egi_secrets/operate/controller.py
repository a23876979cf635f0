"""The ansible-playbook that a module on the controller works for: which process it is, and whether another one has ended.

A process number is reused, so its start counts as well, and the boot and the process namespace in which both mean something.

Source: proc(5), proc_pid_stat(5), pid_namespaces(7).
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PROGRAM = "ansible-playbook"


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        host: name of its host.
        user: who runs it.
        boot: boot of that host, and namespace, in which its number means something.
        pid: its number.
        started: when it began, in clock ticks since the boot.
    """

    host: str
    user: str
    boot: str
    pid: int
    started: int

    @property
    def identity(self) -> tuple[str, int, int]:
        """What no two processes share."""
        return self.boot, self.pid, self.started


@dataclass(frozen=True)
class Entry:
    """What /proc says of a process: its parent, when it began, its arguments, and whether it waits only to be buried."""

    parent: int
    started: int
    arguments: tuple[str, ...]
    dead: bool = False


def entry(pid: int) -> Entry | None:
    """Return what /proc says of a process; None where it says nothing."""
    try:
        words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        arguments = (_PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return None
    return Entry(int(words[1]), int(words[19]), tuple(os.fsdecode(each) for each in arguments), words[0] in "ZX")


def playbook_process(pid: int, look: Callable[[int], Entry | None] = entry) -> int:
    """Return the number of the ansible-playbook that a process works for.

    Its workers are forks of it, with its arguments: the outermost of those counts. A process that none started, as in a
    test, works for its parent.

    Args:
        pid: the process.
        look: tells what /proc says.
    """
    found, seen, first = 0, look(pid), 0
    while seen is not None and seen.parent > 0:
        parent, above = seen.parent, look(seen.parent)
        first = first or parent
        if above is not None and _is_playbook(above.arguments):
            found = parent
        elif found:
            break
        seen = above
    return found or first


def _is_playbook(arguments: Sequence[str]) -> bool:
    return any(Path(each).name == _PROGRAM for each in arguments[:3])  # behind an interpreter, which may take an option


def playbook_of(arguments: Sequence[str]) -> str:
    """Return which playbook an ansible-playbook was started with, below playbooks/ where it is there; no other argument."""
    named = [each for each in arguments if each.endswith((".yml", ".yaml")) and not each.startswith(("-", "@"))]
    ours = [each for each in named if "playbooks/" in each]
    if ours:
        return "playbooks/" + ours[0].rpartition("playbooks/")[2]
    return Path(named[-1]).name if named else "a run of its own"


def this_boot() -> str:
    """Return the boot and the namespace in which process numbers of this host mean something."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"


def current() -> tuple[Process, str]:
    """Return the ansible-playbook that this module works for, and the playbook that it runs."""
    pid = playbook_process(os.getpid())
    seen = entry(pid)
    started, arguments = (seen.started, seen.arguments) if seen else (0, ())
    return Process(socket.gethostname(), _user(), this_boot(), pid, started), playbook_of(arguments)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def ended(process: Process, boot: str, look: Callable[[int], Entry | None] = entry) -> bool:
    """Tell whether a process is known to have ended; False for one of another host, or of an earlier boot.

    Args:
        process: which.
        boot: the boot and the namespace of this host.
        look: tells what /proc says.
    """
    if process.boot != boot:
        return False
    seen = look(process.pid)
    if seen is not None:
        return seen.dead or seen.started != process.started
    try:  # /proc may hide other people's processes; a signal does not
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
