"""TLS files change under servers that serve: what each listener really serves, and what its clients make of it."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import certificates, listeners
from ansible.module_utils.egi_secrets.errors import UnreachableError
from ansible.module_utils.egi_secrets.listeners import Listener, Seen
from ansible.module_utils.egi_secrets.reconcile.server import Server as Client

from tests.integration.ceremony import Ceremony
from tests.integration.modules import Result, run_module
from tests.integration.servers import LOOPBACK, Authority, Server, free_ports
from tests.odd_keys import unreadable_key

GENERIC = "vault.bao.test"


class Node:
    """A server that serves, whose TLS files the test changes, with a second listener."""

    def __init__(self, ceremony: Ceremony, server: Server, authority: Authority) -> None:
        self.server = server
        self.ceremony = ceremony
        (self.extra,) = free_ports(1)
        self.certificate, self.key = (server.directory / name for name in ("server.crt", "server.key"))
        self.write(*authority.issue(server.fqdn, GENERIC))
        self._configure()

    def _configure(self) -> None:
        settings = self.server.directory / "server.hcl"
        (unused,) = free_ports(1)
        pair = f'tls_cert_file = "{self.certificate}"\n  tls_key_file = "{self.key}"\n}}\n'
        head, _, tail = settings.read_text().partition("tls_cert_file")
        second = f'address = "{LOOPBACK}:{self.extra}"\n  cluster_address = "{LOOPBACK}:{unused}"\n  {pair}'
        settings.write_text(f'{head}{pair}\nlistener "tcp" {{\n  {second}{tail.partition("}")[2]}')

    def write(self, certificate: Path, key: Path) -> None:
        self.write_certificate(certificate)
        self.key.write_bytes(key.read_bytes())

    def write_certificate(self, certificate: Path) -> None:
        self.certificate.write_bytes(certificate.read_bytes())

    @property
    def sha256(self) -> str:
        """Of the certificate on disk."""
        return certificates.fingerprints(self.certificate.read_text())[0]

    def reload(self) -> None:
        assert self.server.process is not None
        logged = (self.server.directory / "server.log").stat().st_size
        self.server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while b"reload triggered" not in (self.server.directory / "server.log").read_bytes()[logged:]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def await_journal(self, words: str) -> None:
        deadline = time.monotonic() + 10
        while words not in self.server.journal():
            assert time.monotonic() < deadline, self.server.journal()
            time.sleep(0.05)

    @property
    def arguments(self) -> list[dict[str, Any]]:
        return [
            {"node": self.server.name, "address": LOOPBACK, "port": port, "names": [self.server.fqdn, GENERIC]}
            for port in (self.server.port, self.extra)
        ]

    def look(self, ca: Path, **arguments: Any) -> Result:
        return run_module("tls_listeners", listeners=self.arguments, ca_file=str(ca), **arguments).succeeded()

    def seen(self, ca: Path) -> Seen:
        return listeners.look(Listener(self.server.name, LOOPBACK, self.server.port, (self.server.fqdn,)), ca.read_text())


@pytest.fixture
def node(ceremony: Ceremony, authority: Authority) -> Iterator[Node]:
    """The first of three servers, initialised and unsealed."""
    made = Node(ceremony, ceremony.cluster["n1"], authority)
    made.server.restart()
    ceremony.stand_up()
    yield made


def both(directory: Path, *authorities: Authority) -> Path:
    bundle = directory / "both.crt"
    bundle.write_text("".join(each.ca_file.read_text() for each in authorities))
    return bundle


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    (tmp_path / "new").mkdir()
    return Authority(tmp_path / "new", "new CA")


def test_a_renewed_certificate_is_served_on_every_listener_after_a_reload(node: Node, authority: Authority) -> None:
    before = node.look(authority.ca_file, wanted={"n1": node.sha256})
    assert before["problems"] == []
    assert [each["status"] for each in before["listeners"]] == [200, 200]

    node.write(*authority.issue(node.server.fqdn, GENERIC))
    late = node.look(authority.ca_file, wanted={"n1": node.sha256})
    assert len(late["problems"]) == 2
    assert before["listeners"][0]["certificate"]["serial"] in late["problems"][0]

    process = node.server.process
    node.reload()
    after = node.look(authority.ca_file, wanted={"n1": node.sha256}, patience=5)
    assert after["problems"] == []
    assert {each["certificate"]["sha256"] for each in after["listeners"]} == {node.sha256}
    assert process is not None
    assert process.poll() is None


def test_a_pair_that_is_half_written_leaves_the_old_one_served(node: Node, authority: Authority) -> None:
    """A run that is killed between the two files, and a reload by somebody else: nobody notices."""
    before, key = node.sha256, node.key.read_bytes()
    certificate, new_key = authority.issue(node.server.fqdn, GENERIC)
    node.write_certificate(certificate)
    node.reload()
    node.await_journal("private key does not match public key")
    seen = node.look(authority.ca_file, wanted={"n1": before})
    assert seen["problems"] == []
    assert node.key.read_bytes() == key

    node.write(certificate, new_key)
    node.reload()
    assert node.look(authority.ca_file, wanted={"n1": node.sha256}, patience=5)["problems"] == []


def test_a_pair_that_the_server_cannot_read_is_taken_back_by_a_run_that_was_cut_off(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    before = node.sha256
    mine = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
    where: dict[str, Any] = {"certificate": str(node.certificate), "directory": str(tmp_path / "kept"), **mine}
    old_key = node.key.read_bytes()
    assert run_module("tls_way_back", state="kept", served=before, **where).succeeded()["changed"]
    node.write(*authority.issue(node.server.fqdn, GENERIC, key=unreadable_key()))
    node.reload()
    node.await_journal("public exponent too large")
    assert node.look(authority.ca_file, wanted={"n1": before})["problems"] == []

    node.key.write_bytes(old_key)  # so far a way back came that was cut off
    assert not run_module("tls_way_back", state="kept", served=before, **where).succeeded()["changed"]
    returned = run_module("tls_way_back", state="back", key_group=mine["group"], **where).succeeded()
    assert returned["changed_paths"] == [str(node.key), str(node.certificate)]
    assert not run_module("tls_way_back", state="back", key_group=mine["group"], **where).succeeded()["changed"]
    node.reload()
    assert node.look(authority.ca_file, wanted={"n1": before})["problems"] == []
    node.server.restart()


def test_who_vouches_for_what_is_served_is_told_whatever_else_is_trusted(
    node: Node, authority: Authority, new: Authority, tmp_path: Path
) -> None:
    bundle = both(tmp_path, authority, new)
    old_root, new_root = certificates.fingerprints(bundle.read_text())
    assert node.seen(bundle).authorities == (old_root,)

    alone = node.look(new.ca_file)
    assert {tuple(each["authorities"]) for each in alone["listeners"]} == {()}
    assert "is not accepted as n1.bao.test" in alone["problems"][0]

    node.write(*new.issue(node.server.fqdn, GENERIC))
    node.reload()
    assert node.look(bundle, wanted={"n1": node.sha256}, patience=5)["problems"] == []
    assert node.seen(bundle).authorities == (new_root,)


def test_a_certificate_that_ended_is_told_from_one_of_a_stranger(node: Node, authority: Authority) -> None:
    node.write(*authority.issue(node.server.fqdn, GENERIC, ended=True))
    node.reload()
    seen = node.look(authority.ca_file)
    assert "certificate has expired" in seen["problems"][0]
    for each in seen["listeners"]:
        assert each["authorities"] == certificates.fingerprints(authority.ca_file.read_text())
        assert each["serves"], "its server works"
        assert each["certificate"]["days_left"] < 0


def test_a_name_that_the_certificate_lacks_is_told(node: Node, authority: Authority) -> None:
    node.write(*authority.issue(node.server.fqdn))
    node.reload()
    seen = node.look(authority.ca_file)
    assert [list(each["errors"]) for each in seen["listeners"]] == [[GENERIC], [GENERIC]]
    assert f"is not accepted as {GENERIC}" in seen["problems"][0]


def test_a_certificate_that_strict_clients_refuse_is_told(node: Node, authority: Authority) -> None:
    node.write(*authority.issue(node.server.fqdn, GENERIC, strict=False))
    node.reload()
    seen = node.look(authority.ca_file)
    assert "Missing Authority Key Identifier" in seen["problems"][0]
    assert all(each["serves"] for each in seen["listeners"]), "most clients are served"


def test_a_sealed_node_and_one_that_is_down_do_not_serve(node: Node, authority: Authority) -> None:
    node.server.restart()
    assert "does not serve: sys/health answers 503" in node.look(authority.ca_file)["problems"][0]
    node.server.kill()
    gone = node.look(authority.ca_file)
    assert "does not answer (Connection refused)" in gone["problems"][0]
    assert gone["listeners"][0]["certificate"] is None


def test_a_ca_file_that_is_none_is_refused(node: Node, tmp_path: Path) -> None:
    refused = run_module("tls_listeners", listeners=node.arguments, ca_file=str(tmp_path / "gone"))
    assert "correct vault_cluster_ca_file" in refused.refused()
    (tmp_path / "empty").write_text("nothing")
    assert "is not accepted as" in node.look(tmp_path / "empty")["problems"][0]


def test_a_certificate_that_is_not_trusted_is_not_mistaken_for_a_bad_token(node: Node, new: Authority) -> None:
    client = Client(node.server.node, str(new.ca_file), 5.0, 1)
    with pytest.raises(UnreachableError, match="SSLCertVerificationError"):
        client.request("GET", "sys/health")


def test_raft_never_serves_these_files(node: Node, authority: Authority) -> None:
    """Its port knows keys of the cluster's own alone, whatever is renewed."""
    context = ssl.create_default_context(cafile=authority.ca_file)
    context.set_alpn_protocols(["raft_storage_v1"])
    with (
        socket.create_connection((LOOPBACK, node.server.cluster_port), timeout=5) as raw,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        context.wrap_socket(raw, server_hostname=node.server.fqdn)
