"""Bad input gets a sentence, and nothing has changed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from lab import Lab, wait_for


def refused(lab: Lab, *arguments: str, says: list[str]) -> None:
    """Run site.yml, and assert that it is refused with these words and that nothing has changed."""
    run = lab.run("deploy/vault.yml", *arguments)
    assert run.returncode != 0, run.output[-3000:]
    assert [word for word in says if word not in run.text] == [], run.output[-3000:]
    assert run.recap("changed") == 0


def extra(**variables: object) -> list[str]:
    return ["-e", json.dumps(variables)]


@pytest.fixture(scope="module")
def gpg(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Public keys that will not do: expired, about to expire, and one that can only sign."""
    home = lab.state / "gpg" / "wrong"
    home.mkdir(mode=0o700, exist_ok=True)
    base = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--no-tty",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ]
    keys = {}
    recipes = {
        "expired": (["--faked-system-time", "20240101T000000"], ["default", "default", "30d"]),
        "expiring": ([], ["default", "default", "20d"]),
        "signing": ([], ["ed25519", "sign", "2y"]),
    }
    for name, (when, what) in recipes.items():
        subprocess.run([*base, *when, "--quick-generate-key", f"{name}@lab.test", *what], check=True, capture_output=True)
        keys[name] = home / f"{name}.asc"
        exported = subprocess.run([*base, "--armor", "--export", f"{name}@lab.test"], check=True, capture_output=True)
        keys[name].write_bytes(exported.stdout)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return keys


def operators(lab: Lab, **replaced: Path) -> list[dict[str, object]]:
    return [
        {"name": name, "pgp_key_file": str(replaced.get(name, lab.state / f"pgp/{name}.asc")), "shares": 1}
        for name in ("alice", "bob", "carol")
    ]


# --- on bare hosts: nothing may be installed ---------------------------------------------------------------------------


def test_unknown_product(lab: Lab) -> None:
    refused(lab, *extra(vault_product="valut"), says=["vault_product", "valut", "openbao"])


def test_wrong_checksum(lab: Lab) -> None:
    refused(lab, *extra(vault_server_checksum="0" * 64), says=["0" * 64, "sha256"])
    assert all(lab.ssh(node, "ls /opt").strip() == "" for node in lab.nodes)


def test_missing_certificate(lab: Lab) -> None:
    refused(lab, *extra(vault_server_tls_certificate_file="/nowhere/node.crt"),
            says=["vault_server_tls_certificate_file", "/nowhere/node.crt"])  # fmt: skip


def test_certificate_without_the_nodes_name(lab: Lab) -> None:
    refused(lab, *extra(vault_server_tls_certificate_file=str(lab.state / "tls/vault-infn.crt"),
                        vault_server_tls_key_file=str(lab.state / "tls/vault-infn.key")),
            says=["vault-iisas.lab.test"])  # fmt: skip


def test_key_of_another_certificate(lab: Lab) -> None:
    refused(lab, *extra(vault_server_tls_key_file=str(lab.state / "tls/vault-infn.key")), says=["vault_server_tls_key_file"])


def test_unreadable_key_file(lab: Lab) -> None:
    refused(lab, *extra(vault_server_tls_key_file=str(lab.state / "tls")), says=["vault_server_tls_key_file"])


def test_a_port_that_something_else_has(lab: Lab) -> None:
    holds = "import socket, time; s = socket.create_server(('127.0.0.1', 8201)); time.sleep(600)"
    lab.ssh("vault-infn", f'systemd-run --quiet --unit=story-port python3 -c "{holds}"')
    try:
        wait_for(lambda: ":8201 " in lab.ssh("vault-infn", "ss -Hltn"), 10, "a stranger on the cluster port")
        refused(lab, says=["vault-infn", "8201 by python3 (pid ", "vault_cluster_port", "No server was touched"])
    finally:
        lab.ssh("vault-infn", "systemctl stop story-port")


def test_check_mode_on_bare_hosts_fails_nothing_and_changes_nothing(lab: Lab) -> None:
    run = lab.play("deploy/vault.yml", "--check", "--diff")
    assert "cannot be checked" in run.text


def test_nothing_was_installed_by_any_of_these(lab: Lab) -> None:
    for node in lab.nodes:
        assert (
            lab.ssh(node, "ls -d /etc/openbao /opt/openbao /etc/systemd/system/openbao.service 2>/dev/null", check=False)
            == ""
        )


# --- on servers that wait for their first ceremony ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting(lab: Lab) -> None:
    """Servers that run and hold no cluster."""
    run = lab.run("deploy/vault.yml", *extra(vault_cluster_threshold=9))
    assert run.returncode != 0
    assert "vault_cluster_threshold" in run.text
    wait_for(lambda: all(lab.api(node, "GET", "sys/health").status == 501 for node in lab.nodes), 30, "three servers")


@pytest.mark.parametrize(
    ("name", "words"), [("expired", ["expired"]), ("expiring", ["expire", "90"]), ("signing", ["encrypt"])]
)
def test_a_key_that_will_not_do(lab: Lab, waiting: None, gpg: dict[str, Path], name: str, words: list[str]) -> None:
    refused(lab, *extra(vault_cluster_operators=operators(lab, bob=gpg[name])), says=["bob", *words])


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_a_threshold_that_is_not_sane(lab: Lab, waiting: None, threshold: int) -> None:
    refused(lab, *extra(vault_cluster_threshold=threshold), says=["vault_cluster_threshold", str(threshold)])


def test_two_operators_with_one_key(lab: Lab, waiting: None) -> None:
    refused(lab, *extra(vault_cluster_operators=operators(lab, bob=lab.state / "pgp/alice.asc")), says=["alice", "bob"])


def test_one_member_down_at_the_first_initialisation(lab: Lab, waiting: None) -> None:
    cut = "table inet story { chain in { type filter hook input priority -300; tcp dport 8200 drop; }; }"
    lab.ssh("vault-ifca", f"echo '{cut}' | nft -f -")
    try:
        refused(lab, says=["vault-ifca", "8200"])
        assert lab.api("vault-iisas", "GET", "sys/health").status == 501
    finally:
        lab.ssh("vault-ifca", "nft delete table inet story")


def test_two_clusters_in_one_inventory(lab: Lab, waiting: None) -> None:
    # Both are initialised before either is unsealed: a server that has no cluster yet joins, by its retry_join, the first
    # that it finds open, and two that are sealed answer no challenge.
    nodes = ("vault-iisas", "vault-infn")
    made = {node: lab.api(node, "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).body for node in nodes}
    for node in nodes:
        lab.api(node, "PUT", "sys/unseal", {"key": made[node]["keys"][0]})
    wait_for(lambda: all(lab.api(node, "GET", "sys/health").status == 200 for node in nodes), 60, "two clusters")
    refused(lab, says=["vault-iisas", "vault-infn", "cluster"])
