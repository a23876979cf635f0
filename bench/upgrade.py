"""Measure what a rolling restart of all nodes costs those who work meanwhile, and how long it takes.

Needs a lab that stands (`make lab`); LAB_NAME and LAB_SUBNET name another one. Programs on the users' VM write and read
through each node and through the generic name (bench/workload), while playbooks/operate/upgrade-cluster.yml, with two
operators' keys at the keyboard, brings another configuration to every node, and then back. Prints for each run: the longest
gap between acknowledged writes, of all nodes together, through the name, and of each node by itself; failed requests without
and with one retry after a second; how long it took, without the waits for the TTL of resolvers. Checks the history. One more
run, with nobody at work, tells what of that time is the load's share of this machine. Writes bench/results/upgrade.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "molecule/shared")]

from checkin import Checkin  # noqa: E402
from lab import Lab  # noqa: E402
from load import Load  # noqa: E402

from bench.workload.history import Figures  # noqa: E402

WAITED = re.compile(r"Pausing for (\d+) seconds")


@dataclass(frozen=True)
class Upgrade:
    """One run of the playbook.

    Args:
        took: s, in all.
        waited: s of them for the TTL.
        figures: what those who worked meanwhile went through; None: nobody worked.
    """

    took: float
    waited: float
    figures: Figures | None

    def __str__(self) -> str:
        """Return the figures as a paragraph."""
        duration = (
            f"took {self.took:.0f} s, of which {self.waited:.0f} s waiting for the TTL: {self.took - self.waited:.0f} s"
        )
        if self.figures is None:
            return f"{duration}, with nobody at work"
        seen, twice = self.figures, self.figures.failed_with_retry
        gaps = ", ".join(f"{place} {gap.length:.2f} s" for place, gap in seen.gaps.items())
        return (
            f"{duration}\n  longest gap between acknowledged writes: all nodes together {seen.gap.length:.2f} s; {gaps}\n"
            f"  {seen.writes} writes, {seen.reads} reads; failed at first {seen.failed}, "
            f"with a retry {sum(twice.values())}, {twice.get('name', 0)} of them through the name"
        )


def measure(lab: Lab, jwt: str, level: str, *, loaded: bool = True) -> Upgrade:
    """Bring another log level to every node, under load or with nobody at work.

    Raises:
        AssertionError: the playbook failed, or the history is not sound.
    """
    homes = json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in ("alice", "bob")]})
    with Load(lab, keep="bench-upgrade.json") if loaded else nullcontext() as load:
        began = time.monotonic()
        run = lab.play("operate/upgrade-cluster.yml", "-e", homes, "-e", f"vault_server_log_level={level}", jwt=jwt)
        took = time.monotonic() - began
    waited = sum(int(match[1]) for match in WAITED.finditer(run.text))
    return Upgrade(round(took, 1), waited, load.assert_sound() if load else None)


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2, help="how often under load (default: %(default)s)")
    given = parser.parse_args()
    lab = Lab()
    jwt = Checkin(lab).token("alice")
    runs = []
    levels = (
        ["info", "debug"]
        if "debug" in lab.ssh("vault-infn", "grep log_level /etc/openbao/openbao.hcl")
        else ["debug", "info"]
    )
    for number in range(given.runs + 1):
        runs.append(measure(lab, jwt, levels[number % 2], loaded=number < given.runs))
        print(runs[-1], flush=True)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    results = PROJECT / "bench/results"
    results.mkdir(exist_ok=True)
    (results / "upgrade.json").write_text(json.dumps([asdict(each) for each in runs], indent=1) + "\n")


if __name__ == "__main__":
    main()
