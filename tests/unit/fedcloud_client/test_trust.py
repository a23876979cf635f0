"""Whom a VM's system trusts: the role's own tasks on a store of CAs in a folder, cut off after any of them."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import host_files
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.integration.servers import Authority

ROLE = Path(__file__).resolve().parents[3] / "roles/fedcloud_client"
STEM = "secret-management-service"
ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
# As Debian's, which makes the links by hash anew only where a name is new: that is left to the role here.
UPDATE = """#!/bin/sh -e
for file in {own}/*.crt; do ln -sf "$file" "{store}/$(basename "$file" .crt).pem"; done
cat {own}/*.crt > {store}/ca-certificates.crt
"""
STEPS = 5


@dataclass
class Vm:
    """A system that trusts CAs by a bundle and by links."""

    own: Path
    store: Path
    commands: Path

    def run(self, *wanted: Authority, steps: int = STEPS) -> list[str]:
        """Look, and take the first steps of trust.yml. Returns what changed: paths, and commands."""
        variables = self._variables(wanted)
        templar = Templar(DataLoader(), variables=variables)
        changed = []
        for task in _load("tasks/trust.yml")[:steps]:
            assert task.get("when", "not __fedcloud_client_host.trust_settled") == "not __fedcloud_client_host.trust_settled"
            if "when" in task and variables["__fedcloud_client_host"]["trust_settled"]:
                continue
            if "host_files" in task:
                files = templar.template(task["host_files"]["files"])
                changes = host_files.plan([host_files.wanted_from({**each, **ME}) for each in files])
                host_files.apply(changes)
                changed += [change.wanted.path for change in changes]
            else:
                changed.append(self.command(*templar.template(task["ansible.builtin.command"]["argv"])))
        return changed

    def command(self, *argv: str) -> str:
        subprocess.run(argv, env={"PATH": f"{self.commands}:{os.environ['PATH']}"}, capture_output=True, check=True)
        return argv[0]

    def seen(self, *wanted: Authority) -> dict[str, Any]:
        seen: dict[str, Any] = self._variables(wanted)["__fedcloud_client_host"]
        return seen

    def _variables(self, wanted: tuple[Authority, ...]) -> dict[str, Any]:
        own = {
            **_load("vars/main.yml"),
            "fedcloud_client_install_dir": str(self.commands),
            "__fedcloud_client_ca": "# comment\n".join(each.ca_file.read_text() for each in wanted),
            "__fedcloud_client_ca_dir": str(self.own),
            "__fedcloud_client_ca_store": str(self.store),
        }
        asked = Templar(DataLoader(), variables=own).template(_load("tasks/look.yml")[0]["ansible.builtin.command"]["argv"])
        look = (ROLE / "files/look.py").read_text()
        told = subprocess.run([sys.executable, *asked[1:]], input=look, capture_output=True, text=True, check=True)
        return {**own, "__fedcloud_client_host": json.loads(told.stdout)}

    def trusts(self, authority: Authority) -> tuple[bool, bool]:
        """Tell whether a CA is in the bundle, and whether it is found by its hash."""
        verify = ["openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", str(self.store), str(authority.ca_file)]
        found = subprocess.run(verify, capture_output=True, check=False)
        return authority.ca_file.read_text() in (self.store / "ca-certificates.crt").read_text(), found.returncode == 0

    def names(self) -> list[str]:
        return [path.name for place in (self.own, self.store) for path in sorted(place.glob(f"{STEM}*"))]


def _load(file: str) -> Any:
    return DataLoader().load_from_file(str(ROLE / file), trusted_as_template=True)


@pytest.fixture(scope="module")
def cas(tmp_path_factory: pytest.TempPathFactory) -> list[Authority]:
    """Four: one that is not the service's comes third; the last has the first one's name, as a CA with another key."""
    return [Authority(tmp_path_factory.mktemp("ca"), f"{name} CA") for name in ("old", "new", "another's", "old")]


@pytest.fixture
def vm(tmp_path: Path, cas: list[Authority]) -> Vm:
    made = Vm(tmp_path / "own", tmp_path / "store", tmp_path / "commands")
    for place in (made.own, made.store, made.commands):
        place.mkdir()
    (made.commands / "update-ca-certificates").write_text(UPDATE.format(own=made.own, store=made.store))
    (made.commands / "update-ca-certificates").chmod(0o755)
    (made.own / "another.crt").write_text(cas[2].ca_file.read_text())
    made.command("update-ca-certificates")
    made.command("openssl", "rehash", str(made.store))
    return made


def by_position(vm: Vm, *authorities: Authority) -> None:
    """Have it as an earlier release left it: files named by their place, and no record."""
    for place, each in enumerate(authorities, 1):
        (vm.own / f"{STEM}{'' if place == 1 else f'-{place}'}.crt").write_text(each.ca_file.read_text())
    vm.command("update-ca-certificates")
    vm.command("openssl", "rehash", str(vm.store))


def test_cas_are_trusted_once_whatever_their_order(vm: Vm, cas: list[Authority]) -> None:
    old, new, others, third = cas
    assert vm.run(old, new)[-3:] == ["update-ca-certificates", "openssl", f"{vm.own}/{STEM}.record"]
    assert vm.run(old, new) == vm.run(new, old) == vm.run(new, old, new) == []
    assert [vm.trusts(each) for each in cas] == [(True, True)] * 3 + [(False, False)]
    assert vm.run(new, third)
    assert vm.run(third, new) == []
    assert [vm.trusts(each) for each in (old, new, others, third)] == [(False, False)] + [(True, True)] * 3


@pytest.mark.parametrize("earlier", [False, True])
def test_a_ca_is_found_once_another_of_its_name_is_gone(vm: Vm, cas: list[Authority], earlier: bool) -> None:
    if earlier:
        by_position(vm, cas[0], cas[3])
    else:
        vm.run(cas[0], cas[3])
    assert vm.trusts(cas[0])[0]
    assert vm.trusts(cas[3])[0]
    vm.run(cas[3])
    assert (vm.trusts(cas[0]), vm.trusts(cas[3])) == ((False, False), (True, True))


def test_a_name_never_has_another_content(vm: Vm, cas: list[Authority]) -> None:
    old, new, *_ = cas
    vm.run(old, new)
    before = {path.name: path.read_text() for path in vm.own.glob("*.crt")}
    vm.run(new)
    assert {path.name: path.read_text() for path in vm.own.glob("*.crt")}.items() <= before.items()


def test_a_system_that_trusts_none_of_ours_keeps_nothing_of_ours(vm: Vm, cas: list[Authority]) -> None:
    assert vm.run() == []
    vm.run(cas[0])
    assert vm.run()
    assert (vm.run(), vm.names()) == ([], [])
    assert [vm.trusts(each)[0] for each in cas] == [False, False, True, False]


@pytest.mark.parametrize("steps", range(STEPS))
@pytest.mark.parametrize(("earlier", "meanwhile"), [(False, False), (True, True)])
def test_a_run_that_was_cut_off_is_made_good_by_the_next(
    vm: Vm, cas: list[Authority], steps: int, earlier: bool, meanwhile: bool
) -> None:
    old, new, others, third = cas
    if earlier:
        by_position(vm, old, new)
    else:
        vm.run(old, new)
    goals = [[new], [third, new]] if meanwhile else [[new]]
    for wanted in goals:
        vm.run(*wanted, steps=steps)
        told = vm.seen(*wanted)
        assert not told["trust_settled"]
        assert {each.ca_file.read_text() for each in (old, new, third) if vm.trusts(each)[0]} == set(told["trusted"])
    vm.run(*goals[-1])
    assert vm.run(*goals[-1]) == []
    assert [vm.trusts(each) for each in (old, new, others, third)] == [
        (False, False),
        (True, True),
        (True, True),
        (meanwhile, meanwhile),
    ]
    assert vm.seen(*goals[-1])["trust_settled"]


def test_what_an_earlier_release_left_is_trusted_under_another_name(vm: Vm, cas: list[Authority]) -> None:
    old, new, *_ = cas
    by_position(vm, old, new)
    assert set(vm.seen(old, new)["trusted"]) == {old.ca_file.read_text(), new.ca_file.read_text()}
    vm.run(old, new)
    assert vm.run(old, new) == []
    assert not {f"{STEM}.crt", f"{STEM}-2.crt", f"{STEM}.pem", f"{STEM}-2.pem"} & set(vm.names())
    assert [vm.trusts(each) for each in cas] == [(True, True)] * 3 + [(False, False)]


@pytest.mark.parametrize("lost", ["file", "link", "bundle"])
def test_what_was_lost_comes_back(vm: Vm, cas: list[Authority], lost: str) -> None:
    vm.run(cas[0])
    if lost == "bundle":
        (vm.store / "ca-certificates.crt").write_text(cas[2].ca_file.read_text())
    else:
        next((vm.own if lost == "file" else vm.store).glob(f"{STEM}-*")).unlink()
    assert "update-ca-certificates" in vm.run(cas[0])
    assert (vm.run(cas[0]), vm.trusts(cas[0])) == ([], (True, True))
