"""Measure what a task costs on the controller, with the callback load_once and without.

A playbook of tasks that render one template each, for three hosts that nothing is sent to. Prints the processor time
of a task on a host, in ansible-playbook and its workers, and the ratio; writes bench/results/playbook.json.
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
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HOSTS = {"all": {"hosts": {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}}}
TASKS = 40


def playbook(tasks: int) -> str:
    """Return a playbook whose tasks need a filter each, and no host."""
    task = {"ansible.builtin.assert": {"that": "[1, 2] | map('string') | join == '12'"}}
    return json.dumps([{"name": "Do little", "hosts": "all", "gather_facts": False, "tasks": [task] * tasks}])


def cost(directory: Path, tasks: int, callback: str) -> float:
    """Return the s of processor time that a run takes, its workers' included."""
    (directory / "playbook.yml").write_text(playbook(tasks))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", directory / "hosts.yml", directory / "playbook.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_CALLBACKS_ENABLED": callback},
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
    # The other callback is one that every run has anyway: the setting may not be empty.
    settings = {"with load_once": "load_once", "without": "ansible.builtin.default"}
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "hosts.yml").write_text(json.dumps(HOSTS))
        for _ in range(given.runs):
            for name, callback in settings.items():
                whole, start = cost(directory, TASKS, callback), cost(directory, 1, callback)
                seconds[name].append((whole - start) / (TASKS - 1) / len(HOSTS["all"]["hosts"]))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, each in seconds.items():
        print(
            f"a task on a host, {name}: {medians[name] * 1000:.0f} ms of processor time ({min(each):.3f}-{max(each):.3f} s)"
        )
    print(f"ratio: {medians['without'] / medians['with load_once']:.1f}")
    results = PROJECT / "bench/results"
    results.mkdir(exist_ok=True)
    (results / "playbook.json").write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
