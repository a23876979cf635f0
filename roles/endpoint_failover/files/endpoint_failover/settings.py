"""The settings: one JSON file, of which everything is asserted to be there and to fit together."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .errors import SettingsError

T = TypeVar("T")

LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Rules:
    """Intervals, time-outs and thresholds, seconds where nothing else is said.

    Args:
        interval: between checks of the sites that hold a name.
        idle_interval: between checks of the other sites while all is well.
        retry: between checks while something is in doubt.
        timeout: of a probe, and of each request to the cluster.
        fall: failures in a row after which a site is down.
        rise: successes in a row after which it is a candidate again.
        view_ttl: an observer whose view has not changed for so long is not counted.
        shared_interval: between looks at the others' views and the holds while all is well.
        lease_time: a lease that has not changed for so long may be taken from its holder.
        dyndns_timeout: of an update.
        dns_timeout: of a question to a DNS server.
        settle: how long DNS servers may differ before that is a trouble: the transfer to the secondary takes time.
        verify: how long an update may take to arrive at the DNS servers.
        max_sends: updates of a name in ten minutes, whatever happens.
        run_for: longest life of one run; the next run, started by cron, ends it sooner.
        fence_after: checks in a row that a node which leads cannot write before it is stopped.
        alarm_repeat: an alarm that lasts is told again after this.
    """

    interval: float = 2.0
    idle_interval: float = 8.0
    retry: float = 0.75
    timeout: float = 1.0
    fall: int = 3
    rise: int = 3
    view_ttl: float = 12.0
    shared_interval: float = 30.0
    lease_time: float = 20.0
    dyndns_timeout: float = 6.0
    dns_timeout: float = 0.8
    settle: float = 15.0
    verify: float = 10.0
    max_sends: int = 10
    run_for: float = 180.0
    fence_after: int = 8
    alarm_repeat: float = 6 * 3600.0

    @property
    def worst_case(self) -> float:
        """Seconds from a failure until the update is sent, at worst: a site that hangs, just after it was checked.

        Where the site led as well, the election comes on top.
        """
        return self.interval + (self.fall - 1) * max(self.retry, self.timeout) + 2 * self.timeout + self.retry

    def problems(self) -> list[str]:
        """Say what does not fit together, a sentence each."""
        found = [
            f"check.{each.name} is {getattr(self, each.name)}, and must be a number of more than 0."
            for each in dataclasses.fields(self)
            if not 0 < getattr(self, each.name) < math.inf
        ]
        if found:
            return found

        def at_least(name: str, least: float, because: str) -> None:
            value = getattr(self, name)
            if value < least:
                found.append(f"check.{name} is {value:g}, and must be at least {least:g}: {because}.")

        at_least("interval", self.retry, "what is in doubt is checked more often than what is well (check.retry)")
        at_least(
            "idle_interval", self.interval, "sites without a name are checked no more often than others (check.interval)"
        )
        at_least("fall", 2, "one failure is no proof")
        at_least(
            "view_ttl",
            self.interval + 3 * self.timeout,
            "a check whose probes all time out takes check.interval + 3 times check.timeout, and its observer is not dead",
        )
        at_least("shared_interval", self.interval, "views are read no more often than they are written (check.interval)")
        at_least(
            "lease_time",
            self.dyndns_timeout + 4 * self.timeout + 2,
            "its holder needs check.dyndns_timeout + 4 times check.timeout, and 2 s to spare, to move a name and say so",
        )
        at_least("verify", 2 * self.dns_timeout, "the DNS servers are asked twice at least (check.dns_timeout)")
        at_least("settle", 5, "BIND tells its secondary after 5 s unless it is told otherwise (notify-delay)")
        at_least("run_for", 75, "cron starts the next run after a minute, and may be late")
        if self.dns_timeout > self.timeout:
            found.append(
                f"check.dns_timeout is {self.dns_timeout:g}, and must be at most check.timeout ({self.timeout:g}): "
                "a silent DNS server must not hold up the check of the sites."
            )
        return found


@dataclass(frozen=True, slots=True)
class Site:
    """A site of the service.

    Args:
        address: IPv4 address that a generic name gets in DNS when it is there.
    """

    address: str


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A DNS server of the zone, asked directly."""

    name: str
    address: str
    port: int = 53


@dataclass(frozen=True, slots=True)
class Dyndns:
    """Where a name is updated, by the DynDNS2 protocol.

    Args:
        url: `https://…/nic/update`.
        host: the host's name at the service; also its user name there.
        secret_file: file that holds the host secret, readable by the checker's user alone.
        address: IP address to connect to; empty: what the URL's host resolves to.
        ca_file: PEM file of the authority that signed its certificate; empty: what the system trusts.
    """

    url: str
    host: str
    secret_file: str
    address: str = ""
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A generic name.

    Args:
        name: fully qualified, without the dot at the end.
        port: TCP port where users reach it.
        candidates: sites that may hold it, first choice first.
        servers: DNS servers of its zone.
        dyndns: where it is updated.
        primary: which of the servers is the zone's primary; empty: it is hidden, and not asked.
    """

    name: str
    port: int
    candidates: tuple[str, ...]
    servers: tuple[DnsServer, ...]
    dyndns: Dyndns
    primary: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the cluster is used.

    Args:
        mount: KV version 2 mount that the checkers share.
        login: path of the AppRole login.
        role_id_file: file that holds the role's id.
        secret_id_file: file that holds the secret id, readable by the checker's user alone.
    """

    role_id_file: str
    secret_id_file: str
    mount: str = "operations"
    login: str = "approle"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings.

    Args:
        observer: the site that this checker runs at.
        sites: all members of the cluster.
        names: the generic names, each moved by itself.
        cluster: how the cluster is used.
        ca_file: PEM file of the authority that signed the nodes' certificates.
        state_dir: directory of the checker's user: memory, token, lock.
        rules: intervals, time-outs and thresholds.
        fence_file: file that asks root to stop this site's server, watched by a path unit; empty: never.
        textfile: where to write Prometheus metrics; empty: nowhere.
    """

    observer: str
    sites: Mapping[str, Site]
    names: tuple[Name, ...]
    cluster: Cluster
    ca_file: str
    state_dir: Path
    rules: Rules = field(default_factory=Rules)
    fence_file: str = ""
    textfile: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        """The other observers."""
        return tuple(site for site in self.sites if site != self.observer)

    @property
    def site_of(self) -> dict[str, str]:
        """Address → site."""
        return {site.address: name for name, site in self.sites.items()}

    def name(self, name: str) -> Name:
        """Return the settings of a generic name."""
        return next(each for each in self.names if each.name == name)


def load(path: Path) -> Settings:
    """Read the settings.

    Args:
        path: the JSON file.

    Raises:
        SettingsError: it cannot be read, or does not fit together; all problems at once.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise SettingsError(
            f"The settings {path} cannot be read by this user: run this as root, or as the checker's user with "
            "sudo -u endpoint-failover."
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings {path} cannot be read ({error}): run the role endpoint_failover again.") from None
    return parse(content)


def parse(content: Any) -> Settings:  # noqa: ANN401  # JSON from outside, whatever it is
    """Return the settings that a JSON object holds.

    Raises:
        SettingsError: they do not fit together.
    """
    top = _Reader(content, "")
    names = []
    for at, each in enumerate(top.list("names")):
        one = _Reader(each, f"names[{at}].")
        names.append(
            Name(
                name=one.text("name").rstrip(".").lower(),
                port=one.number("port"),
                candidates=tuple(str(site) for site in one.list("candidates")),
                servers=tuple(
                    _Reader(server, f"names[{at}].servers[{number}].").into(DnsServer)
                    for number, server in enumerate(one.list("servers"))
                ),
                primary=str(one.take("primary", "")),
                dyndns=_Reader(one.take("dyndns", {}), f"names[{at}].dyndns.").into(Dyndns),
            )
        )
        one.end()
    sites = top.take("sites", {})
    if not isinstance(sites, dict):
        raise SettingsError("sites is no object of site → {address}.")
    made = Settings(
        observer=top.text("observer"),
        sites={name: _Reader(each, f"sites.{name}.").into(Site) for name, each in sites.items()},
        names=tuple(names),
        cluster=_Reader(top.take("cluster", {}), "cluster.").into(Cluster),
        ca_file=top.text("ca_file"),
        state_dir=Path(top.text("state_dir")),
        rules=_Reader(top.take("check", {}), "check.").into(Rules),
        fence_file=str(top.take("fence_file", "")),
        textfile=str(top.take("textfile", "")),
    )
    top.end()
    found = problems(made)
    if found:
        raise SettingsError("\n".join(found))
    return made


def problems(settings: Settings) -> list[str]:
    """Say what does not fit together, a sentence each."""
    found = settings.rules.problems()
    if settings.observer not in settings.sites:
        found.append(f"observer is {settings.observer!r}, and must be one of the sites {', '.join(sorted(settings.sites))}.")
    if not settings.names:
        found.append("names is empty: there is nothing to move; name a generic name, or remove the checker.")
    for name, site in settings.sites.items():
        if not _is_ipv4(site.address):
            found.append(f"sites.{name}.address is {site.address!r}, and must be an IPv4 address: it goes into an A record.")
    if len(settings.site_of) < len(settings.sites):
        found.append("Two sites have the same address: each needs its own, or nobody can tell where a name is.")
    spelled = [name.name for name in settings.names]
    if len(set(spelled)) < len(spelled):
        found.append(f"names holds one twice ({', '.join(spelled)}): each generic name is declared once.")
    for each in settings.names:
        found.extend(_problems_of(each, settings.sites))
    return found


def _problems_of(each: Name, sites: Mapping[str, Site]) -> list[str]:
    found = []
    strangers = [site for site in each.candidates if site not in sites]
    if strangers or not each.candidates or len(set(each.candidates)) < len(each.candidates):
        found.append(
            f"candidates of {each.name} are {list(each.candidates)}, and must be some of the sites "
            f"{', '.join(sorted(sites))}, each once."
        )
    if not 0 < each.port <= LAST_PORT:
        found.append(
            f"port of {each.name} is {each.port}, and must be the TCP port where users reach it (1 to {LAST_PORT})."
        )
    if not each.servers:
        found.append(f"servers of {each.name} is empty: where the name is, is asked of the zone's DNS servers.")
    if len({server.name for server in each.servers}) < len(each.servers):
        found.append(f"servers of {each.name} holds one twice: each DNS server needs a name of its own.")
    found.extend(
        f"servers of {each.name}: {server.name} is {server.address}, port {server.port}, and must be an IP address with "
        f"a port (1 to {LAST_PORT}): DNS servers are asked directly, and nobody is there to resolve their names."
        for server in each.servers
        if not (_is_ip(server.address) and 0 < server.port <= LAST_PORT)
    )
    if each.primary and each.primary not in {server.name for server in each.servers}:
        found.append(
            f"primary of {each.name} is {each.primary!r}, and must be the name of one of its servers, or empty "
            "where the primary is hidden."
        )
    if not _is_https(each.dyndns.url):
        found.append(
            f"dyndns.url of {each.name} is {_shown(each.dyndns.url)!r}, and must be https://<host>/nic/update: the host "
            "secret is sent over verified TLS only, and never in a URL."
        )
    return found


class _Reader:
    """Takes what is known out of a JSON object; what is left at the end is a mistake."""

    def __init__(self, content: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(content, dict):
            raise SettingsError(f"{where.rstrip('.') or 'The settings'}: an object is wanted, not {type(content).__name__}.")
        self._left = dict(content)
        self._where = where

    def take(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        return self._left.pop(key, default)

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{self._where}{key} is {value!r}, and must be a text.")
        return value

    def number(self, key: str) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingsError(f"{self._where}{key} is {value!r}, and must be a whole number.")
        return value

    def list(self, key: str) -> list[Any]:
        value = self.take(key)
        if not isinstance(value, list):
            raise SettingsError(f"{self._where}{key} is {value!r}, and must be a list.")
        return value

    def end(self) -> None:
        if self._left:
            unknown = ", ".join(self._where + key for key in sorted(self._left))
            raise SettingsError(f"The settings hold what nobody knows: {unknown}. Correct the spelling, or remove it.")

    def into(self, kind: type[T]) -> T:
        """Return a dataclass whose fields are texts or numbers, with its own defaults."""
        given: dict[str, Any] = {}
        for each in dataclasses.fields(kind):  # type: ignore[arg-type]
            needed = each.default is dataclasses.MISSING
            value = self.take(each.name, None if needed else each.default)
            wanted = {"str": str, "int": int, "float": float}[str(each.type)]
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if not isinstance(value, wanted) or isinstance(value, bool) or (needed and value == ""):
                raise SettingsError(f"{self._where}{each.name} is {value!r}, and must be of type {each.type}.")
            given[each.name] = value
        self.end()
        return kind(**given)


def _is_ipv4(text: str) -> bool:
    return _is_ip(text) and ipaddress.ip_address(text).version == 4  # noqa: PLR2004


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_https(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme == "https" and bool(url.hostname) and not url.username and url.port != 0
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Return a URL without what may be a secret in it."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('//')[0]}//…@{after}" if at else url
