"""Settings of a checker whose three sites are addresses of loopback, and what it looks after."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from endpoint_failover.cluster import Cluster as Client
from endpoint_failover.settings import Cluster, DnsServer, Dyndns, Name, Rules, Settings, Site
from endpoint_failover.wire import trust

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Request, TcpServer

NAME, SECOND = "vault.services.test", "secrets.egi.test"
SITES = {"iisas": "127.0.0.11", "infn": "127.0.0.12", "ifca": "127.0.0.13"}
# Short, so that tests are; each still several times what loopback needs on a busy machine.
RULES = replace(Rules(), timeout=0.6, dns_timeout=0.4, dyndns_timeout=0.6)
LIFE = 1200.0
HOST_SECRET = "host-secret-of-the-test"


def settings_of(directory: Path, *names: Name, port: int = 8200, ca_file: str = "", **changes: Any) -> Settings:
    """Return settings, and have a state directory."""
    state_dir = directory / "state"
    state_dir.mkdir(mode=0o700, exist_ok=True)
    for file in ("role-id", "secret-id", "host-secret"):
        (directory / file).touch(mode=0o600)
        (directory / file).write_text(HOST_SECRET if file == "host-secret" else f"{file}-of-the-test", encoding="ascii")
    base = Settings(
        observer="iisas",
        sites={site: Site(address) for site, address in SITES.items()},
        names=names or (name_of(directory, port=port),),
        cluster=Cluster(str(directory / "role-id"), str(directory / "secret-id")),
        ca_file=ca_file,
        state_dir=state_dir,
        rules=RULES,
    )
    return replace(base, **changes)


def name_of(
    directory: Path,
    name: str = NAME,
    *,
    port: int = 8200,
    dns_ports: tuple[int, ...] = (53,),
    dyndns_port: int = 443,
    dyndns_ca: str = "",
) -> Name:
    """Return a generic name, its DNS servers and its DynDNS server on loopback."""
    return Name(
        name=name,
        port=port,
        candidates=("infn", "ifca"),
        servers=tuple(DnsServer(f"ns{at}", "127.0.0.1", each) for at, each in enumerate(dns_ports, 1)),
        primary="ns1",
        dyndns=Dyndns(
            url=f"https://dyndns.test:{dyndns_port}/nic/update",
            host=name,
            secret_file=str(directory / "host-secret"),
            address="127.0.0.1",
            ca_file=dyndns_ca,
        ),
    )


@dataclass
class Sites:
    """Three sites, each of which answers as told, and a clock that goes when it is told to.

    Args:
        settings: of the checker at the first.
        servers: site → its server.
        answers: path after /v1/ → status and content; otherwise 404.
    """

    settings: Settings
    servers: dict[str, TcpServer]
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    now: float = 1000.0
    boot: str = "this boot"

    def cluster(self) -> Client:
        return Client(self.settings, trust(self.settings.ca_file), self.boot, lambda: self.now)

    def handle(self, request: Request) -> bytes:
        status, content = self.answers.get(request.path.removeprefix("/v1/"), (404, {"errors": []}))
        return servers.http(status, content(request) if callable(content) else content)

    def asked(self, path: str) -> list[str]:
        """Return which sites were asked for a path, in order of the sites."""
        return [site for site, server in self.servers.items() for request in server.requests if path in request.path]


def auth(token: str, life: float = LIFE) -> dict[str, Any]:
    return {"auth": {"client_token": token, "lease_duration": life}}
