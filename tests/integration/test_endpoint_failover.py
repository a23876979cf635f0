"""The failover checker on a real server, reached through sites that can be broken."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from endpoint_failover.__main__ import main
from endpoint_failover.cluster import Cluster as Checker
from endpoint_failover.loop import Run
from endpoint_failover.model import Hold, Kind, Lease, Outcome, Phase, Standing, View
from endpoint_failover.probe import probe
from endpoint_failover.settings import Cluster as Login
from endpoint_failover.settings import DnsServer, Dyndns, Name, Rules, Settings, Site
from endpoint_failover.state import State
from endpoint_failover.wire import trust

from plugins.filter.config import service_roles
from tests.integration.configured import Configured, declared
from tests.integration.modules import run_module
from tests.integration.servers import Authority, Cluster
from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import TcpServer, eventually, saying, within
from tests.unit.endpoint_failover.sites import SITES

POLICIES = Path(__file__).resolve().parents[2] / "files/policies"
NAME = "one.bao.test"
HEARTBEATS = 1000
# Short, within what fits together.
RULES = replace(
    Rules(),
    interval=0.5,
    idle_interval=1.0,
    retry=0.25,
    timeout=0.8,
    view_ttl=4.0,
    shared_interval=1.0,
    lease_time=7.0,
    dyndns_timeout=1.0,
    dns_timeout=0.4,
    settle=5.0,
    verify=3.0,
)


@dataclass
class Service:
    """A configured server, and three sites through which it is reached.

    Args:
        configured: the server.
        directory: for what belongs to checkers.
        port: of the sites.
        sites: site → what forwards its connections.
    """

    configured: Configured
    directory: Path
    port: int
    sites: dict[str, TcpServer] = field(default_factory=dict)

    @property
    def audit(self) -> Path:
        return self.configured.cluster.servers[0].directory / "audit.log"

    @property
    def database(self) -> Path:
        return self.configured.cluster.servers[0].directory / "raft/vault.db"

    def forward(self, _: TcpServer, connection: socket.socket) -> None:
        """Pass what comes to the server, and what it says back."""
        with connection, socket.create_connection(("127.0.0.1", self.configured.cluster.servers[0].port)) as there:
            back = threading.Thread(target=_pump, args=(there, connection), daemon=True)
            back.start()
            _pump(connection, there)
            back.join()

    def settings(self, observer: str = "iisas", **changes: Any) -> Settings:
        """Return a checker's settings, with a login of its own."""
        directory = self.directory / observer
        directory.mkdir(exist_ok=True)
        state_dir = directory / "state"
        state_dir.mkdir(mode=0o700, exist_ok=True)
        if not (directory / "secret-id").exists():
            role = self.configured.client().read("auth/approle/role/checker/role-id") or {}
            made = self.configured.client().write("auth/approle/role/checker/secret-id", {})["data"]
            for file, content in (
                ("role-id", role["role_id"]),
                ("secret-id", made["secret_id"]),
                ("accessor", made["secret_id_accessor"]),
                ("host-secret", "host-secret-of-the-test"),
            ):
                (directory / file).touch(mode=0o600)
                (directory / file).write_text(content)
        dyndns = Dyndns("https://dyndns.test/nic/update", NAME, str(directory / "host-secret"), address="127.0.0.1")
        name = Name(NAME, self.port, ("infn", "ifca"), (DnsServer("ns1", "127.0.0.1", 9),), dyndns)
        base = Settings(
            observer=observer,
            sites={site: Site(address) for site, address in SITES.items()},
            names=(name,),
            cluster=Login(str(directory / "role-id"), str(directory / "secret-id")),
            ca_file=str(self.configured.cluster.ca_file),
            state_dir=state_dir,
            rules=RULES,
        )
        return replace(base, **changes)

    def checker(self, observer: str = "iisas", clock: Callable[[], float] = time.monotonic) -> Checker:
        """Return a checker's use of the cluster, logged in."""
        settings = self.settings(observer)
        made = Checker(settings, trust(settings.ca_file), "this boot", clock)
        made.log_in(list(SITES))
        assert made.trouble == ""
        return made

    def look(self, checker: Checker, site: str = "infn") -> Outcome:
        """Probe a site as a checker."""
        settings = self.settings()
        write = checker.heartbeat(View({NAME: dict.fromkeys(SITES, Standing.UP)}))
        found = probe(SITES[site], settings.names, write, trust(settings.ca_file), RULES.timeout)
        return found.outcomes[NAME]

    def logins(self) -> int:
        return sum('"auth/approle/login"' in line and '"type":"response"' in line for line in self.audit.open())


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("failover")
    cluster = Cluster(directory, ["one"], Authority(directory))
    server = cluster.servers[0]
    with (server.directory / "server.hcl").open("a") as file:
        file.write(f'\naudit "file" "file" {{\n  options {{\n    file_path = "{server.directory / "audit.log"}"\n  }}\n}}\n')
    try:
        made = Configured.start(cluster, Path(shutil.copytree(POLICIES, directory / "policies")))
        declaration = declared(made.provider)
        declaration["policies"].append({"name": "service-checker", "file": "service-checker.hcl"})
        declaration["roles"].extend(service_roles([{"name": "checker", "addresses": ["127.0.0.1"]}]))
        made.run(declaration).succeeded()
        service = Service(made, directory, servers.free_port(list(SITES.values())))
        with ExitStack() as stack:
            for site, address in SITES.items():
                service.sites[site] = stack.enter_context(TcpServer(service.forward, address, service.port))
            yield service
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def repaired(service: Service) -> Iterator[None]:
    yield
    for server in service.sites.values():
        server.behave = service.forward
    for site in SITES:
        service.configured.client().delete(f"operations/metadata/holds/{site}")


def hold(service: Service, site: str, **arguments: Any) -> None:
    run_module(
        "vault_site_hold",
        nodes=service.configured.cluster.arguments,
        ca_file=str(service.configured.cluster.ca_file),
        jwt=service.configured.operator_token,
        login_role="operator",
        site=site,
        by="alice",
        **arguments,
    ).succeeded()


# --- identity


def test_a_checker_logs_in_once_and_renews_what_it_got(service: Service) -> None:
    before, now = service.logins(), [1000.0]
    checker = service.checker(clock=lambda: now[0])
    for _ in range(3):
        now[0] += 660.0  # past half of the twenty minutes that a token lives
        checker.log_in(list(SITES))
        assert (checker.trouble, service.look(checker).kind) == ("", Kind.OK)

    assert service.logins() - before == 1
    token = checker.heartbeat(View()).headers["X-Vault-Token"]
    data = service.configured.client(token).request("GET", "sys/health")
    assert data is not None
    own = service.configured.client().write("auth/token/lookup", {"token": token})["data"]
    assert (own["policies"], own["renewable"], own["num_uses"]) == (["service-checker"], True, 0)


def test_what_was_revoked_is_seen_as_forwarded_and_replaced(service: Service) -> None:
    checker = service.checker()
    token = checker.heartbeat(View()).headers["X-Vault-Token"]
    service.configured.client().write("auth/token/revoke", {"token": token})

    found = service.look(checker)
    assert (found.kind, found.serves) == (Kind.FORWARDED, True)

    now = time.monotonic()
    later = Checker(service.settings(), trust(service.settings().ca_file), "this boot", lambda: now + 20)
    later.log_in(list(SITES), refused=True)
    assert (later.trouble, service.look(later).kind) == ("", Kind.OK)


def test_a_secret_id_that_was_destroyed_is_told_with_what_to_do(service: Service) -> None:
    settings = service.settings("ifca")
    accessor = (service.directory / "ifca/accessor").read_text()
    service.configured.client().write(
        "auth/approle/role/checker/secret-id-accessor/destroy", {"secret_id_accessor": accessor}
    )
    checker = Checker(settings, trust(settings.ca_file), "this boot")
    checker.log_in(list(SITES))
    try:
        assert "HTTP 400" in checker.trouble and "playbooks/deploy/failover.yml" in checker.trouble
        assert service.look(checker).kind is Kind.FORWARDED
    finally:
        (service.directory / "ifca/secret-id").unlink()


# --- probes


def test_a_server_that_is_stopped_and_one_that_goes_on(service: Service) -> None:
    checker = service.checker()
    process = service.configured.cluster.servers[0].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        with within(RULES.timeout + 1.0):
            assert service.look(checker).kind is Kind.LOCAL
    finally:
        process.send_signal(signal.SIGCONT)
    eventually(lambda: service.look(checker).kind is Kind.OK)


def test_a_server_that_was_never_initialised_is_at_fault_itself(
    service: Service, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path)
    cluster = Cluster(tmp_path, ["one"], authority)
    cluster.start()
    try:
        settings = service.settings()
        name = replace(settings.names[0], port=cluster.servers[0].port)
        write = service.checker().heartbeat(View())
        found = probe("127.0.0.1", [name], write, trust(str(authority.ca_file)), RULES.timeout).outcomes[NAME]
    finally:
        cluster.stop()
    assert (found.kind, found.role, found.why) == (Kind.LOCAL, "uninitialised", "uninitialised")


def test_the_servers_clock_comes_with_each_write(service: Service) -> None:
    checker = service.checker()
    stamp = checker.publish(View(), ["infn"])
    assert stamp is not None and abs(stamp - time.time()) < 5


# --- leases and holds


def test_of_two_who_want_a_lease_at_once_one_gets_it(service: Service) -> None:
    checkers = {observer: service.checker(observer) for observer in ("iisas", "infn")}
    version, winners = 0, []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(25):
            wanted = {
                observer: pool.submit(
                    checker.write_lease, "race.test", _lease(observer), version, ["infn" if observer == "iisas" else "ifca"]
                )
                for observer, checker in checkers.items()
            }
            got = {observer: attempt.result() for observer, attempt in wanted.items() if attempt.result()}
            assert len(got) == 1, got
            ((winner, version),) = got.items()
            winners.append(winner)
            shared = checkers["iisas"].read_shared(["race.test"], ["ifca"])
            assert shared is not None and shared.leases["race.test"] == (_lease(winner), version)
    assert version == 25


def _lease(holder: str) -> Lease:
    return Lease(holder, Phase.MOVING, "infn", "ifca", "infn is down", 0.0, 1795457000.0)


def test_holds_are_as_an_operator_placed_them(service: Service) -> None:
    checker = service.checker()
    hold(service, "ifca", state="held", lasts="2h", why="a new disk")
    shared = checker.read_shared([NAME], list(SITES))
    assert shared is not None
    found = shared.holds["ifca"]
    assert (found.by, found.why) == ("alice", "a new disk")
    assert abs(found.until - time.time() - 7200) < 60

    hold(service, "ifca", state="released")
    shared = checker.read_shared([NAME], list(SITES))
    assert shared is not None and shared.holds == {}


def test_a_stray_folder_among_the_holds_does_not_matter(service: Service) -> None:
    client = service.configured.client()
    client.write("operations/data/holds/strange/folder", {"data": {"x": 1}})
    client.write("operations/data/holds/infn", {"data": {"until": "whenever"}})
    try:
        shared = service.checker().read_shared([NAME], list(SITES))
        assert shared is not None and shared.holds == {"infn": Hold()}
    finally:
        client.delete("operations/metadata/holds/strange/folder")
        client.delete("operations/metadata/holds/infn")


def test_views_of_others_are_read_with_their_versions(service: Service) -> None:
    checker, other = service.checker("iisas"), service.checker("infn")
    view = View({NAME: {"infn": Standing.UP, "ifca": Standing.DOWN}})
    versions = []
    for _ in range(3):
        other.publish(view, list(SITES))
        shared = checker.read_shared([NAME], list(SITES))
        assert shared is not None and shared.views["infn"][0] == view
        versions.append(shared.views["infn"][1])
    assert versions == [versions[0], versions[0] + 1, versions[0] + 2]


# --- what it costs


def test_heartbeats_leave_nothing_growing_behind(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    client, checker = service.configured.client(), service.checker()

    def leases() -> int:
        """Tokens that the server keeps: each is a lease."""
        return len(client.names("auth/token/accessors"))

    for _ in range(20):  # KV keeps ten versions; the first write of a key makes more than later ones
        service.look(checker)
    audit, database, count = service.audit.stat().st_size, service.database.stat().st_size, leases()
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: service.look(checker).kind, range(HEARTBEATS)))
    grown = service.database.stat().st_size - database
    per = (service.audit.stat().st_size - audit) / HEARTBEATS
    kept = client.read("operations/metadata/failover/views/iisas") or {}

    with capsys.disabled():
        print(f"\n{HEARTBEATS} heartbeats: {per:.0f} B of audit each, vault.db {grown / 1024:+.0f} KiB, {leases()} tokens")
    assert set(outcomes) == {Kind.OK}
    assert leases() == count
    assert len(kept["versions"]) == 10
    assert per < 4000
    assert grown < 4 * 1024 * 1024  # the log of Raft is cut by itself; a heartbeat is no more than that


# --- three checkers together


@dataclass
class Zone:
    """Two DNS servers, and a DynDNS server that changes what they say.

    Args:
        at: addresses of the name.
        updates: address and time of each update.
    """

    at: str = SITES["infn"]
    updates: list[tuple[str, float]] = field(default_factory=list)

    def answer(self, question: Any) -> Any:
        return saying(self.at)(question)

    def update(self, request: servers.Request) -> bytes:
        address = parse_qs(urlsplit(request.path).query)["myip"][0]
        self.updates.append((address, time.monotonic()))
        self.at = address
        return servers.http(200, f"good {address}")


@pytest.fixture
def zone(service: Service, tmp_path: Path) -> Iterator[tuple[Zone, Callable[[str], Settings]]]:
    made = Zone()
    authority = servers.Authority(tmp_path)
    context: ssl.SSLContext = authority.context("dyndns.test")
    with (
        servers.DnsServer(made.answer) as first,
        servers.DnsServer(made.answer) as second,
        TcpServer(servers.answering(context, made.update)) as dyndns,
    ):

        def settings(observer: str) -> Settings:
            base = service.settings(observer)
            name = replace(
                base.names[0],
                servers=tuple(DnsServer(f"ns{at}", "127.0.0.1", each.port) for at, each in enumerate((first, second), 1)),
                primary="ns1",
                dyndns=replace(
                    base.names[0].dyndns, url=f"https://dyndns.test:{dyndns.port}/nic/update", ca_file=authority.ca_file
                ),
            )
            return replace(base, names=(name,))

        yield made, settings


@contextmanager
def checkers(settings: Callable[[str], Settings]) -> Iterator[dict[str, Run]]:
    """Have a checker at each site, in threads of this process."""
    runs = {site: Run(settings(site)) for site in SITES}
    threads = [threading.Thread(target=run.go, name=site) for site, run in runs.items()]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: all(_settled(run) for run in runs.values()), 20.0)
        yield runs
    finally:
        for run in runs.values():
            run.stop()
        for thread in threads:
            thread.join(20)


def _settled(run: Run) -> bool:
    memory = run.checker.memory
    scores = memory.scores.get(NAME, {})
    return len(scores) == len(SITES) and all(each.serving for each in scores.values()) and len(memory.views) == 2


def test_three_checkers_move_a_name_once_and_only_when_they_must(
    service: Service, zone: tuple[Zone, Callable[[str], Settings]], capsys: pytest.CaptureFixture[str]
) -> None:
    made, settings = zone
    with checkers(settings) as runs:
        # Nothing is wrong: nothing is sent.
        assert made.updates == []

        # The site that holds the name hangs.
        began = time.monotonic()
        service.sites["infn"].behave = servers.silent
        eventually(lambda: made.at == SITES["ifca"], 20.0)
        took = made.updates[0][1] - began
        assert took < 3 * RULES.worst_case
        eventually(lambda: any(run.checker.memory.names[NAME].last for run in runs.values()))

        # It comes back: the name stays where it is served.
        service.sites["infn"].behave = service.forward
        eventually(lambda: all(_settled(run) for run in runs.values()), 20.0)
        assert [address for address, _ in made.updates] == [SITES["ifca"]]

        # An operator holds the site where it is now.
        hold(service, "ifca", state="held", lasts="1h", why="a new disk")
        for run in runs.values():
            run.nudge()
        eventually(lambda: made.at == SITES["infn"], 20.0)

        # Nowhere to go: it stays, and people are told.
        service.sites["infn"].behave = servers.resetting
        eventually(lambda: all("nowhere" in " ".join(run.checker.memory.alarms) for run in runs.values()), 20.0)
        service.sites["infn"].behave = service.forward
        eventually(lambda: all(_settled(run) for run in runs.values()), 20.0)
        assert [address for address, _ in made.updates] == [SITES["ifca"], SITES["infn"]]
        holders = {run.checker.memory.leases[NAME].value for run in runs.values()}
        assert len(holders) == 1  # all agree on who moved it, and that it is done
    with capsys.disabled():
        print(
            f"\na site that hangs: the update was sent after {took:.1f} s (at worst {RULES.worst_case:.1f} s by the rules)"
        )


def test_an_operator_moves_a_name_from_the_command_line(
    service: Service, zone: tuple[Zone, Callable[[str], Settings]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, settings = zone
    given = settings("iisas")
    content: dict[str, Any] = {**asdict(given), "state_dir": str(given.state_dir)}
    content["check"] = content.pop("rules")
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(content))
    with checkers(settings):
        # The runs are threads here, so that no signal reaches them: the wish is read with each check.
        assert main(["--settings", str(file), "move", "--to", "ifca", "--timeout", "20"]) == 0
        said = capsys.readouterr().out
        assert made.at == SITES["ifca"]
        assert f"{NAME}: all DNS servers say ifca after" in said
        assert main(["--settings", str(file), "move", "--to", "ifca", "--timeout", "20"]) == 0  # and again
    assert [address for address, _ in made.updates] == [SITES["ifca"]]
    assert State(given.state_dir).load()[0].names[NAME].target == ""
