"""Hosts are lost, move, join and leave while users work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkin import Checkin
from lab import NODES, PROJECT, Lab, Run, wait_for
from load import Load

REPLACE = "operate/replace-site.yml"
THREE = ("vault-iisas", "vault-infn", "vault-ifca")
SPARE = ("vault-cesnet", "vault-lip")
MOVED = 52  # last octet of where a host moves to
DISKS = {"vault-lip": {"vault_server_data_dir": "/srv/openbao"}}  # one site has a disk for it elsewhere


class Sites:
    """The inventory, which operators edit, and Raft's members as an operator sees them."""

    def __init__(self, lab: Lab, directory: Path, jwt: str) -> None:
        self.lab = lab
        self._jwt = jwt
        self.directory = directory
        for name in ("group_vars", "host_vars"):
            (directory / name).symlink_to(PROJECT / "inventories/lab" / name)
        self.name(*THREE)
        lab.inventory = directory

    def name(self, *members: str, moved: str = "") -> None:
        """Write the inventory: these are the members, and one has moved to another address."""
        text: dict[str, Any] = yaml.safe_load((PROJECT / "inventories/lab/hosts.yml").read_text())
        groups = text["all"]["children"]["lab"]["children"]
        groups["vault"]["hosts"] = {name: DISKS.get(name) for name in members}
        groups["spare"]["hosts"] = {name: DISKS.get(name) for name in (*THREE, *SPARE) if name not in members}
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(text))
        if moved:
            folder = self.directory / "host_vars"
            folder.unlink()
            folder.mkdir()
            for file in (PROJECT / "inventories/lab/host_vars").iterdir():
                values = yaml.safe_load(file.read_text()) | ({"lab_address": MOVED} if file.stem == moved else {})
                (folder / file.name).write_text(yaml.safe_dump(values))
            self.lab.addresses[moved] = f"{self.lab.subnet}.{MOVED}"

    def replace(self, jwt: str, *arguments: str, operators: tuple[str, ...] = ("alice", "bob")) -> Run:
        """Run the playbook with some operators' keyrings at the keyboard."""
        return self.lab.run(REPLACE, "-e", self._homes(*operators), *arguments, jwt=jwt)

    def replaced(self, jwt: str, *arguments: str) -> Run:
        """Run it, to a good end."""
        run = self.replace(jwt, *arguments)
        assert run.returncode == 0, run.output[-6000:]
        return run

    def refused(self, jwt: str, *arguments: str) -> str:
        """Return what it says when it refuses, having removed nobody."""
        before = self.raft(self._jwt)
        run = self.replace(jwt, "-e", "membership_patience=2", *arguments)
        assert run.returncode != 0, run.output[-3000:]
        assert self.raft(self._jwt) == before
        return run.text

    def killed(self, jwt: str, task: str, time: int, *arguments: str) -> None:
        """Kill it as a task begins for so many times."""
        seen: list[str] = []

        def there(header: str, _: int) -> bool:
            seen.extend([header] if task in header else [])
            return len(seen) == time

        run = self.lab.kill_at(REPLACE, there, "-e", self._homes("alice", "bob"), *arguments, jwt=jwt)
        assert run.returncode < 0, run.output[-3000:]

    def _homes(self, *operators: str) -> str:
        return json.dumps({"vault_cluster_gnupg_homes": [str(self.lab.state / "gpg" / name) for name in operators]})

    def raft(self, jwt: str) -> dict[str, bool]:
        """Return Raft's members, and whether each votes."""
        answer = self.lab.api(self.leader(), "GET", "sys/storage/raft/configuration", token=self.token(jwt))
        servers = answer.body["data"]["config"]["servers"]
        return {each["node_id"]: each["voter"] for each in servers}

    def token(self, jwt: str) -> str:
        """Return a token of the operator."""
        login = self.lab.api(self.leader(), "POST", "auth/jwt/login", {"jwt": jwt, "role": "operator"})
        return str(login.body["auth"]["client_token"])

    def leader(self) -> str:
        """Return the node that leads, of all sites."""
        found: list[str] = []

        def one_leads() -> bool:
            found[:] = [node for node in (*THREE, *SPARE) if self.lab.api(node, "GET", "sys/health").status == 200]
            return len(found) == 1

        wait_for(one_leads, 30, "one active node")
        return found[0]

    def assert_members(self, jwt: str, *names: str) -> None:
        """Assert that these are the members, that all vote, and that their cluster ports are open to each other alone."""
        assert self.raft(jwt) == dict.fromkeys(names, True)
        for name in names:
            rules = self.lab.ssh(name, "nft list table inet openbao_peers")
            assert {each for each in self.lab.addresses if f" {self.lab.addresses[each]}" in rules.replace("{", " ")} == set(
                names
            )


@pytest.fixture(scope="module")
def jwt(lab: Lab) -> str:
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module")
def sites(lab: Lab, jwt: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """The service, configured; the inventory is a copy that the story edits."""
    lab.play(*NODES, jwt=jwt)
    before = lab.inventory
    yield Sites(lab, tmp_path_factory.mktemp("inventory"), jwt)
    lab.inventory = before


def standby(sites: Sites, *names: str) -> str:
    leader = sites.leader()
    return next(name for name in names or THREE if name != leader)


def others(name: str) -> list[str]:
    return [each for each in THREE if each != name]


def test_nothing_is_done_where_nothing_differs(sites: Sites, jwt: str) -> None:
    run = sites.replaced(jwt)
    assert "nothing is to be done" in run.text
    assert run.recap("changed") == 0
    assert "is not removed" in sites.replaced(jwt, "-e", "remove=vault-infn").text
    sites.assert_members(jwt, *THREE)


def test_what_nobody_can_have_meant_is_refused(sites: Sites, jwt: str) -> None:
    assert "vault-paris is no member of Raft" in sites.replaced(jwt, "-e", "remove=vault-paris").text
    assert "OIDC_ACCESS_TOKEN" in sites.refused("")
    sites.name("vault-iisas", "vault-infn")
    assert "-e remove=vault-ifca" in sites.refused(jwt), "a peer that the inventory does not name, and nobody gave up"
    assert "could not lose one" in sites.refused(jwt, "-e", "remove=vault-ifca"), "two of two would have to live"
    sites.name(*THREE)


@pytest.mark.parametrize("leads", [False, True])
def test_who_lives_is_not_shut_out_by_forgetting_it(sites: Sites, jwt: str, *, leads: bool) -> None:
    forgotten = sites.leader() if leads else standby(sites)
    sites.name(*others(forgotten))
    run = sites.lab.run("deploy/vault.yml", jwt=jwt)
    assert run.returncode != 0, run.output[-3000:]
    assert f"{'https://' if leads else ''}{forgotten}" in run.text
    assert "is a member of Raft that lives" in run.text
    sites.name(*THREE)
    sites.assert_members(jwt, *THREE)


def test_a_host_is_lost_and_its_name_lives_on(lab: Lab, sites: Sites, jwt: str) -> None:
    lost = standby(sites)
    with Load(lab, name=False, nodes=others(lost), keep="membership.json") as load:
        lab.lose(lost)
        unheard = f"{lost} cannot be reached by SSH: bring it back"
        assert unheard in sites.refused(jwt)
        live = standby(sites, *others(lost))
        sites.name(*(name for name in THREE if name != live))
        assert unheard in sites.refused(jwt, "-e", f"remove={live}"), "the cluster cannot spare another"
        sites.name(*THREE)

        lab.install(lost)
        assert f"-e remove={lost}" in sites.refused(jwt)
        assert f"remove={lost}" in lab.run("deploy/vault.yml").text, "site.yml does not start it, either"
        lab.ssh(lost, "rm -rf /opt/openbao")
        assert "which is older" in lab.run("deploy/vault.yml", "-e", "vault_version=2.7.1").text
        assert lab.ssh(lost, "ls -d /opt/openbao", check=False) == "", "an older checkout installed its release"
        planned = sites.replaced(jwt, "--check", "-e", f"remove={lost}")
        assert f"1. remove {lost} from Raft: it is dead" in planned.text
        assert lost in sites.raft(jwt)

        bundle = lab.state / "unseal-bundle.json"
        kept = bundle.read_text()
        bundle.unlink()  # this controller was not there when the keys were dealt: what the members hold counts
        run = sites.replaced(jwt, "-e", f"remove={lost}")
    seen = load.assert_sound()
    assert not any(seen.failed_with_retry.values()), seen
    assert "restored to a throw-away server and opened there" in run.text
    assert bundle.read_text() == kept
    assert list((lab.state / "snapshots").glob("before-removal-*"))
    sites.assert_members(jwt, *THREE)
    assert "nothing is to be done" in sites.replaced(jwt, "-e", f"remove={lost}").text


@pytest.mark.long
def test_a_member_that_lost_its_disk_is_opened_at_no_door(lab: Lab, sites: Sites, jwt: str) -> None:
    lost = standby(sites)
    both = json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in ("alice", "bob")]})
    lab.ssh(lost, "systemctl stop openbao; rm -rf /var/lib/openbao/*; systemctl start openbao")  # as after a reboot
    for door in ("operate/unseal.yml", "deploy/vault.yml", "operate/upgrade-cluster.yml"):
        run = lab.run(door, "-e", both, jwt=jwt)
        assert run.returncode != 0, f"{door}\n{run.output[-3000:]}"
        assert f"replace-site.yml -e remove={lost}" in run.text, f"{door}\n{run.output[-3000:]}"
        assert lab.api(lost, "GET", "sys/health").status in (501, 503)
    assert "run this without --limit" in lab.run("operate/unseal.yml", "-e", both, "--limit", lost).text
    assert f"replace-site.yml -e remove={lost}" in lab.run("operate/show-status.yml").text
    sites.replaced(jwt, "-e", f"remove={lost}")
    sites.assert_members(jwt, *THREE)


@pytest.fixture
def former(lab: Lab) -> Iterator[str]:
    """What a host's container is called once another host has its name."""
    name = f"{lab.resource}-former"
    yield name
    lab.podman("rm", "--force", "--ignore", "--time", "0", name)


@pytest.mark.long
def test_a_host_moves_to_another_address_while_the_old_one_lives(lab: Lab, sites: Sites, jwt: str, former: str) -> None:
    moving = standby(sites, "vault-infn", "vault-ifca")
    with Load(lab, name=False, nodes=others(moving)) as load:
        lab.podman("rename", f"{lab.resource}-{moving}", former)
        sites.name(*THREE, moved=moving)
        lab.install(moving)
        assert f"-e remove={moving}" in sites.refused(jwt)
        run = sites.replaced(jwt, "-e", f"remove={moving}")
        assert "its host was installed anew, or is another" in run.text
        sites.assert_members(jwt, *THREE)
    load.assert_sound()


@pytest.mark.long
def test_two_sites_join_and_leave_again(lab: Lab, sites: Sites, jwt: str) -> None:
    sites.name(*THREE, *SPARE)
    status = lab.run("operate/show-status.yml").text
    for name in SPARE:
        assert f"{name} has not joined the cluster. Run playbooks/operate/replace-site.yml" in status
    with Load(lab, name=False) as load:
        # One operator alone: the first of them has joined as far as a share goes, and the next goes on.
        first = sites.replace(jwt, operators=("alice",))
        assert first.returncode == 0, first.output[-3000:]
        assert "1 more share" in first.text
        assert "vault-cesnet" not in sites.raft(jwt)

        run = sites.replaced(jwt)
        sites.assert_members(jwt, *THREE, *SPARE)
        assert run.text.index("install vault-cesnet") < run.text.index("install vault-lip")

        hold(sites, jwt, "lip")  # as drain-site.yml does before a site leaves
        sites.name(*THREE)
        have_lead(lab, sites, jwt, SPARE)
        # One of them is lost meanwhile: it is removed all the same, and stopped once it is back.
        gone = next(name for name in SPARE if name != sites.leader())
        lab.podman("pause", f"{lab.resource}-{gone}")
        run = sites.replaced(jwt, "-e", "remove=vault-cesnet,vault-lip", "-e", "wipe=true")
        assert f"{gone} cannot be reached by SSH, so nothing was stopped there" in run.text
        assert held(sites, jwt) == [], "nobody could take a site back that is none any more"
        sites.assert_members(jwt, *THREE)
    load.assert_sound(longest_down=180)  # `have_lead` has nodes stand still, five times if need be
    lab.podman("unpause", f"{lab.resource}-{gone}")
    sites.replaced(jwt, "-e", "remove=vault-cesnet,vault-lip", "-e", "wipe=true")
    for name in SPARE:
        assert lab.ssh(name, "systemctl is-active openbao; systemctl is-enabled openbao", check=False).split() == [
            "inactive",
            "disabled",
        ]
        kept = lab.ssh(
            name,
            "find /etc/openbao /var/lib/openbao /srv -name '*.key' -o -name 'unseal-bundle*' -o -name '*.db'",
            check=False,
        )
        assert kept == ""
        assert lab.ssh(name, "ls /var/lib/openbao /srv/openbao 2> /dev/null | grep -v :", check=False).strip() == ""


def hold(sites: Sites, jwt: str, site: str) -> None:
    """Hold a site, until it is released."""
    content = {"until": 0, "by": "alice", "why": "it leaves"}
    path = f"operations/data/holds/{site}"
    assert sites.lab.api(sites.leader(), "PUT", path, {"data": content}, token=sites.token(jwt)).status == 200


def held(sites: Sites, jwt: str) -> list[str]:
    """Return the sites that are held."""
    names = sites.lab.api(sites.leader(), "LIST", "operations/metadata/holds", token=sites.token(jwt))
    keys = names.body["data"]["keys"] if names.status == 200 else []
    read = {
        key: sites.lab.api(sites.leader(), "GET", f"operations/data/holds/{key}", token=sites.token(jwt)) for key in keys
    }
    return [key for key, answer in read.items() if answer.status == 200]


def have_lead(lab: Lab, sites: Sites, jwt: str, wanted: tuple[str, ...]) -> None:
    """Have one of these lead. Raft hands over to whom it likes, so those that could win instead stand still meanwhile."""
    leader = sites.leader()
    if leader in wanted:
        return
    token = sites.token(jwt)
    still = [f"{lab.resource}-{name}" for name in THREE if name not in (leader, *wanted)]
    lab.podman("pause", *still)
    try:
        for _ in range(5):  # the one that stepped down may win again
            lab.api(leader, "POST", "sys/step-down", {}, token=token)
            with suppress(AssertionError):
                wait_for(
                    lambda: any(lab.api(name, "GET", "sys/health").status == 200 for name in wanted), 10, "them to lead"
                )
                break
    finally:
        lab.podman("unpause", *still)
    assert sites.leader() in wanted


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "time"),
    [
        ("Take a snapshot, and prove it by", 1),
        ("Remove the peer from Raft", 1),
        ("Stop its server, where it can be reached", 1),
        ("Write configuration, units", 1),
        ("Open the cluster port", 1),
        ("Have the server started", 1),
        ("Keep a copy of the unseal bundle", 2),  # first on those that stay, which have it
        ("Submit the shares", 1),
        ("Say how it ended", 1),
    ],
)
def test_killed_and_run_again(sites: Sites, jwt: str, task: str, time: int) -> None:
    lost = standby(sites)
    sites.lab.lose(lost)
    sites.lab.install(lost)
    sites.killed(jwt, task, time, "-e", f"remove={lost}")
    sites.replaced(jwt, "-e", f"remove={lost}")
    sites.assert_members(jwt, *THREE)
