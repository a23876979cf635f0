"""The service with `vault_product: vault`, from bare hosts to what operators do with it."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from checkin import Checkin
from lab import PROJECT, Lab

BINARY = PROJECT / ".cache/openbao/bao"
VERSION = "2.7.2"  # what the binary says of itself


@pytest.fixture(scope="module")
def product() -> tuple[str, str]:
    """What an inventory says of the product, as ansible-playbook is given it."""
    variables = {
        "vault_product": "vault",
        "vault_version": VERSION,
        "vault_server_source": "file",
        "vault_server_file": str(BINARY),
        "endpoint_failover_names": [],  # no checkers here, nor DNS
        "vault_server_checksum": hashlib.sha256(BINARY.read_bytes()).hexdigest(),
    }
    return ("-e", json.dumps(variables))


@pytest.fixture(scope="module")
def jwt(lab: Lab) -> str:
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module")
def homes(lab: Lab) -> tuple[str, str]:
    """Two operators' keyrings at one keyboard."""
    return ("-e", json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in ("alice", "bob")]}))


@pytest.fixture(scope="module", autouse=True)
def service(lab: Lab, product: tuple[str, str], jwt: str) -> str:
    """Stand it up and configure it; return what that said."""
    first, *_ = lab.stand_up(*product)
    lab.play("deploy/config.yml", *product, jwt=jwt)
    return first.text


def test_operators_are_told_that_nothing_is_audited_until_they_see_to_it(service: str) -> None:
    assert "HashiCorp Vault takes its audit devices through its API" in service


def test_a_second_run_changes_nothing(lab: Lab, product: tuple[str, str], jwt: str) -> None:
    assert lab.play("deploy/vault.yml", *product, jwt=jwt).recap("changed") == 0
    assert lab.play("deploy/config.yml", *product, jwt=jwt).recap("changed") == 0
    assert lab.play("operate/show-drift.yml", *product, jwt=jwt).recap("changed") == 0


def test_it_is_in_vaults_own_places(lab: Lab) -> None:
    for node in lab.nodes:
        running = lab.ssh(node, "readlink /proc/$(systemctl show --property MainPID --value vault)/exe").strip()
        assert running == f"/opt/vault/{VERSION}/vault"
        assert lab.ssh(node, "ls -d /etc/openbao /opt/openbao /var/lib/openbao 2>/dev/null", check=False) == ""


def test_users_log_in_and_keep_secrets(lab: Lab) -> None:
    checkin = Checkin(lab)
    path = f"secrets/users/{checkin.people['ada']}/mine"
    login = lab.api("vault-infn", "POST", "auth/jwt/login", {"jwt": checkin.token("ada"), "role": "personal"}).body["auth"]
    token = str(login["client_token"])
    assert lab.api("vault-infn", "PUT", path, {"password": "correct horse"}, token=token).status == 204
    for node in lab.nodes:
        assert lab.api(node, "GET", path, token=token).body["data"] == {"password": "correct horse"}


def test_operators_have_the_doors_of_this_product(lab: Lab, product: tuple[str, str], jwt: str) -> None:
    leader = lab.active()
    login = lab.api(leader, "POST", "auth/jwt/login", {"jwt": jwt, "role": "operator"}).body["auth"]
    policy = lab.api(leader, "GET", "sys/policies/acl/operator", token=login["client_token"]).body["data"]["policy"]
    assert set(re.findall(r'path "(sys/(?:rekey|rotate)[^"]*)"', policy)) == {
        "sys/rekey/init",
        "sys/rekey/update",
        "sys/rekey/verify",
        "sys/rotate",
        "sys/rotate/config",
    }
    assert lab.play("operate/rotate-encryption-key.yml", *product, jwt=jwt).recap("changed") > 0


def test_a_configuration_change_is_rolled_out(lab: Lab, product: tuple[str, str], homes: tuple[str, str], jwt: str) -> None:
    change = ("-e", "vault_server_log_level=debug")
    run = lab.play("operate/upgrade-cluster.yml", *product, *homes, *change, jwt=jwt)
    assert len(re.findall(r"Restart the server, which seals it\] \*+\nchanged", run.output)) == len(lab.nodes)
    assert all("debug" in lab.ssh(node, "grep log_level /etc/vault.d/vault.hcl") for node in lab.nodes)
    assert lab.play("deploy/vault.yml", *product, *change, jwt=jwt).recap("changed") == 0


def test_certificates_are_renewed(lab: Lab, product: tuple[str, str], homes: tuple[str, str], jwt: str) -> None:
    lab.play("lab/certificates.yml", "-e", "only=vault")
    lab.play("operate/rotate-tls.yml", *product, *homes, jwt=jwt)
    assert lab.play("operate/rotate-tls.yml", *product, *homes, jwt=jwt).recap("changed") == 0


def test_the_status_names_what_is_not_audited(lab: Lab, product: tuple[str, str], jwt: str) -> None:
    run = lab.run("operate/show-status.yml", *product, jwt=jwt)
    assert run.returncode != 0
    assert "its audit file /var/log/vault/audit.log is not there" in run.text
    assert "autopilot calls them healthy" in run.text
