"""What is seen from outside while faults are made: what the DNS servers say, and how a user's program on the VM fares.

All times are the machine's monotonic clock, in s, which its containers share.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
from lab import PROJECT, Lab, wait_for

PROGRAM = PROJECT / "bench/name_client.py"
AS_THE_CHECKER = "runuser -u endpoint-failover --"
CRON = "/etc/cron.d/endpoint-failover"
CRON_ASIDE = "/etc/endpoint-failover/cron-aside"  # cron reads all of its own directory
OLD = 15.0  # s: a checker's memory is written every 10 s at least
UPDATE = re.compile(r'(?:::ffff:)?(?P<by>[0-9.]+) "GET /nic/update\?(?P<query>\S+) HTTP/[0-9.]+" (?P<status>[0-9]+) ')
SILENT = "silent"
NOTHING = "no record"


# --- what the DNS servers say ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A DNS server began to say something else.

    Args:
        at: when that was seen.
        server: which.
        name: of what.
        said: addresses with commas between; NOTHING without any, SILENT without an answer.
    """

    at: float
    server: str
    name: str
    said: str


class DnsWatch:
    """Asks each DNS server of the lab directly for each name, many times a second, and remembers each change.

    Args:
        lab: whose.
        names: generic names.
        servers: hosts that are asked.
        interval: s between two questions to a server.
        timeout: s after which a server is silent.
    """

    def __init__(
        self, lab: Lab, names: Sequence[str], servers: Sequence[str], *, interval: float = 0.05, timeout: float = 0.3
    ) -> None:
        self.names = tuple(names)
        self.servers = tuple(servers)
        self.changes: list[Change] = []
        self.asked = 0
        self._addresses = {server: lab.addresses[server] for server in servers}
        self._interval = interval
        self._timeout = timeout
        self._now: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(server, name), daemon=True, name=f"{server} {name}")
            for server in servers
            for name in names
        ]

    def __enter__(self) -> DnsWatch:
        """Begin, and wait for the first answers."""
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self._now) == len(self._threads), 5, "the first answers of the DNS servers")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """End."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def says(self, name: str) -> dict[str, str]:
        """Return what each server says of a name now."""
        with self._lock:
            return {server: self._now[server, name] for server in self.servers}

    def agree(self, name: str, allowed: Iterable[str]) -> bool:
        """Whether all servers that answer name the same, allowed address now, and at least one answers."""
        return agreed(self.says(name), allowed)

    def await_agreement(self, name: str, allowed: Iterable[str], seconds: float) -> float:
        """Wait until all servers that answer name the same, allowed address; return when that began."""
        wanted = tuple(allowed)
        wait_for(
            lambda: self.agree(name, wanted), seconds,
            f"the DNS servers to give one of {', '.join(wanted)} for {name}; they say {self.says(name)}",
        )  # fmt: skip
        return settled_at(self.changes_of(name), wanted, self.servers)

    def changes_of(self, name: str, since: float = float("-inf")) -> list[Change]:
        """Return the changes of a name, oldest first; those at the beginning of the watch are its first answers."""
        with self._lock:
            return [change for change in self.changes if change.name == name and change.at >= since]

    def _watch(self, server: str, name: str) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic() - self._interval)
            said = ask(self._addresses[server], name, self._timeout)
            with self._lock:
                self.asked += 1
                if self._now.get((server, name)) != said:
                    self._now[server, name] = said
                    self.changes.append(Change(time.monotonic(), server, name, said))


def ask(address: str, name: str, timeout: float) -> str:
    """Ask one DNS server for a name; a server that is no authority for it counts as silent.

    Args:
        address: of the server.
        name: fully qualified.
        timeout: s.

    Returns:
        Addresses with commas between, NOTHING or SILENT.
    """
    query = dns.message.make_query(name, dns.rdatatype.A, flags=0)  # no recursion: its own word
    try:
        answer = dns.query.udp(query, address, timeout, ignore_unexpected=True)
    except (OSError, dns.exception.DNSException):
        return SILENT
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not answer.flags & dns.flags.AA:
        return SILENT
    found = sorted(record.address for each in answer.answer if each.rdtype == dns.rdatatype.A for record in each)
    return ",".join(found) or NOTHING


def agreed(says: Mapping[str, str], allowed: Iterable[str]) -> bool:
    """Whether all servers that answer say the same, allowed address, and at least one answers."""
    said = {each for each in says.values() if each != SILENT}
    return len(said) == 1 and said <= set(allowed)


def settled_at(changes: Sequence[Change], allowed: Iterable[str], servers: Iterable[str]) -> float:
    """Return since when all servers that answer have said the same, allowed address.

    Args:
        changes: of one name, oldest first, from the beginning of the watch.
        allowed: addresses.
        servers: all that are watched.

    Returns:
        Monotonic time; infinity where it is not so at the end.
    """
    wanted = tuple(allowed)
    says = dict.fromkeys(servers, SILENT)
    since = float("inf")
    for change in changes:
        says[change.server] = change.said
        if not agreed(says, wanted):
            since = float("inf")
        elif since == float("inf"):
            since = change.at
    return since


def moves(changes: Sequence[Change], servers: Sequence[str]) -> dict[str, int]:
    """Return how often each server's answer changed from one address to another; a silence between is no change."""
    counted = dict.fromkeys(servers, 0)
    last: dict[str, str] = {}
    for change in changes:
        if change.said == SILENT:
            continue
        if change.server in last and last[change.server] != change.said:
            counted[change.server] += 1
        last[change.server] = change.said
    return counted


# --- how a user's program fares ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """An operation of bench/name_client.py; see `Told` there."""

    at: float
    took: float
    address: str
    error: str
    retried: float
    retry_address: str
    retry_error: str

    @property
    def ok(self) -> bool:
        """Whether the first attempt succeeded."""
        return not self.error

    @property
    def ok_with_retry(self) -> bool:
        """Whether the first or the second attempt succeeded."""
        return not self.error or not self.retry_error


@dataclass(frozen=True)
class Experience:
    """What a user saw from a moment on.

    Args:
        operations: how many were begun.
        failed: how many first attempts failed.
        failed_with_retry: how many operations failed in both attempts.
        first_failure: s from that moment until an operation was begun that failed; None: none did.
        back_after: s from that moment until the first success after a failure; 0: nothing failed; None: never.
        settled_after: s from that moment until the first success after the last failure.
        served_by: address → operations that succeeded there.
        errors: why first attempts failed → how many.
    """

    operations: int
    failed: int
    failed_with_retry: int
    first_failure: float | None
    back_after: float | None
    settled_after: float | None
    served_by: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


def experience(operations: Iterable[Operation], since: float, until: float = float("inf")) -> Experience:
    """Sum up what a user saw.

    Args:
        operations: of a client, in any order.
        since: monotonic time from which they count, by their beginning.
        until: monotonic time up to which they count.
    """
    begun = sorted((each for each in operations if since <= each.at <= until), key=lambda each: each.at)
    failed = [each for each in begun if not each.ok]
    served: dict[str, int] = {}
    errors: dict[str, int] = {}
    for each in begun:
        if each.ok:
            served[each.address] = served.get(each.address, 0) + 1
        else:
            errors[each.error] = errors.get(each.error, 0) + 1

    def success_after(failure: Operation) -> float | None:
        later = [each.at + each.took - since for each in begun if each.ok and each.at > failure.at]
        return min(later, default=None)

    return Experience(
        operations=len(begun),
        failed=len(failed),
        failed_with_retry=sum(not each.ok_with_retry for each in begun),
        first_failure=failed[0].at - since if failed else None,
        back_after=success_after(failed[0]) if failed else 0.0,
        settled_after=success_after(failed[-1]) if failed else 0.0,
        served_by=served,
        errors=errors,
    )


class UserClient:
    """A user's program that runs on the lab's VM, resolves the name as anything there does, and tells how it fares.

    Args:
        lab: whose.
        name: generic name.
        port: TCP port.
        path: of a secret that the token may write, below /v1/.
        token: the user's.
        interval: s between the beginnings of two operations.
        timeout: s, of an attempt.
        host: where it runs.
    """

    def __init__(
        self,
        lab: Lab,
        name: str,
        port: int,
        path: str,
        token: str,
        *,
        interval: float = 0.2,
        timeout: float = 3.0,
        host: str = "vm",
    ) -> None:
        self.lab = lab
        self.host = host
        self.timeout = timeout
        self._operations: list[Operation] = []
        self._task = {
            "name": name,
            "port": port,
            "ca": (lab.state / "ca/ca.crt").read_text(),
            "path": path,
            "token": token,
            "interval": interval,
            "timeout": timeout,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> UserClient:
        """Send the program to the VM, start it, and wait until it has told of its first operation."""
        place = f"/run/name_client-{id(self)}.py"
        self.lab.ssh(self.host, f"cat > {place} && chmod 0644 {place}", stdin=PROGRAM.read_text())
        hosts = self.lab.state / "ssh/known_hosts"
        command = f"trap 'rm -f {place}' EXIT; runuser -u nobody -- python3 -u {place}"
        self._process = subprocess.Popen(
            ["ssh", "-i", self.lab.state / "ssh/id_ed25519", "-o", f"UserKnownHostsFile={hosts}",
             "-o", "StrictHostKeyChecking=yes", f"root@{self.lab.addresses[self.host]}", command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._task) + "\n")  # the token too: no list of processes has it
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: bool(self._operations) or self._ended, 20, "the first operation of the user's program")
        assert not self._ended, self._complaint()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """End it, once the operations that are under way have ended."""
        assert self._process
        assert self._process.stdin
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2 * self.timeout + 10)
        finally:
            self._process.kill()
        assert self._reader
        self._reader.join()

    @property
    def operations(self) -> list[Operation]:
        """All that has been told so far, oldest first. An operation is told when it has ended."""
        with self._lock:
            return sorted(self._operations, key=lambda each: each.at)

    def experience(self, since: float, until: float = float("inf")) -> Experience:
        """Sum up what it saw; see `experience`."""
        return experience(self.operations, since, until)

    def await_success(self, since: float, seconds: float, *, in_a_row: int = 10) -> None:
        """Wait until operations succeed again, so many in a row, begun after a moment."""
        wait_for(lambda: self._succeeds(since, in_a_row), seconds, f"{in_a_row} operations in a row of a user to succeed")

    def _succeeds(self, since: float, in_a_row: int) -> bool:
        assert not self._ended, self._complaint()
        last = [each for each in self.operations if each.at > since][-in_a_row:]
        return len(last) == in_a_row and all(each.ok for each in last)

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _complaint(self) -> str:
        assert self._process
        assert self._process.stderr
        return f"The user's program ended by itself: {self._process.stderr.read()[-1000:]}"

    def _read(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            told = Operation(**json.loads(line))
            with self._lock:
                self._operations.append(told)


# --- which updates were sent --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """A request to the DynDNS server to move a name.

    Args:
        at: when it was answered.
        by: host that sent it.
        name: the generic name.
        address: that it is to have.
        status: HTTP status of the answer.
    """

    at: float
    by: str
    name: str
    address: str
    status: int


def updates(lab: Lab, since: float) -> list[Update]:
    """Return the updates that arrived at the DynDNS server, or at what stood in for it, by its own access log.

    Args:
        lab: whose.
        since: monotonic time.
    """
    wall = time.time() - time.monotonic() + since
    # Both write to their host's journal, which knows the monotonic time of each line.
    command = f"journalctl --no-pager -o json --output-fields=MESSAGE --since=@{wall - 1:.0f} -u dyndns -u dyndns-standin"
    found = []
    for line in lab.ssh("dyndns-iisas", command).splitlines():
        entry = json.loads(line)
        update = read_update(str(entry["MESSAGE"]), int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6, lab.addresses)
        if update and update.at >= since:
            found.append(update)
    return found


def read_update(line: str, at: float, hosts: Mapping[str, str]) -> Update | None:
    """Return the update that a line of the access log tells of; None where it tells of none.

    Args:
        line: of the log.
        at: monotonic time when it was written.
        hosts: name → address.
    """
    match = UPDATE.match(line)
    if not match:
        return None
    query = {key: values[0] for key, values in parse_qs(match["query"]).items()}
    by = next((host for host, address in hosts.items() if address == match["by"]), match["by"])
    return Update(at, by, query.get("hostname", ""), query.get("myip", ""), int(match["status"]))


# --- what the checkers say of themselves --------------------------------------------------------------------------------


class Checkers:
    """The checkers of a lab, as an operator on each node sees them.

    Args:
        lab: whose.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def status(self, node: str) -> dict[str, Any]:
        """Return `endpoint-failover status --json` of a node; empty where there is none."""
        told = self.lab.ssh(node, f"{AS_THE_CHECKER} endpoint-failover status --json", check=False)
        return dict(json.loads(told)) if told.strip() else {}

    def calm(self) -> bool:
        """Whether every checker runs, knows all sites to serve, and has nothing to do."""
        with ThreadPoolExecutor(len(self.lab.nodes)) as pool:
            return all(map(is_calm, pool.map(self.status, self.lab.nodes)))

    def know_to_serve(self, site: str) -> bool:
        """Whether every checker knows a site to serve, under all names."""
        told = [self.status(node) for node in self.lab.nodes]
        return all(each and all(under["serving"] for under in each["sites"][site]["names"].values()) for each in told)

    def journal(self, node: str, since: float) -> list[str]:
        """Return what a checker wrote into the journal since a monotonic time."""
        wall = time.time() - time.monotonic() + since
        command = f"journalctl --no-pager -o cat -t endpoint-failover --since=@{wall:.0f}"
        return self.lab.ssh(node, command, check=False).splitlines()

    def mend_accounts(self) -> None:
        """Give the checkers their host secrets anew, as an operator does after an account was refused: they try it again.

        What is added is white space, so that the secret itself stays what it is.
        """
        mend = "for file in /etc/endpoint-failover/dyndns/*; do echo >> $file; done; "
        self._on_each(lambda node: self.lab.ssh(node, f"{mend}{AS_THE_CHECKER} endpoint-failover nudge"))

    def forget(self) -> None:
        """Have each checker start without a memory, as on a new host: also of how often it has sent updates of late."""

        def forget(node: str) -> None:
            self.halt(node)
            self.lab.ssh(node, "rm -f /var/lib/endpoint-failover/memory.json")
            self.resume(node)

        self._on_each(forget)

    def _on_each(self, act: Callable[[str], object]) -> None:
        with ThreadPoolExecutor(len(self.lab.nodes)) as pool:
            list(pool.map(act, self.lab.nodes))

    def halt(self, node: str) -> None:
        """Stop a node's checker, and keep cron from starting it."""
        self.lab.ssh(
            node,
            f"[ ! -e {CRON} ] || mv {CRON} {CRON_ASIDE}; pkill -TERM -u endpoint-failover; "
            "for i in $(seq 100); do pgrep -u endpoint-failover > /dev/null || exit 0; sleep 0.1; done; exit 1",
        )

    def resume(self, node: str) -> None:
        """Let a node's checker run again, now and each minute."""
        self.lab.ssh(
            node,
            f"[ ! -e {CRON_ASIDE} ] || mv {CRON_ASIDE} {CRON}; systemd-run --quiet --collect --uid=endpoint-failover "
            "--gid=endpoint-failover --property=StandardOutput=null /usr/local/bin/endpoint-failover check",
        )


def is_calm(status: Mapping[str, Any]) -> bool:
    """Whether a checker that says this runs, knows all sites to serve and all names to be well, and has seen all others."""
    if not status or not status["running"] or not status["identity"] or status["age"] is None or status["age"] > OLD:
        return False
    sites = [under for site in status["sites"].values() for under in site["names"].values()]
    return (
        all(under["serving"] and not under["why"] for under in sites)
        and all(name["at"] in name["candidates"] and not name["why"] for name in status["names"].values())
        and all(other["fresh"] is not False for other in status["observers"].values())
    )


def await_quiet(condition: Callable[[], bool], quiet: float, seconds: float, what: str) -> None:
    """Wait until a condition has held without a break for some time.

    Args:
        condition: of the lab.
        quiet: s that it must hold.
        seconds: to wait at most.
        what: is waited for.
    """
    since = [time.monotonic()]

    def held() -> bool:
        if not condition():
            since[0] = time.monotonic()
        return time.monotonic() - since[0] >= quiet

    wait_for(held, seconds, f"{what} for {quiet:g} s without a break")
