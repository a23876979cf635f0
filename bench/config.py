"""Measure what it takes to configure the service: the first apply, a run that changes nothing, and one changed VO.

For 10, 100 and 1,000 VOs, as whole runs of ansible-playbook against one real server on loopback; beside it, for 100 VOs,
the same objects written by a loop of community.hashi_vault.vault_write. Prints medians with each figure's spread, and
ratios. Writes bench/results/config.json. With --logins it measures what logins leave behind instead, and writes
bench/results/logins.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from bench.logins import measure_logins  # noqa: E402
from bench.service import POLICIES, Service, declaration, service  # noqa: E402

SIZES = (10, 100, 1000)
LOOP_VOS = 100
HOST = {
    "hosts": "localhost",
    "connection": "local",
    "gather_facts": False,
    "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
}


@dataclass
class Size:
    """Seconds and requests for one number of VOs."""

    vos: int
    objects: int = 0
    first: list[float] = field(default_factory=list)
    no_change: list[float] = field(default_factory=list)
    one_changed: list[float] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    changed_ids: list[str] = field(default_factory=list)


@dataclass
class Figures:
    """Everything that is measured, in s; `floor` is a playbook with one task that does nothing."""

    floor: list[float] = field(default_factory=list)
    sizes: dict[int, Size] = field(default_factory=dict)
    loop: list[float] = field(default_factory=list)
    loop_writes: int = 0
    load_average: list[float] = field(default_factory=list)


class Playbooks:
    """Runs small playbooks against one server.

    Args:
        one: the server.
        vos: how many are declared.
    """

    def __init__(self, one: Service, vos: int) -> None:
        self.one = one
        self.declared = declaration(one, vos)
        (one.directory / "hosts.yml").write_text("all: {hosts: {localhost: {}}}\n")
        self._write("ping", {"name": "Do nothing", "ansible.builtin.ping": {}})
        self._write(
            "apply",
            {
                "name": "Configure the service",
                "vault_config": {
                    "nodes": one.configured.cluster.arguments,
                    "ca_file": str(one.ca_file),
                    "token": "{{ lookup('ansible.builtin.env', 'VAULT_TOKEN') }}",
                    "jwt": "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}",
                    "login_role": "configurator",
                    "declared": "{{ declared }}",
                    "policy_dir": str(POLICIES),
                    "prove": {
                        "jwt": "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}",
                        "login_roles": ["operator", "configurator"],
                    },
                },
            },
            variables=["vos.yml", "declared.yml"],
        )
        self._declare()

    def ping(self) -> float:
        """Do nothing; return seconds."""
        return self._run("ping")[0]

    def apply(self, *, changes: bool, as_root: bool = False) -> tuple[float, int]:
        """Run the module; return seconds and requests."""
        root = self.one.configured.root if as_root else ""
        before = self.one.requests()
        seconds, changed = self._run("apply", VAULT_TOKEN=root)
        assert bool(changed) == changes, f"changed={changed}"
        return seconds, self.one.requests() - before

    def change_one(self, number: int) -> None:
        """Give the second VO another entitlement."""
        self.declared["vos"][1]["entitlement"] = f"urn:mace:egi.eu:group:changed:{number}"
        self._declare()

    def loop(self) -> tuple[float, int]:
        """Write each VO's objects by loops of vault_write; return seconds and writes."""
        policies, roles, groups, aliases = self._objects()
        (self.one.directory / "objects.yml").write_text(
            yaml.safe_dump({"vo_policies": policies, "vo_roles": roles, "vo_groups": groups, "vo_aliases": aliases})
        )
        self._write(
            "loop",
            *(
                {
                    "name": f"Write {what}",
                    "community.hashi_vault.vault_write": {
                        "url": self.one.url,
                        "ca_cert": str(self.one.ca_file),
                        "auth_method": "token",
                        "token": "{{ lookup('ansible.builtin.env', 'VAULT_TOKEN') }}",
                        "token_validate": False,
                        "path": "{{ item.path }}",
                        "data": "{{ item.data }}",
                    },
                    "loop": f"{{{{ vo_{what} }}}}",
                    "loop_control": {"label": "{{ item.path }}"},
                }
                for what in ("policies", "roles", "groups", "aliases")
            ),
            variables=["objects.yml"],
        )
        before = self.one.requests()
        seconds, _ = self._run("loop", VAULT_TOKEN=self.one.configured.root)
        return seconds, self.one.requests() - before

    def _objects(self) -> Iterator[list[dict[str, Any]]]:
        """Give what the module wrote for VOs, as paths and data; a group's alias needs its id, which is looked up here."""
        client = self.one.configured.client()

        def of_vos(place: str) -> dict[str, dict[str, Any]]:
            paths = [f"{place}/{name}" for name in client.names(place) if name.startswith("vo")]
            return dict(zip(paths, client.each(paths, lambda path: client.read(path) or {}), strict=True))

        groups = of_vos("identity/group/name")
        yield [{"path": path, "data": {"policy": each["policy"]}} for path, each in of_vos("sys/policies/acl").items()]
        yield [
            {"path": path, "data": {key: value for key, value in each.items() if value}}
            for path, each in of_vos("auth/jwt/role").items()
        ]
        yield [{"path": path, "data": {"type": "external", "policies": each["policies"]}} for path, each in groups.items()]
        yield [
            {
                "path": f"identity/group-alias/id/{each['alias']['id']}",
                "data": {
                    "name": each["alias"]["name"],
                    "mount_accessor": each["alias"]["mount_accessor"],
                    "canonical_id": each["id"],
                },
            }
            for each in groups.values()
        ]

    def _declare(self) -> None:
        # As in the role: what an operator lists is one variable, and what is declared refers to it.
        (self.one.directory / "vos.yml").write_text(yaml.safe_dump({"vos": self.declared["vos"]}))
        (self.one.directory / "declared.yml").write_text(yaml.safe_dump({"declared": {**self.declared, "vos": "{{ vos }}"}}))

    def _write(self, name: str, *tasks: Mapping[str, Any], variables: list[str] | None = None) -> None:
        play = {"name": name, **HOST, "tasks": list(tasks), "vars_files": variables or []}
        (self.one.directory / f"{name}.yml").write_text(json.dumps([play]))  # JSON is YAML

    def _run(self, name: str, **environment: str) -> tuple[float, int]:
        """Run a playbook; return seconds, and how many tasks changed something."""
        token = "" if environment.get("VAULT_TOKEN") and name != "apply" else self.one.configured.operator_token
        given = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "OIDC_ACCESS_TOKEN": token}
        program = Path(sys.executable).with_name("ansible-playbook")
        directory = self.one.directory
        start = time.monotonic()
        run = subprocess.run(
            [program, "--forks=1", "-i", directory / "hosts.yml", directory / f"{name}.yml"],
            env=os.environ | given | environment, cwd=PROJECT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.monotonic() - start
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        return seconds, int(run.stdout.rpartition("changed=")[2].split()[0])


def measure_size(vos: int, repetitions: int, figures: Figures, loops: int) -> None:
    """Measure everything for so many VOs on a fresh server."""
    size = figures.sizes[vos] = Size(vos)
    with service() as one:
        playbooks = Playbooks(one, vos)
        figures.floor.append(playbooks.ping())
        seconds, size.requests["first"] = playbooks.apply(changes=True, as_root=True)
        size.first.append(seconds)
        for _ in range(repetitions):
            seconds, size.requests["no_change"] = playbooks.apply(changes=False)
            size.no_change.append(seconds)
        for repetition in range(repetitions):
            playbooks.change_one(repetition)
            seconds, size.requests["one_changed"] = playbooks.apply(changes=True)
            size.one_changed.append(seconds)
        for _ in range(loops):
            seconds, figures.loop_writes = playbooks.loop()
            figures.loop.append(seconds)
        size.objects = sum(
            len(one.configured.client().names(place))
            for place in ("sys/policies/acl", "auth/jwt/role", "identity/group/name")
        )
    figures.load_average.append(os.getloadavg()[0])
    print(f"{vos} VOs: first {size.first[0]:.1f} s, no change {statistics.median(size.no_change):.2f} s,"
          f" one changed {statistics.median(size.one_changed):.2f} s", flush=True)  # fmt: skip


def spread(seconds: list[float]) -> str:
    """Write a median and its range."""
    return f"{statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def report(figures: Figures) -> None:
    """Print the table and the ratios."""
    print(f"\na playbook that does nothing: {spread(figures.floor)}\n")
    print("  VOs  objects  run          seconds                       requests  ms an object")
    for size in figures.sizes.values():
        runs = {"first": size.first, "no change": size.no_change, "one changed": size.one_changed}
        for name, seconds in runs.items():
            requests = size.requests[name.replace(" ", "_")]
            each = 1000 * statistics.median(seconds) / size.objects
            print(f"{size.vos:5}  {size.objects:7}  {name:11}  {spread(seconds):28}  {requests:8}  {each:12.2f}")
    if figures.loop:
        loop = statistics.median(figures.loop)
        print(f"\nloop of vault_write, {LOOP_VOS} VOs: {spread(figures.loop)}, {figures.loop_writes} writes")
        print(f"no change, {LOOP_VOS} VOs, loop / module: {loop / statistics.median(figures.sizes[LOOP_VOS].no_change):.0f}")
    if {100, 1000} <= figures.sizes.keys():
        large, small = (statistics.median(figures.sizes[vos].no_change) for vos in (1000, 100))
        print(f"no change, 1000 VOs: {large:.2f} s")
        print(f"no change, seconds a VO at 1000 / at 100: {large / 1000 / (small / 100):.2f}")
        first = [figures.sizes[vos].first[0] / vos for vos in (1000, 100)]
        print(f"first apply, seconds a VO at 1000 / at 100: {first[0] / first[1]:.2f}")
    print(f"load average at the end of each size: {', '.join(f'{load:.1f}' for load in figures.load_average)}")


def keep(name: str, figures: object) -> None:
    """Write figures to bench/results."""
    results = PROJECT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of VOs")
    parser.add_argument("--loops", type=int, default=3, help="how often the loop of vault_write is run")
    parser.add_argument("--logins", type=int, nargs="?", const=5000, default=0, help="measure what so many logins leave")
    arguments = parser.parse_args()
    if arguments.logins:
        keep("logins", measure_logins(arguments.logins))
        return
    figures = Figures()
    for vos in arguments.sizes:
        measure_size(vos, arguments.repetitions, figures, arguments.loops if vos == LOOP_VOS else 0)
    report(figures)
    keep("config", asdict(figures))


if __name__ == "__main__":
    main()
