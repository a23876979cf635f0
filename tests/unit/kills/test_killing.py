"""The harness that kills runs: what it hears, where it decides to kill, and that it kills there, on real playbooks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from killing import MARK, TELLING, Point, Task, Told, changing, heard, kill_after_changes, kill_at, points, record
from lab import descendants

PLAYBOOK = """
- hosts: one,two
  connection: local
  gather_facts: false
  serial: 1
  tasks:
    - name: Look
      ansible.builtin.debug: {msg: nothing}
    - name: Change
      ansible.builtin.debug: {msg: "{{ inventory_hostname }}"}
      changed_when: true
    - name: Change one
      ansible.builtin.debug: {msg: hidden}
      changed_when: inventory_hostname == "two"
      no_log: true
    - name: Skip
      ansible.builtin.debug: {msg: never}
      when: false
"""
# What tells as a playbook does, and is quicker: two tasks with one name; the second has started something that lasts.
PROGRAM = r"""
tell() { printf 'told: {"event": "%s", "name": "%s", "host": "%s"}\n' "$1" "$2" "$3"; }
touch first; tell task Write; tell changed Write one; tell ok Write two
tell task Look; echo 'TASK [Look]'; tell ok Look one
touch second; (sleep "$1"; touch late) & tell task Write; sleep "$1"; tell changed Write one; tell changed Write two
tell task End; sleep "$2"; touch ended
"""


def start(place: Path, pause: float = 0.0, end: float = 30.0) -> subprocess.Popen[str]:
    command = ["sh", "-c", PROGRAM, "sh", str(pause), str(end)]
    return subprocess.Popen(command, cwd=place, text=True, stdout=subprocess.PIPE, start_new_session=True)


def made(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_a_recording_finds_every_task_that_changes_something_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "ansible.cfg").write_text("")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "one,two,", tmp_path / "play.yml"],
        env=os.environ | {**TELLING, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path)},
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    run, told = record(process)
    assert run.returncode == 0, run.output
    assert [(each.name, each.occurrence, each.hosts) for each in changing(told)] == [
        ("Change", 0, 1), ("Change", 1, 1), ("Change one", 1, 1)]  # fmt: skip
    assert MARK not in run.output
    assert run.recap("changed") == 3


def test_killed_as_a_task_starts(tmp_path: Path) -> None:
    killed = kill_at(start(tmp_path, pause=30), Point("Write", 1, "start"))
    assert (killed.run.returncode, killed.landed, killed.late) == (-9, 0, False)
    assert killed.run.output == "TASK [Look]\n"


def test_killed_in_the_middle_of_a_task_with_what_it_started(tmp_path: Path) -> None:
    process = start(tmp_path, pause=30)
    killed = kill_at(process, Point("Write", 1, "middle", seconds=0.3))
    assert (killed.run.returncode, killed.landed, killed.late) == (-9, 0, False)
    assert made(tmp_path) == {"first", "second"}
    assert descendants(process.pid) == []


def test_a_kill_in_the_middle_of_a_task_that_was_quicker_is_told(tmp_path: Path) -> None:
    killed = kill_at(start(tmp_path, pause=0.1), Point("Write", 1, "middle", seconds=60))
    assert (killed.run.returncode, killed.landed, killed.late) == (-9, 2, True)
    assert "ended" not in made(tmp_path)


def test_killed_right_after_the_first_host_was_changed(tmp_path: Path) -> None:
    killed = kill_at(start(tmp_path, pause=0.1), Point("Write", 1, "after"))
    assert (killed.run.returncode, killed.landed) == (-9, 1)
    assert "ended" not in made(tmp_path)


def test_killed_after_so_many_changes(tmp_path: Path) -> None:
    killed = kill_after_changes(start(tmp_path, pause=0.1), 3)
    assert (killed.run.returncode, killed.landed) == (-9, 3)
    assert "ended" not in made(tmp_path)


@pytest.mark.parametrize("point", [Point("No such task", 0, "start"), Point("Write", 2, "after")])
def test_a_run_that_never_came_there_is_told(tmp_path: Path, point: Point) -> None:
    killed = kill_at(start(tmp_path, end=0), point)
    assert (killed.run.returncode, killed.landed) == (0, None)


def test_too_few_changes_are_told(tmp_path: Path) -> None:
    assert kill_after_changes(start(tmp_path, end=0), 5).landed is None


@pytest.mark.parametrize("line", ["TASK [told: x]", MARK, MARK + "{}", MARK + "[1]", MARK + '{"event": "task"'])
def test_other_lines_tell_nothing(line: str) -> None:
    assert heard(line, 1.0) is None


def test_a_task_is_measured_from_its_start_to_its_last_host() -> None:
    told = [
        Told("task", "a", "", 1.0),
        Told("changed", "a", "x", 2.0),
        Told("ok", "a", "y", 4.5),
        Told("task", "b", "", 5.0),
    ]
    assert changing(told) == [Task("a", 0, 1, 3.5)]


def test_a_long_task_is_killed_in_more_than_one_place() -> None:
    found = points([Task("quick", 0, 3, 1.0), Task("long", 0, 3, 20.0)])
    assert [(each.name, each.kind, each.seconds) for each in found] == [
        ("quick", "start", 0.0), ("quick", "middle", 0.5), ("quick", "after", 0.0),
        ("long", "start", 0.0), ("long", "middle", 5.0), ("long", "middle", 10.0), ("long", "middle", 17.0),
        ("long", "after", 0.0),
    ]  # fmt: skip
