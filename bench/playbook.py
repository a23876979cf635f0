"""Measure what a task costs on the controller, with what makes it cheap and without.

Playbooks of small tasks for three hosts that nothing is sent to: tasks that render one template each, with the callback
load_once and without; and tasks that run a module of ours on the controller, in the worker (plugins/action/normal) and in
a process of its own. Prints the processor time of a task on a host, in ansible-playbook and all that it starts, and the
ratios; writes bench/results/playbook.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HOSTS = {"all": {"hosts": {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}}}
TASKS = 40
TEMPLATE: dict[str, object] = {"ansible.builtin.assert": {"that": "[1, 2] | map('string') | join == '12'"}}
MODULE: dict[str, object] = {
    "vault_clocks": {"nodes": [], "ca_file": "/nowhere"},  # is refused, by which it was loaded and has judged its arguments
    "failed_when": False,
    "vars": {"ansible_python_interpreter": sys.executable},
}


@dataclass(frozen=True)
class Setting:
    """A way to run a task.

    Args:
        name: what it is called in the figures.
        task: the task, as in a playbook.
        environment: what is set for it.
    """

    name: str
    task: dict[str, object]
    environment: dict[str, str]


# What is left out is replaced by what every run has anyway: a setting may not be empty.
PAIRS = (
    (
        Setting("a template, with load_once", TEMPLATE, {}),
        Setting("a template, without", TEMPLATE, {"ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.default"}),
    ),
    (
        Setting("a module of ours, in the worker", MODULE, {}),
        Setting("a module of ours, in a process of its own", MODULE, {"ANSIBLE_ACTION_PLUGINS": os.devnull}),
    ),
)


def cost(directory: Path, tasks: int, setting: Setting) -> float:
    """Return the s of processor time that a run takes, its workers' included."""
    play = [{"name": "Do little", "hosts": "all", "gather_facts": False, "tasks": [setting.task] * tasks}]
    (directory / "playbook.yml").write_text(json.dumps(play))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", directory / "hosts.yml", directory / "playbook.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), **setting.environment},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turns, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "hosts.yml").write_text(json.dumps(HOSTS))
        for _ in range(given.runs):
            for setting in (each for pair in PAIRS for each in pair):
                whole, start = cost(directory, TASKS, setting), cost(directory, 1, setting)
                each = (whole - start) / (TASKS - 1) / len(HOSTS["all"]["hosts"])
                seconds.setdefault(setting.name, []).append(each)
    for pair in PAIRS:
        cheap, dear = (statistics.median(seconds[setting.name]) for setting in pair)
        for setting in pair:
            runs = seconds[setting.name]
            print(
                f"{setting.name}: {statistics.median(runs) * 1000:.0f} ms of processor time for a task on a host "
                f"({min(runs):.3f}-{max(runs):.3f} s)"
            )
        print(f"ratio: {dear / cheap:.1f}")
    results = PROJECT / "bench/results"
    results.mkdir(exist_ok=True)
    (results / "playbook.json").write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
