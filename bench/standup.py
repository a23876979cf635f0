"""Measure how long it takes to stand the service up on bare hosts, and a run in which nothing changes.

Prints medians with each figure's spread, and ratios against two things measured in the same run: as many trivial Ansible
tasks on the same hosts, and the time that autopilot needs by design before it calls a new member a voter. Writes
bench/results/standup.json. Needs root or sudo, and makes and removes hosts of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
os.environ |= {"LAB_NAME": "bench", "LAB_SUBNET": "10.213.30", "LAB_HOSTS": "vault"}
sys.path.insert(0, str(PROJECT / "molecule" / "shared"))

from lab import Lab, Run  # noqa: E402  (the lab is named by the environment above)

AUTOPILOT_SECONDS = 10.0  # server_stabilization_time: what a new member must be stable for before it votes
TIMED = re.compile(r"^(?P<name>.+?) -+ (?P<seconds>[\d.]+)s$", re.MULTILINE)


@dataclass
class Figures:
    """Seconds of each repetition, and tasks run."""

    stand_up: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    no_change: list[float] = field(default_factory=list)
    trivial: list[float] = field(default_factory=list)
    stand_up_tasks: int = 0
    no_change_tasks: int = 0
    slowest: dict[str, float] = field(default_factory=dict)


def timed(lab: Lab, playbook: str, *arguments: str, operator: str = "alice") -> tuple[float, Run]:
    """Run a playbook; return its seconds and what it printed."""
    start = time.monotonic()
    run = lab.play(playbook, *arguments, operator=operator)
    return time.monotonic() - start, run


def hosts(verb: str) -> None:
    """Create or destroy the hosts."""
    subprocess.run(
        ["ansible-playbook", "-i", PROJECT / "inventories/lab", PROJECT / f"playbooks/lab/{verb}.yml"],
        check=True, stdout=subprocess.DEVNULL, cwd=PROJECT,
        env=os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")},
    )  # fmt: skip


def trivial_playbook(tasks: int) -> Path:
    """Write a playbook of as many tasks, none of which does anything: the floor that Ansible itself sets."""
    ping = {"name": "Ping", "ansible.builtin.ping": {}}
    play = {"name": "Trivial", "hosts": "vault", "gather_facts": False, "become": True, "tasks": [ping] * tasks}
    path = PROJECT / ".cache" / "bench" / "trivial.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([play]))  # JSON is YAML
    return path


def in_turn(lab: Lab) -> tuple[float, int]:
    """Stand up with three turns of two operators, each at a keyboard of their own; return seconds and tasks."""
    turns = [
        timed(lab, "deploy/vault.yml", operator="alice"),
        timed(lab, "operate/unseal.yml", operator="bob"),
        timed(lab, "operate/unseal.yml", operator="alice"),
    ]
    return sum(seconds for seconds, _ in turns), sum(run.tasks for _, run in turns)


def together(lab: Lab) -> tuple[float, Run]:
    """Stand up with two operators' keyrings at one keyboard; return seconds and what was printed."""
    homes = json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in ("alice", "bob")]})
    return timed(lab, "deploy/vault.yml", "-e", homes)


def measure(repetitions: int) -> Figures:
    """Measure all figures on fresh hosts, each `repetitions` times."""
    lab, figures = Lab(), Figures()
    os.environ["ANSIBLE_CALLBACKS_ENABLED"] = "load_once,ansible.posix.profile_tasks"
    os.environ["PROFILE_TASKS_TASK_OUTPUT_LIMIT"] = "8"
    for repetition in range(repetitions):
        hosts("destroy")
        hosts("create")
        seconds, run = together(lab)
        figures.together.append(seconds)
        figures.stand_up_tasks = run.tasks
        figures.slowest = {match["name"].strip(): float(match["seconds"]) for match in TIMED.finditer(run.output)}
        seconds, run = timed(lab, "deploy/vault.yml")
        figures.no_change.append(seconds)
        figures.no_change_tasks = run.tasks
        assert run.recap("changed") == 0
        trivial, _ = timed(lab, str(trivial_playbook(run.tasks)))
        figures.trivial.append(trivial)
        hosts("destroy")
        hosts("create")
        seconds, _ = in_turn(lab)
        figures.stand_up.append(seconds)
        print(f"{repetition + 1}/{repetitions}: together {figures.together[-1]:.1f} s, in turn {figures.stand_up[-1]:.1f} s,"
              f" no change {figures.no_change[-1]:.1f} s", flush=True)  # fmt: skip
    return figures


def spread(seconds: list[float]) -> str:
    """Write a median and its range."""
    return f"{statistics.median(seconds):5.1f} s  ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=3)
    repetitions = parser.parse_args().repetitions
    try:
        figures = measure(repetitions)
    finally:
        hosts("destroy")
    no_change, trivial = statistics.median(figures.no_change), statistics.median(figures.trivial)
    print(f"""
bare hosts → three voters, two operators at one keyboard   {spread(figures.together)}, {figures.stand_up_tasks} tasks
bare hosts → three voters, operators in turn (three runs)  {spread(figures.stand_up)}
a run in which nothing changes                             {spread(figures.no_change)}, {figures.no_change_tasks} tasks
as many trivial tasks on the same hosts                    {spread(figures.trivial)}

no change / trivial tasks: {no_change / trivial:.2f}
stand-up / autopilot's {AUTOPILOT_SECONDS:.0f} s: {statistics.median(figures.together) / AUTOPILOT_SECONDS:.2f}

Where the last stand-up's time went:""")
    for name, seconds in figures.slowest.items():
        print(f"  {seconds:5.1f} s  {name}")
    results = PROJECT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "standup.json").write_text(json.dumps(asdict(figures), indent=2) + "\n")


if __name__ == "__main__":
    main()
