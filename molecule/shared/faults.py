"""Faults of a lab: each is made in one place, seen to be in effect, and undone whatever happens meanwhile.

Each fault is a context manager that gives the moment when it struck, on the machine's monotonic clock, and that is over only
when what it broke works again. What is done to a host is done from this machine inside the host's namespaces (nsenter): it
works while no packet gets there, and takes milliseconds.

A cut drops packets at the host's own interface, by netdev hooks: what is sent is lost on its way, as on a real network, and
no local program is told. This machine's address is exempt unless it is named, so that tests still see the host.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property, partial
from itertools import count
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab import PROJECT, Lab, wait_for

Direction = Literal["both", "in", "out"]

SITES = {
    "iisas": ("vault-iisas", "ns-iisas", "dyndns-iisas"),
    "infn": ("vault-infn",),
    "ifca": ("vault-ifca", "ns-ifca"),
}
ACTIVE, STANDBY, SEALED, FORBIDDEN, NO_CONTENT = 200, 429, 503, 403, 204
SERVER = "openbao"
NAMED = "named"
CHECKER = "endpoint-failover"
TLS = "/etc/openbao/tls/server.crt"
AUDIT_DIR = "/var/log/openbao"
DYNDNS_HOST = "dyndns-iisas"
DYNDNS = "dyndns"
DYNDNS_TLS = "/etc/dyndns/server"
STAND_IN = "dyndns-standin"
DEV_LOG = "/run/systemd/journal/dev-log"
RECONNECT = "systemctl stop systemd-journald-dev-log.socket 2> /dev/null; systemctl restart systemd-journald.service"
_numbers = count(1)


class Faults:
    """Makes faults.

    Args:
        lab: whose hosts they befall.
        root: gives a token that may write policies and AppRole roles, for what needs a right that nobody has (sealing).
    """

    def __init__(self, lab: Lab, root: Callable[[], str] = lambda: "") -> None:
        self.lab = lab
        self.controller = f"{lab.subnet}.1"
        self._root = root

    # --- the server of a node

    @contextmanager
    def killed(self, node: str) -> Iterator[float]:
        """The server is killed, and nothing starts it again."""
        override = f"/run/systemd/system/{SERVER}.service.d/fault.conf"
        self.inside(node, "mkdir -p ${0%/*} && printf '[Service]\\nRestart=no\\n' > $0 && systemctl daemon-reload", override)
        try:
            struck = self.strike(node, f"systemctl kill --kill-who=all --signal=KILL {SERVER}")
            wait_for(lambda: self.health(node) == 0, 5, f"the server of {node} to be gone")
            yield struck
        finally:
            self.inside(node, "rm -f $0 && systemctl daemon-reload", override)
            self.recover(node)

    @contextmanager
    def crashed(self, node: str) -> Iterator[float]:
        """The server is killed, and systemd starts it again: it comes back sealed."""
        struck = self.strike(node, f"systemctl kill --kill-who=all --signal=KILL {SERVER}")
        try:
            wait_for(lambda: self.health(node) in (0, SEALED), 5, f"the server of {node} to be gone")
            yield struck
        finally:
            wait_for(lambda: self.health(node) == SEALED, 30, f"the server of {node} to be back")
            self.recover(node)

    @contextmanager
    def stopped(self, node: str) -> Iterator[float]:
        """The server is stopped as an operator does it."""
        struck = self.strike(node, f"systemctl stop {SERVER}")
        try:
            assert self.health(node) == 0, f"The server of {node} still answers."
            yield struck
        finally:
            self.recover(node)

    @contextmanager
    def hung(self, node: str) -> Iterator[float]:
        """The server hangs: its kernel still accepts connections, and nobody serves them."""
        struck = self.strike(node, f"systemctl kill --kill-who=all --signal=STOP {SERVER}")
        try:
            pid = self.server_pid(node)
            state = self.inside(node, f"cut -d')' -f2 /proc/{pid}/stat").split()[0]
            assert state == "T", f"The server of {node} was not stopped: its state is {state}."
            yield struck
        finally:
            self.inside(node, f"systemctl kill --kill-who=all --signal=CONT {SERVER}")
            self.recover(node)

    @contextmanager
    def sealed(self, node: str) -> Iterator[float]:
        """The server is sealed: by its API where it leads, by a restart where it does not (a standby refuses)."""
        with ExitStack() as stack:
            if self.health(node) == ACTIVE:
                token = stack.enter_context(self._seal_token())
                struck = time.monotonic()
                answer = self.lab.api(node, "PUT", "sys/seal", {}, token=token)
                assert answer.status == NO_CONTENT, f"{node} would not be sealed: {answer}"
            else:
                struck = self.strike(node, f"systemctl restart {SERVER}")
            stack.callback(self.recover, node)
            wait_for(lambda: self.health(node) == SEALED, 15, f"{node} to be sealed")
            yield struck

    @contextmanager
    def expired(self, node: str) -> Iterator[float]:
        """The server shows a certificate that expired yesterday, of the same names, key and authority."""
        good = self.inside(node, f"cat {TLS}")
        reload_it = f"cat > {TLS} && systemctl kill --kill-who=main --signal=HUP {SERVER}"
        try:
            struck = self.strike(node, reload_it, stdin=self._expired(good))
            wait_for(lambda: self.health(node) == 0, 5, f"{node} to show its expired certificate")
            yield struck
        finally:
            self.inside(node, reload_it, stdin=good)
            wait_for(lambda: self.serves(node), 15, f"{node} to show its good certificate")

    @contextmanager
    def disk_full(self, node: str, *, journal: bool = True) -> Iterator[float]:
        """The filesystem of the audit file is full, and the journal takes nothing either unless it is spared.

        Args:
            node: which. A standby audits nothing, and does not mind.
            journal: both audit devices are blocked, which stalls whoever leads; False: only the file.
        """
        pid = self.server_pid(node)
        place = f"/proc/{pid}/root{AUDIT_DIR}"
        # In the server's own view of the filesystem: gone with the process at the latest.
        within = f"nsenter -t {pid} -m --"
        mount = f"mount -t tmpfs -o size=64k,mode=2750,uid=$(id -u {SERVER}),gid=$(id -g {SERVER}) tmpfs {AUDIT_DIR}"
        reopen = f"systemctl kill --kill-who=main --signal=HUP {SERVER}"
        undo = f"{within} ln -sfn {DEV_LOG} /dev/log; {within} umount -l {AUDIT_DIR}; {reopen}"
        with ExitStack() as stack:
            self.inside(node, f"{within} {mount}")
            stack.callback(self._after_disk_full, node, pid, undo)
            self.inside(node, reopen)
            if self.health(node) == ACTIVE:
                self._poke(node)
                wait_for(lambda: "audit.log" in self.inside(node, f"ls {place}"), 5, f"{node} to audit onto the small disk")
            struck = self.strike(node, f"dd if=/dev/zero of={place}/filler bs=1k status=none || true")
            if journal:
                # Stopping the journal would kill the server by SIGPIPE, as its standard error goes there. So it is only made
                # to lose its way to the syslog socket, and finds that out when the journal's restart ends its connection.
                self.inside(node, f"{within} mount -o remount,rw /dev && {within} ln -sfn /run/nowhere /dev/log")
                struck = self.strike(node, RECONNECT)
            free = self.inside(node, f"{within} df --output=avail {AUDIT_DIR} | tail -n 1").strip()
            assert free == "0", f"The small disk of {node} has {free} kB left."
            if journal and self.health(node) == ACTIVE:
                wait_for(lambda: not self.serves(node), 5, f"{node} to serve nobody, as it can audit nothing")
            yield struck

    def _after_disk_full(self, node: str, pid: int, undo: str) -> None:
        if self.server_pid(node) == pid:
            self.inside(node, undo)
        self.recover(node)

    def _poke(self, node: str) -> None:
        """Make a request that is audited."""
        self.lab.api(node, "GET", "secrets/nobody", token="nobody")  # noqa: S106

    # --- a host

    @contextmanager
    def host_stopped(self, host: str) -> Iterator[float]:
        """The host loses its power."""
        struck = time.monotonic()
        self.lab.podman("kill", self.container(host))
        try:
            running = self.lab.podman("inspect", "--format", "{{.State.Running}}", self.container(host)).strip()
            assert running == "false", f"{host} still runs."
            yield struck
        finally:
            self.start_host(host)

    def start_host(self, host: str) -> None:
        """Start a host that was stopped; what it serves is back when this returns."""
        self.lab.podman("start", self.container(host))
        self.wait_for_host(host)

    def wait_for_host(self, host: str) -> None:
        """Wait until a host has booted, and unseal what has to be."""
        up = "systemctl is-active multi-user.target || true"
        wait_for(lambda: self.inside(host, up, check=False).strip() == "active", 60, f"{host} to boot")
        self.announce(host)
        self.recover(host)

    def announce(self, host: str) -> None:
        """Have all others learn a host's new MAC address; a real host keeps its own, and podman gives another at each start.

        A packet to each of them is enough: it is asked for by ARP first, and who is asked notes who asks.
        """
        addresses = [self.controller, *(self.lab.addresses[other] for other in self.running() if other != host)]
        send = "; ".join(f"echo > /dev/udp/{address}/9" for address in addresses)
        self._enter(self.pid(host), "n", ["bash", "-c", f"{send}; true"], check=False)

    @contextmanager
    def everything_down(self) -> Iterator[float]:
        """All hosts of the service lose their power at once."""
        hosts = [host for site in SITES.values() for host in site if self.exists(host)]
        struck = time.monotonic()
        self.lab.podman("kill", *[self.container(host) for host in hosts])
        try:
            yield struck
        finally:
            self.lab.podman("start", *[self.container(host) for host in hosts])
            for host in hosts:
                self.wait_for_host(host)

    # --- the network

    def cut(
        self, host: str, peers: Iterable[str] | None = None, direction: Direction = "both"
    ) -> AbstractContextManager[float]:
        """Cut a host off.

        Args:
            host: at whose interface packets are dropped.
            peers: hosts with which it exchanges none; None: all but this machine.
            direction: `in`: what they send is lost; `out`: what it sends is lost.
        """
        return self.cuts([(host, peers, direction)])

    @contextmanager
    def cuts(self, cuts: Sequence[tuple[str, Iterable[str] | None, Direction]]) -> Iterator[float]:
        """Cut several at once; see `cut`. In effect are all of them, or the test fails."""
        table = f"fault_{next(_numbers)}"
        made: list[str] = []
        pids = {host: self.pid(host) for host, _, _ in cuts}
        struck = time.monotonic()
        try:
            for host, peers, direction in cuts:
                peer_addresses = None if peers is None else [self.lab.addresses[peer] for peer in peers]
                rules = ruleset(f"{table}_{len(made)}", direction, peer_addresses, self.controller)
                self._enter(pids[host], "n", ["nft", "-f", "-"], stdin=rules)
                made.append(host)
            self._see_cuts(cuts)
            yield struck
        finally:
            for number, host in enumerate(made):
                # A host that was rebooted meanwhile has an interface of its own without the table.
                self._enter(self.pid(host), "n", ["nft", "delete", "table", "netdev", f"{table}_{number}"], check=False)
            for host in dict.fromkeys(made):
                self.recover(host)

    def _see_cuts(self, cuts: Sequence[tuple[str, Iterable[str] | None, Direction]]) -> None:
        """See that no connection from a peer to a host that is cut off comes about."""
        pairs = []
        for host, peers, _ in cuts:
            candidates = self.running() if peers is None else list(peers)
            pairs += [(peer, host) for peer in candidates if peer != host][:1]
        for peer, host in pairs:
            reach = f"timeout 0.5 bash -c '< /dev/tcp/{self.lab.addresses[host]}/22'"
            done = self._enter(self.pid(peer), "n", ["bash", "-c", reach], check=False)
            assert done.returncode != 0, f"{peer} still reaches {host}."
            here = f"timeout 2 bash -c '< /dev/tcp/{self.lab.addresses[host]}/22'"
            assert subprocess.run(["bash", "-c", here], check=False, capture_output=True).returncode == 0, (
                f"The cut of {host} shut this machine out as well."
            )

    def cut_from_sites(self, node: str, direction: Direction = "both") -> AbstractContextManager[float]:
        """The node is cut off from the hosts of the other sites, and not from users."""
        own = next(hosts for hosts in SITES.values() if node in hosts)
        return self.cut(node, [host for host in self.running() if host in of_sites() and host not in own], direction)

    def cut_from_everyone(self, host: str, direction: Direction = "both") -> AbstractContextManager[float]:
        """The host is cut off from everyone but this machine."""
        return self.cut(host, None, direction)

    def link_cut(self, site: str, other: str, direction: Direction = "both") -> AbstractContextManager[float]:
        """The link between two sites is cut; `in`: what `site` is sent by `other` is lost, and `out` the other way round."""
        others = [host for host in SITES[other] if self.exists(host)]
        return self.cuts([(host, others, direction) for host in SITES[site] if self.exists(host)])

    @contextmanager
    def checkers_cut(self, *nodes: str) -> Iterator[float]:
        """The checkers of these nodes reach nobody, while all else on them does."""
        table = f"fault_{next(_numbers)}"
        cut: list[str] = []
        try:
            struck = time.monotonic()
            for node in nodes:
                uid = self.inside(node, f"id -u {CHECKER}").strip()
                rules = (
                    f"table inet {table} {{\nchain outward {{\n  type filter hook output priority -500\n"
                    f"  meta skuid {uid} counter drop\n}}\n}}\n"
                )
                self._enter(self.pid(node), "n", ["nft", "-f", "-"], stdin=rules)
                cut.append(node)
            for node in nodes:
                wait_for(partial(self._has_dropped, node, table), 20, f"the checker of {node} to run into its cut")
            yield struck
        finally:
            for node in cut:
                self._enter(self.pid(node), "n", ["nft", "delete", "table", "inet", table], check=False)

    def _has_dropped(self, node: str, table: str) -> bool:
        listing = self._enter(self.pid(node), "n", ["nft", "list", "table", "inet", table]).stdout
        return "packets 0 " not in listing

    # --- DNS and DynDNS

    @contextmanager
    def unit_down(self, host: str, *units: str) -> Iterator[float]:
        """Units of a host are stopped."""
        struck = self.strike(host, f"systemctl stop {' '.join(units)}")
        try:
            for unit in units:
                state = self.inside(host, f"systemctl is-active {unit} || true").strip()
                assert state in ("inactive", "failed"), f"{unit} on {host} is {state}."
            yield struck
        finally:
            self.inside(host, f"systemctl start {' '.join(reversed(units))}")

    @contextmanager
    def unit_hangs(self, host: str, unit: str) -> Iterator[float]:
        """All processes of a unit are stopped by SIGSTOP."""
        struck = self.strike(host, f"systemctl kill --kill-who=all --signal=STOP {unit}")
        try:
            yield struck
        finally:
            self.inside(host, f"systemctl kill --kill-who=all --signal=CONT {unit}")

    def dns_down(self, host: str) -> AbstractContextManager[float]:
        """A DNS server is down."""
        return self.unit_down(host, NAMED)

    @contextmanager
    def dyndns_down(self) -> Iterator[float]:
        """The DynDNS server is down: its port is closed."""
        with self.unit_down(DYNDNS_HOST, DYNDNS) as struck:
            yield struck
        self.await_dyndns()

    @contextmanager
    def dyndns_hangs(self) -> Iterator[float]:
        """The DynDNS server accepts connections, and says nothing."""
        with self.unit_hangs(DYNDNS_HOST, DYNDNS) as struck:
            assert self.dyndns_answer("/", timeout=1)[0] == 0, "The DynDNS server still answers."
            yield struck
        self.await_dyndns()

    @contextmanager
    def dyndns_stand_in(self) -> Iterator[Callable[[int, str], None]]:
        """Another server answers in the DynDNS server's place, under its certificate, whatever it is told to.

        Gives a function that sets status and body of all further answers.
        """
        program, answer = f"/run/{STAND_IN}.py", f"/run/{STAND_IN}.json"
        script = (PROJECT / "molecule/shared/dyndns_standin.py").read_text()

        def say(status: int, body: str) -> None:
            self.inside(
                DYNDNS_HOST, "cat > $0.part && mv $0.part $0", answer, stdin=json.dumps({"status": status, "body": body})
            )
            wait_for(lambda: self.dyndns_answer("/") == (status, body), 10, f"the stand-in to answer {status} {body!r}")

        with self.unit_down(DYNDNS_HOST, DYNDNS):
            self.inside(DYNDNS_HOST, "cat > $0", program, stdin=script)
            self.inside(DYNDNS_HOST, "cat > $0", answer, stdin='{"status": 500, "body": ""}')
            command = f"python3 {program} {answer} {DYNDNS_TLS}.crt {DYNDNS_TLS}.key"
            self.inside(DYNDNS_HOST, f"systemd-run --quiet --collect --unit={STAND_IN} {command}")
            try:
                yield say
            finally:
                self.inside(DYNDNS_HOST, f"systemctl stop {STAND_IN}; rm -f {program} {answer}", check=False)
        self.await_dyndns()

    def await_dyndns(self) -> None:
        """Wait until the DynDNS server refuses a stranger, as it does when it works."""
        wait_for(lambda: self.dyndns_answer("/nic/update") == (401, "badauth"), 30, "the DynDNS server to answer")

    def dyndns_answer(self, path: str, timeout: float = 3.0) -> tuple[int, str]:
        """Return status and body of the DynDNS server's answer over verified TLS; 0 where there is none in time."""
        host = f"{DYNDNS_HOST}.lab.test"
        connection = http.client.HTTPSConnection(host, context=self.lab.trust, timeout=timeout)
        try:
            raw = socket.create_connection((self.lab.addresses[DYNDNS_HOST], 443), timeout=timeout)
            with raw:
                connection.sock = self.lab.trust.wrap_socket(raw, server_hostname=host)
                connection.request("GET", path, headers={"User-Agent": "failover story"})
                answer = connection.getresponse()
                return answer.status, answer.read().decode().strip()
        except (OSError, http.client.HTTPException):
            return 0, ""

    # --- what undoes them

    def health(self, node: str) -> int:
        """Return the status of sys/health over verified TLS; 0 where there is none in time."""
        return self.lab.api(node, "GET", "sys/health").status

    def serves(self, node: str) -> bool:
        """Whether a node takes requests that the active node has to answer: who is nobody is refused, and in time."""
        return self.lab.api(node, "PUT", "secrets/nobody", {"value": ""}, token="nobody").status == FORBIDDEN  # noqa: S106

    def recover(self, host: str) -> None:
        """Bring a node's server back to where it serves; for a host that is none, see that it is up."""
        if host not in self.lab.nodes:
            return
        self.inside(host, f"systemctl reset-failed {SERVER}; systemctl start {SERVER}", check=False)
        wait_for(lambda: self.health(host) in (ACTIVE, STANDBY, SEALED), 30, f"the server of {host} to answer")
        wait_for(lambda: self._unsealed(host), 30, f"{host} to be unsealed")

        def serves() -> bool:
            return self.serves(host) or self.quorum() < len(self.lab.nodes) // 2 + 1

        wait_for(serves, 60, f"{host} to serve")

    def _unsealed(self, node: str) -> bool:
        if self.health(node) == SEALED:
            self.unseal(node)
        return self.health(node) in (ACTIVE, STANDBY)

    def quorum(self) -> int:
        """Return how many nodes are unsealed."""
        return sum(self.health(node) in (ACTIVE, STANDBY) for node in self.lab.nodes)

    def unseal(self, node: str) -> None:
        """Submit a threshold of shares."""
        for share in self.shares:
            if self.lab.api(node, "PUT", "sys/unseal", {"key": share}).body.get("sealed") is False:
                return

    def whole(self) -> bool:
        """Whether all nodes serve."""
        with ThreadPoolExecutor(len(self.lab.nodes)) as pool:
            return all(pool.map(self.serves, self.lab.nodes))

    def await_whole(self, seconds: float = 60) -> None:
        """Wait until all nodes serve."""
        wait_for(self.whole, seconds, "all nodes to serve")

    @cached_property
    def shares(self) -> list[str]:
        """All shares in clear, in memory alone."""
        return self.lab.clear_shares()

    # --- hosts from the inside

    def inside(self, host: str, script: str, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a shell script as root inside a host, whether or not the network gets there; return its standard output.

        Args:
            host: which.
            script: for sh; arguments are $0, $1 …
            arguments: for it.
            check: it must succeed.
            stdin: for it.
        """
        return self._enter(self.pid(host), "muinp", ["sh", "-c", script, *arguments], check=check, stdin=stdin).stdout

    def strike(self, host: str, script: str, stdin: str | None = None) -> float:
        """Run a script as `inside` does; return the monotonic time just before its first command."""
        pid = self.pid(host)
        struck = time.monotonic()
        self._enter(pid, "muinp", ["sh", "-c", script], stdin=stdin)
        return struck

    def container(self, host: str) -> str:
        """Return the name of a host's container."""
        return f"{self.lab.resource}-{host}"

    def pid(self, host: str) -> int:
        """Return the process id of a host's init on this machine."""
        return int(self.lab.podman("inspect", "--format", "{{.State.Pid}}", self.container(host)))

    def server_pid(self, node: str) -> int:
        """Return the process id of a node's server, inside the host."""
        return int(self.inside(node, f"systemctl show --property MainPID --value {SERVER}"))

    def exists(self, host: str) -> bool:
        """Whether the lab has such a host."""
        return host in self._hosts

    def running(self) -> list[str]:
        """Return the hosts of the lab that run."""
        label = f"label=egi-secrets.lab={self.lab.resource}"
        names = self.lab.podman("ps", "--filter", label, "--format", "{{.Names}}").split()
        return [name.removeprefix(f"{self.lab.resource}-") for name in names]

    @cached_property
    def _hosts(self) -> set[str]:
        label = f"label=egi-secrets.lab={self.lab.resource}"
        names = self.lab.podman("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
        return {name.removeprefix(f"{self.lab.resource}-") for name in names}

    def _enter(
        self, pid: int, namespaces: str, command: Sequence[str], *, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        done = subprocess.run(
            [*sudo, "nsenter", "--target", str(pid), *[f"-{each}" for each in namespaces], "--", *command],
            input=stdin or "", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done

    # --- what some of them need

    @contextmanager
    def _seal_token(self) -> Iterator[str]:
        """A token that may seal, which nobody's role allows, for as long as this lasts."""
        token, name = self._root(), "fault-seal"
        assert token, "To seal a node that leads, Faults needs a token that may write policies and AppRole roles."
        leader = self.lab.active()
        role = f"auth/approle/role/{name}"

        def ask(method: str, path: str, body: object = None) -> dict[str, str]:
            answer = self.lab.api(leader, method, path, body, token=token)
            assert answer.status in (ACTIVE, NO_CONTENT), f"{method} {path}: {answer.status} {answer.body.get('errors')}"
            return dict(answer.body.get("data") or {})

        try:
            ask("PUT", f"sys/policies/acl/{name}", {"policy": 'path "sys/seal" { capabilities = ["update", "sudo"] }'})
            ask("POST", role, {"token_policies": [name], "token_ttl": "10m", "token_no_default_policy": True})
            credentials = {
                "role_id": ask("GET", f"{role}/role-id")["role_id"],
                "secret_id": ask("POST", f"{role}/secret-id", {})["secret_id"],
            }
            login = self.lab.api(leader, "POST", "auth/approle/login", credentials)
            assert login.status == ACTIVE, f"login to seal: {login.status}"
            yield str(login.body["auth"]["client_token"])
        finally:
            leader = self.lab.active()
            ask("DELETE", role)
            ask("DELETE", f"sys/policies/acl/{name}")

    def _expired(self, good: str) -> str:
        """Return a certificate like a good one, signed by the lab's authority, that ended yesterday."""
        old = x509.load_pem_x509_certificate(good.encode())
        authority = x509.load_pem_x509_certificate((self.lab.state / "ca/ca.crt").read_bytes())
        key = serialization.load_pem_private_key((self.lab.state / "ca/ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        new = (
            x509.CertificateBuilder()
            .subject_name(old.subject)
            .issuer_name(authority.subject)
            .public_key(old.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(yesterday - datetime.timedelta(days=30))
            .not_valid_after(yesterday)
        )
        for extension in old.extensions:
            new = new.add_extension(extension.value, extension.critical)
        return new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def of_sites() -> set[str]:
    """Return all hosts of the sites: what is no user's, and not this machine's."""
    return {host for hosts in SITES.values() for host in hosts}


def ruleset(table: str, direction: Direction, peers: Sequence[str] | None, controller: str) -> str:
    """Return nft's definition of a cut at a host's interface.

    Args:
        table: its name.
        direction: of the packets that are dropped, as the host sees it.
        peers: addresses; None: all.
        controller: the address that is exempt where peers are not named.
    """
    which = f"!= {controller}" if peers is None else f"{{ {', '.join(peers)} }}"
    chains = []
    if direction in ("both", "in"):
        chains.append(f"chain inward {{\n  type filter hook ingress device eth0 priority -500\n  ip saddr {which} drop\n}}")
    if direction in ("both", "out"):
        chains.append(f"chain outward {{\n  type filter hook egress device eth0 priority -500\n  ip daddr {which} drop\n}}")
    return f"table netdev {table} {{\n" + "\n".join(chains) + "\n}\n"
