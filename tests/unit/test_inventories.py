"""Both inventories are sound: they parse, the playbooks fit them, and the roles would accept what they set.

No host is touched and no name is looked up: values are rendered by a play over local connections, with the addresses
that production takes from DNS given from outside.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
INVENTORIES = ("lab", "production")
MEMBERS = {"vault-iisas", "vault-infn", "vault-ifca"}
PLAYBOOKS = sorted(file for folder in (".", "deploy", "operate") for file in (ROOT / "playbooks" / folder).glob("*.yml"))
ROLES = sorted(path.parents[1].name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
# Whom a role is for, where that is not the members. A role without hosts is one that other roles include.
GROUPS = {"dns_server": "dns", "dyndns_server": "dyndns", "python_environment": "none"}
UNSET = "(unset)"
# What DNS would say. Documentation addresses: RFC 5737.
NO_DNS = {"vault_peer_addresses": ["192.0.2.1"]}

Rendered = Callable[[str], dict[str, dict[str, Any]]]


def command(*words: str | Path, **environment: str) -> str:
    """Run one of Ansible's commands in the checkout; return what it prints, or fail with it."""
    done = subprocess.run(
        [str(BIN / words[0]), *map(str, words[1:])],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def listing(inventory: str) -> dict[str, Any]:
    """Return what ansible-inventory lists; nothing in it is rendered."""
    listed: dict[str, Any] = json.loads(command("ansible-inventory", "-i", ROOT / "inventories" / inventory, "--list"))
    return listed


@functools.cache
def options(role: str) -> dict[str, Any]:
    """Return the options of the role's main entry point."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    found: dict[str, Any] = specs["argument_specs"]["main"].get("options", {})
    return found


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Give a function inventory → host → variables that the roles take, as a task would see them."""
    names = sorted({name for role in ROLES for name in options(role)})
    play = tmp_path_factory.mktemp("rendered") / "play.yml"
    values = {name: f"{{{{ lookup('ansible.builtin.vars', '{name}', default='{UNSET}') }}}}" for name in names}
    task = {"name": "Render", "ansible.builtin.debug": {"var": "values"}, "vars": {"values": values}}
    told = {"hosts": "vault:dns:dyndns", "connection": "local", "gather_facts": False, "tasks": [task]}
    play.write_text(yaml.safe_dump([told]))

    @functools.cache
    def render(inventory: str) -> dict[str, dict[str, Any]]:
        printed = command(
            "ansible-playbook",
            "-i",
            ROOT / "inventories" / inventory,
            "-e",
            json.dumps(NO_DNS),
            play,
            ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        )
        hosts = json.loads(printed)["plays"][0]["tasks"][0]["hosts"]
        return {host: {k: v for k, v in result["values"].items() if v != UNSET} for host, result in hosts.items()}

    return render


def own_names(inventory: str) -> set[str]:
    """Return the names of the variables that are about the service, not about how a host is reached."""
    variables = {name for host in listing(inventory)["_meta"]["hostvars"].values() for name in host}
    return {name for name in variables if name.startswith(("vault_", "site_", "hide_", "endpoint_"))}


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_the_three_sites_are_the_members(inventory: str) -> None:
    graph = command("ansible-inventory", "-i", ROOT / "inventories" / inventory, "--graph", "vault")

    assert {line.strip(" |-") for line in graph.splitlines()[1:]} == MEMBERS


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_playbook_fits_the_inventory(inventory: str) -> None:
    command("ansible-playbook", "-i", ROOT / "inventories" / inventory, "--syntax-check", *PLAYBOOKS)


def test_production_says_all_that_the_lab_says() -> None:
    assert own_names("lab") - own_names("production") == set()


def test_production_needs_nothing_of_the_lab() -> None:
    assert "lab_" not in json.dumps(listing("production"))


def test_listing_production_looks_no_name_up() -> None:
    addresses = {host["vault_node_ipv4"] for host in listing("production")["_meta"]["hostvars"].values()}

    assert all("community.general.dig" in address for address in addresses)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("inventory", INVENTORIES)
def test_the_role_accepts_the_inventory(inventory: str, role: str, rendered: Rendered) -> None:
    spec = options(role)
    hosts = set(listing(inventory).get(GROUPS.get(role, "vault"), {}).get("hosts", []))
    errors = {
        host: ArgumentSpecValidator(spec).validate({k: v for k, v in values.items() if k in spec}).error_messages
        for host, values in rendered(inventory).items()
        if host in hosts
    }

    assert errors == {host: [] for host in hosts}
    assert hosts or role in GROUPS


def test_no_private_key_is_in_git_in_clear() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "inventories"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    texts = {name: (ROOT / name).read_text(errors="replace") for name in tracked if (ROOT / name).is_file()}

    assert [name for name, text in texts.items() if "PRIVATE KEY" in text and text.startswith("-----BEGIN")] == []
