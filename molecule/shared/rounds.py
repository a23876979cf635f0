"""One fault after the other, each begun on a service that is well, and what each cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from checkin import Checkin
from faults import SITES, Faults
from lab import Lab, wait_for
from watch import AS_THE_CHECKER, Checkers, DnsWatch, Experience, Update, UserClient, moves, updates

DNS_SERVERS = ("ns-iisas", "ns-ifca")
PERSON, ROLE = "ada", "personal"
# A user whose resolver kept the old address for its TTL of 60 s, and then some.
CLIENT_PATIENCE = 90.0
ACTIVE = 200


@dataclass(frozen=True)
class Name:
    """A generic name of the lab.

    Args:
        name: fully qualified.
        port: TCP port.
        candidates: sites.
    """

    name: str
    port: int
    candidates: tuple[str, ...]


# For 10 s a node that was told to step down does not become active, even where Raft elects it: whatever fails meanwhile, all
# wait for it. That is a matter of planned moves, and not of the failures that follow here.
STEPPED_DOWN = 10.5

NAMES = (
    Name("vault.services.lab.test", 8200, ("infn", "ifca")),
    Name("secrets.egi.lab.test", 443, ("ifca", "infn")),
)


@dataclass(frozen=True)
class Round:
    """What a fault cost.

    Args:
        kind: of fault.
        site: where it was.
        led: whether the node there led the cluster.
        needed: names that were at that site and had to be moved.
        dns_after: s from the fault until all DNS servers that answer gave a serving site for each of them.
        changes: name → how often its answer changed, at the server where it changed most.
        updates: how many arrived at the DynDNS server.
        user: of the first name, on the VM, until the round was over.
        ttl_left: s for which the VM's resolver still had the old address when the fault struck; None: it got none.
        waited: whether the round went on until the user was served again.
    """

    kind: str
    site: str
    led: bool
    needed: tuple[str, ...]
    dns_after: float
    changes: dict[str, int]
    updates: int
    user: Experience
    ttl_left: int | None = None
    waited: bool = False


class Stage:
    """A lab under watch: DNS, a user, the updates, the checkers.

    Args:
        lab: whose service is as `make lab` leaves it.
        names: generic names.
        checkers: whether the service's own checkers are to be well before each fault.
    """

    def __init__(self, lab: Lab, names: Sequence[Name] = NAMES, *, checkers: bool = True) -> None:
        self.lab = lab
        self.names = tuple(names)
        self.checkin = Checkin(lab)
        self.faults = Faults(lab, lambda: self.login("alice", "configurator"))
        self.checkers = Checkers(lab)
        self.dns = DnsWatch(lab, [name.name for name in names], DNS_SERVERS)
        self.rounds: list[Round] = []
        self._guarded = checkers
        self._site_of = {lab.addresses[f"vault-{site}"]: site for site in SITES}
        subject = self.checkin.people[PERSON]
        first = names[0]
        self.user = UserClient(lab, first.name, first.port, f"secrets/users/{subject}/name-client", self.login(PERSON, ROLE))

    @contextmanager
    def watched(self) -> Iterator[Stage]:
        """Watch from here on."""
        self.clear_resolver()
        with self.dns, self.user:
            yield self

    def login(self, person: str, role: str) -> str:
        """Return the token that a person gets at the command line, whichever node serves."""
        node = self.lab.active()
        answer = self.lab.api(node, "POST", "auth/jwt/login", {"jwt": self.checkin.token(person), "role": role})
        assert answer.status == 200, f"login of {person} as {role}: {answer.status} {answer.body.get('errors')}"
        return str(answer.body["auth"]["client_token"])

    # --- where things are

    def site_of(self, name: Name) -> str:
        """Return the site that all DNS servers that answer give for a name; empty where they do not agree on one."""
        said = {self._site_of.get(each, each) for each in self.dns.says(name.name).values() if each != "silent"}
        return said.pop() if len(said) == 1 else ""

    def address(self, site: str) -> str:
        """Return the address of a site's node."""
        return self.lab.addresses[f"vault-{site}"]

    def ttl_left(self, name: Name) -> int | None:
        """Return for how many s the VM's resolver still has an address for a name; None where it gets none."""
        # The user has it asked all the time: a question more makes no difference.
        told = self.lab.ssh("vm", f"dig +noall +answer +time=1 +tries=1 @127.0.0.1 {name.name} A", check=False)
        found = [int(line.split()[1]) for line in told.splitlines() if line.split()[3:4] == ["A"]]
        return found[0] if found else None

    def clear_resolver(self) -> None:
        """Have the VM's resolver forget everything, between two rounds."""
        self.lab.ssh("vm", "systemctl restart unbound")

    def await_ttl(self, left: float) -> None:
        """Wait until the VM's resolver has the first name's address, as it is now, for so many more s, to 1.5 s."""
        now = self.ttl_left(self.names[0])
        if now is None or now < left or not self.user_is_at(self.site_of(self.names[0])):
            self.have_resolved()
        wait_for(lambda: (self.ttl_left(self.names[0]) or 99) <= left + 1, 75, f"the record's last {left:.0f} s on the VM")

    def user_is_at(self, site: str) -> bool:
        """Whether the user was served by a site last."""
        served = [each.address for each in self.user.operations[-10:] if each.ok]
        return served[-1:] == [self.address(site)]

    def ready(self, seconds: float = 120) -> None:
        """Wait until all nodes serve, the names are at candidates, the checkers know so, and the user is served."""
        self.faults.await_whole(seconds)
        wait_for(
            lambda: all(self.site_of(name) in name.candidates for name in self.names),
            seconds,
            "the names to be at candidates",
        )
        if self._guarded:
            wait_for(self.checkers.calm, seconds, "the checkers to find everything well")
        self.user.await_success(time.monotonic() - 2, seconds, in_a_row=5)

    def housed(self) -> bool:
        """Whether all names are at candidates."""
        return all(self.site_of(name) in name.candidates for name in self.names)

    def have_resolved(self) -> None:
        """Have the VM's resolver ask anew, so that the user is where the name is."""
        self.clear_resolver()
        self.user.await_success(time.monotonic(), 10, in_a_row=2)

    def begin(self) -> tuple[str, list[Name]]:
        """See that all is well and the user is where the name is; return where that is, and all names that are there."""
        self.ready()
        self.have_resolved()
        return self.first_site()

    def first_site(self) -> tuple[str, list[Name]]:
        """Return where the first name is, and all names that are there."""
        site = self.site_of(self.names[0])
        return site, [name for name in self.names if self.site_of(name) == site]

    def await_elsewhere(self, names: Iterable[Name], site: str, seconds: float) -> float:
        """Wait until the DNS servers that answer agree that names are at another candidate, which serves.

        Args:
            names: which.
            site: where they were.
            seconds: to wait.

        Returns:
            When that began for the last of them.
        """
        settled = 0.0
        for name in names:
            others = [self.address(each) for each in name.candidates if each != site]
            settled = max(settled, self.dns.await_agreement(name.name, others, seconds))
            target = f"vault-{self.site_of(name)}"
            assert self.faults.serves(target), f"{name.name} was moved to {target}, which does not serve."
        return settled

    def await_left(self, names: Sequence[Name], site: str, server: str, seconds: float) -> float:
        """Wait until one DNS server gives another address than a site's for names; return when."""
        gone = self.address(site)
        wait_for(
            lambda: all(self.dns.says(name.name)[server] not in (gone, "silent") for name in names),
            seconds, f"{server} to give another site than {site}",
        )  # fmt: skip
        return time.monotonic()

    def move_all(self, site: str) -> None:
        """Have all names moved to a site, as an operator does."""
        self.lab.ssh(f"vault-{site}", f"{AS_THE_CHECKER} endpoint-failover move --to {site}")
        self.ready()

    def lead_where_the_name_is(self) -> None:
        """Have a candidate lead, stepping leaders down until one does, and the names moved there."""
        token = self.login("alice", "operator")
        eligible = 0.0

        def candidate_leads() -> bool:
            nonlocal eligible
            leader = self.lab.active()
            if leader.removeprefix("vault-") in self.names[0].candidates:
                return True
            self.lab.api(leader, "PUT", "sys/step-down", {}, token=token)
            eligible = time.monotonic() + STEPPED_DOWN
            return False

        wait_for(candidate_leads, 60, "a candidate to lead the cluster")
        # Nothing shows from outside when a node that stepped down would take over again.
        time.sleep(max(0.0, eligible - time.monotonic()))
        site = self.lab.active().removeprefix("vault-")
        if any(self.site_of(name) != site for name in self.names):
            self.move_all(site)
        self.ready()

    def asked_for(self, name: Name, since: float) -> list[Update]:
        """Return the updates of a name that arrived."""
        return [update for update in self.updates(since) if update.name == name.name]

    def heard(self, word: str, since: float) -> bool:
        """Whether a checker says that the DynDNS server answered with a word."""
        lines = [line for node in self.lab.nodes for line in self.checkers.journal(node, since)]
        return any("event=update" in line and word in line for line in lines)

    # --- a fault

    def strike(
        self,
        kind: str,
        fault: Callable[[str], AbstractContextManager[float]],
        *,
        within: float = 30,
        wait_for_user: bool = False,
        ttl: float | None = None,
        as_it_is: bool = False,
    ) -> Round:
        """Have a fault befall the site that holds the first name, see its names moved, undo it, and see all well again.

        Args:
            kind: what it is called.
            fault: of a node.
            within: s in which all DNS servers must have followed.
            wait_for_user: go on with it until the user is served again; else until the names have moved.
            ttl: s for which the VM's resolver still has the old address at that moment; None: it has just asked.
            as_it_is: at once, whatever the resolver has.

        Returns:
            What it cost; it is remembered in `rounds` too.
        """
        if ttl is not None:
            self.await_ttl(ttl)
            site, needed = self.first_site()
        else:
            site, needed = self.first_site() if as_it_is else self.begin()
        led = self.faults.health(f"vault-{site}") == ACTIVE
        ttl_left = self.ttl_left(self.names[0])
        with fault(f"vault-{site}") as struck:
            settled = self.await_elsewhere(needed, site, within) - struck
            if wait_for_user:
                self.user.await_success(struck + settled, CLIENT_PATIENCE, in_a_row=5)
            ended = time.monotonic()
        return self.account(kind, site, struck, ended, needed=needed, led=led, dns_after=settled, ttl_left=ttl_left,
                            waited=wait_for_user)  # fmt: skip

    def account(
        self,
        kind: str,
        site: str,
        struck: float,
        ended: float,
        *,
        needed: Sequence[Name] = (),
        led: bool = False,
        dns_after: float = 0.0,
        ttl_left: int | None = None,
        waited: bool = False,
    ) -> Round:
        """Wait until all is well after a fault, and remember what it cost: updates and changes up to here.

        Args:
            kind: what it is called.
            site: where it was.
            struck: when it began, monotonic.
            ended: when it was undone; the user's operations count that were begun before.
            needed: names that had to be moved.
            led: see Round.
            dns_after: see Round.
            ttl_left: see Round.
            waited: see Round.
        """
        self.ready()
        told = ended + 2 * self.user.timeout + 1.2  # what was begun before has been tried again by then
        wait_for(lambda: time.monotonic() > told, 30, "the user's last operations to end")
        one = Round(
            kind=kind,
            site=site,
            led=led,
            needed=tuple(name.name for name in needed),
            dns_after=round(dns_after, 2),
            changes=self.changes(struck),
            updates=len(self.updates(struck)),
            user=self.user.experience(struck, ended),
            ttl_left=ttl_left,
            waited=waited,
        )
        self.rounds.append(one)
        print(row(one), flush=True)
        return one

    def changes(self, since: float) -> dict[str, int]:
        """Return how often each name's answer has changed, at the server where it changed most."""
        found = {}
        for name in self.names:
            whole = self.dns.changes_of(name.name)
            before = [max((each for each in whole if each.server == server and each.at < since and each.said != "silent"),
                          key=lambda each: each.at, default=None) for server in DNS_SERVERS]  # fmt: skip
            seen = [each for each in before if each] + [each for each in whole if each.at >= since]
            found[name.name] = max(moves(seen, DNS_SERVERS).values())
        return found

    def updates(self, since: float) -> list[Update]:
        """Return the updates that arrived at the DynDNS server."""
        return updates(self.lab, since)


HEADER = (
    f"{'FAULT':36} {'SITE':5} {'LED':3} {'DNS AFTER':>9} {'USER BACK AFTER':>15} {'FAILED':>9} {'AND RETRIED':>11} "
    f"{'CHANGES':>7} {'UPDATES':>7} {'NEEDED':>6}"
)


def row(one: Round) -> str:
    """Lay a round out as a line of the table."""
    user = one.user
    # Where the round ended as soon as the names had moved, the user's address may have been the old one still.
    back = f"{user.settled_after:.1f} s" if one.waited and user.settled_after is not None else "-"
    return (
        f"{one.kind:36} {one.site:5} {'yes' if one.led else 'no':3} {one.dns_after:7.1f} s {back:>15} "
        f"{user.failed:4}/{user.operations:<4} {user.failed_with_retry:11} {sum(one.changes.values()):7} {one.updates:7} "
        f"{len(one.needed):6}"
    )


def keep(rounds: Sequence[Round], path: Path) -> None:
    """Write rounds as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n")
