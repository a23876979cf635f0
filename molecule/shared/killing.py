"""Runs of a playbook that tell where they are, and that are killed there."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lab import ANSI, PROJECT, Run, kill_tree

MARK = "told: "
# What makes Ansible tell: a callback of the tests' own, which no ordinary run loads, beside the one that every run loads.
TELLING: Mapping[str, str] = {
    "ANSIBLE_CALLBACK_PLUGINS": f"{Path(__file__).with_name('callback_plugins')}:{PROJECT / 'plugins/callback'}",
    "ANSIBLE_CALLBACKS_ENABLED": "tell,load_once",
}
Kind = Literal["start", "middle", "after"]
LONG = 3.0  # s, of a task that is worth more than one kill in its middle


@dataclass(frozen=True)
class Told:
    """A line of the callback.

    Attributes:
        event: task (it begins), or a host's result: changed, ok or failed.
        name: of the task.
        host: of the result.
        at: when it was heard, in seconds.
    """

    event: str
    name: str
    host: str
    at: float


@dataclass(frozen=True)
class Task:
    """A task that changed something, as a whole run had it.

    Attributes:
        name: as Ansible shows it.
        occurrence: which of those with this name, from 0.
        hosts: how many it changed.
        seconds: from its start to the last host's result.
    """

    name: str
    occurrence: int
    hosts: int
    seconds: float


@dataclass(frozen=True)
class Point:
    """Where a run is killed.

    Attributes:
        name: of the task.
        occurrence: which of those with this name, from 0.
        kind: as the task starts, so many seconds later, or right after the first host was changed.
        seconds: for a kill in the middle.
    """

    name: str
    occurrence: int
    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        which = f" #{self.occurrence + 1}" if self.occurrence else ""
        when = f" {self.seconds:.1f} s" if self.kind == "middle" else ""
        return f"{self.name}{which}, {self.kind}{when}"


@dataclass(frozen=True)
class Killed:
    """What became of a run that was to be killed.

    Attributes:
        run: its output up to there; its return code is negative where it was killed.
        landed: how many of the task's hosts had been changed by then; None where the run never came to the task.
        late: the task was over before the kill.
    """

    run: Run
    landed: int | None
    late: bool


def heard(line: str, at: float) -> Told | None:
    """Return what a line of output tells; None where it is none of the callback's."""
    if not line.startswith(MARK):
        return None
    try:
        told = json.loads(line.removeprefix(MARK))
        return Told(str(told["event"]), str(told["name"]), str(told.get("host", "")), at)
    except (ValueError, KeyError, TypeError):
        return None


def changing(told: Iterable[Told]) -> list[Task]:
    """Return the tasks that changed something, in their order."""
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    name, began, last, changed = "", 0.0, 0.0, 0

    def close() -> None:
        if changed:
            tasks.append(Task(name, seen[name] - 1, changed, last - began))

    for each in told:
        if each.event == "task":
            close()
            name, began, last, changed = each.name, each.at, each.at, 0
            seen[name] = seen.get(name, 0) + 1
        else:
            last = each.at
            changed += each.event == "changed"
    close()
    return tasks


def points(tasks: Sequence[Task], kinds: Sequence[Kind] = get_args(Kind)) -> list[Point]:
    """Return where to kill: at each task that changes something, in each way; a long one in more than one place."""
    found = []
    for task in tasks:
        for kind in kinds:
            parts: tuple[float, ...] = (0.0,)
            if kind == "middle":
                parts = (0.25, 0.5, 0.85) if task.seconds > LONG else (0.5,)
            found += [Point(task.name, task.occurrence, kind, round(part * task.seconds, 2)) for part in parts]
    return found


def record(process: subprocess.Popen[str]) -> tuple[Run, list[Told]]:
    """Follow a telling run to its end."""
    told: list[Told] = []
    output = _follow(process, lambda each: told.append(each) if each else None)
    return Run(process.wait(), output), told


def kill_at(process: subprocess.Popen[str], point: Point) -> Killed:
    """Follow a telling run, and kill it with all that it started at a point.

    A kill in the middle comes when the task is over at the latest: that is told, and the machine was faster than before.
    """
    watch = _Watch(point)

    def judge(each: Told | None) -> None:
        if not watch.over and watch.due(each, time.monotonic()):
            watch.over = True
            kill_tree(process.pid)

    output = _follow(process, judge)
    return Killed(Run(process.wait(), output), watch.landed, watch.late)


@dataclass
class _Watch:
    """Whether the point has come, by what was told so far."""

    point: Point
    landed: int | None = None
    late: bool = False
    over: bool = False
    _seen: int = 0
    _deadline: float | None = None

    def due(self, each: Told | None, now: float) -> bool:
        """Return whether to kill now that this was told; None: nothing was."""
        if each is None:
            return self._deadline is not None and now >= self._deadline
        if each.event == "task":
            return self._ended() if self.landed is not None else self._begun(each, now)
        if self.landed is not None and each.event == "changed":
            self.landed += 1
            return self.point.kind == "after"
        return False

    def _begun(self, each: Told, now: float) -> bool:
        self._seen += each.name == self.point.name
        if each.name != self.point.name or self._seen != self.point.occurrence + 1:
            return False
        self.landed = 0
        if self.point.kind == "middle":
            self._deadline = now + self.point.seconds
        return self.point.kind == "start"

    def _ended(self) -> bool:
        """Kill, late as it is: where a host is changed no more, too, there is no other moment."""
        self.late = True
        return True


def kill_after_changes(process: subprocess.Popen[str], changes: int) -> Killed:
    """Follow a telling run, and kill it right after so many results changed something, whichever they are."""
    count = 0

    def judge(each: Told | None) -> None:
        nonlocal count
        if each is not None and each.event == "changed" and count < changes:
            count += 1
            if count == changes:
                kill_tree(process.pid)

    output = _follow(process, judge)
    return Killed(Run(process.wait(), output), count if count >= changes else None, late=False)


def _follow(process: subprocess.Popen[str], judge: Callable[[Told | None], None]) -> str:
    """Call `judge` with each line that tells something, and with None every few milliseconds; return the other lines."""
    lines: queue.Queue[tuple[str, float] | None] = queue.Queue()

    def read() -> None:
        for line in _lines(process):
            lines.put((line, time.monotonic()))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    kept = []
    while True:
        try:
            got = lines.get(timeout=0.01)
        except queue.Empty:
            judge(None)
            if process.poll() is not None and lines.empty():  # somebody that it left behind may hold its output open
                time.sleep(0.2)
                if lines.empty():
                    break
            continue
        if got is None:
            break
        told = heard(*got)
        if told is None:
            kept.append(got[0])
        else:
            judge(told)
        judge(None)
    return ANSI.sub("", "".join(kept))


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout
    yield from process.stdout
