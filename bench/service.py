"""One real server with settings like the lab's, for benchmarks: raft, TLS, two audit devices; on loopback, thrown away."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

import ansible.module_utils  # noqa: E402

# AnsiballZ puts plugins/module_utils beside ansible-core's own; so do the tests.
ansible.module_utils.__path__.append(str(PROJECT / "plugins" / "module_utils"))
os.environ.setdefault("VAULT_TEST_BINARY", str(PROJECT / ".cache" / "openbao" / "bao"))

from tests.integration.configured import Configured, declared  # noqa: E402
from tests.integration.servers import LOOPBACK, Authority, Cluster, free_ports  # noqa: E402

POLICIES = PROJECT / "files" / "policies"
# What the lab's template sets beyond what the tests' servers have. The second listener has a name that every client
# resolves: community.hashi_vault has no `connect_address`.
_SETTINGS = """
log_level = "info"

listener "tcp" {{
  address          = "{loopback}:{port}"
  cluster_address  = "{loopback}:{cluster_port}"
  tls_cert_file    = "{certificate}"
  tls_key_file     = "{key}"
  tls_min_version  = "tls12"
  max_request_size = 1048576
}}

audit "file" "one" {{
  options {{ file_path = "{audits[0]}" }}
}}

audit "file" "two" {{
  options {{ file_path = "{audits[1]}" }}
}}

telemetry {{
  prometheus_retention_time = "60s"
  disable_hostname          = true
}}
"""


@dataclass
class Service:
    """A server that is unsealed and not configured yet.

    Attributes:
        configured: the server with its identity provider, which is a key pair.
        directory: everything of it.
        url: where a client reaches it that resolves names.
        audit: its first audit log.
    """

    configured: Configured
    directory: Path
    url: str
    audit: Path

    @property
    def ca_file(self) -> Path:
        """The authority that signed its certificates."""
        return self.configured.cluster.ca_file

    def requests(self) -> int:
        """Return how many requests it has taken so far, by its audit log."""
        with self.audit.open("rb") as log:
            return sum(b'"type":"request"' in line for line in log)

    def memory(self) -> float:
        """Return its resident memory in MB."""
        process = self.configured.cluster.servers[0].process
        assert process is not None
        status = Path(f"/proc/{process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024

    def stored(self) -> tuple[float, float]:
        """Return the sizes of its database and of Raft's log in MB."""
        raft = self.configured.cluster.servers[0].directory / "raft"
        return (raft / "vault.db").stat().st_size / 1e6, (raft / "raft" / "raft.db").stat().st_size / 1e6


@contextmanager
def service() -> Iterator[Service]:
    """Start a server, and remove every trace of it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    authority = Authority(directory)
    cluster = Cluster(directory, ["one"], authority)
    certificate, key = authority.issue("localhost")
    port, cluster_port = free_ports(2)
    audits = [directory / f"audit-{number}" / "audit.log" for number in (1, 2)]
    for path in audits:
        path.parent.mkdir()
    with (cluster.servers[0].directory / "server.hcl").open("a") as file:
        file.write(
            _SETTINGS.format(
                loopback=LOOPBACK, port=port, cluster_port=cluster_port, certificate=certificate, key=key, audits=audits
            )
        )
    try:
        yield Service(Configured.start(cluster, POLICIES), directory, f"https://localhost:{port}", audits[0])
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def declaration(one: Service, vos: int) -> dict[str, Any]:
    """Return the tests' declaration with so many VOs, of which every tenth has members who only read."""
    many = [_vo(number) for number in range(vos)]
    return declared(
        one.configured.provider,
        vos=many,
        quotas=[{"name": "logins", "settings": {"path": "auth/jwt/login", "rate": 100000}}],
    )


def _vo(number: int) -> dict[str, Any]:
    name = f"vo{number}.example.org"
    group = f"urn:mace:egi.eu:group:{name}"
    each = {"name": name, "entitlement": f"{group}:role=member#aai.egi.eu"}
    return each if number % 10 else {**each, "members": "read", "writers": [f"{group}:role=manager#aai.egi.eu"]}
