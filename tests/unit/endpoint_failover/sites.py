"""Settings of a checker whose three sites are addresses of loopback, and what it looks after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from endpoint_failover.settings import Cluster, DnsServer, Dyndns, Name, Rules, Settings, Site

NAME, SECOND = "vault.services.test", "secrets.egi.test"
SITES = {"iisas": "127.0.0.11", "infn": "127.0.0.12", "ifca": "127.0.0.13"}
# Short, so that tests are; each still several times what loopback needs on a busy machine.
RULES = replace(Rules(), timeout=0.6, dns_timeout=0.4, dyndns_timeout=0.6)
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
