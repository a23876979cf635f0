"""Whatever fails, the names are soon at a site that serves, moved once, with one update each, and with nobody doing a thing.

What each fault cost is printed as a table at the end. Two figures: when both DNS servers gave a serving site, and when the
user on the VM was served again, whose resolver keeps an address for its TTL of 60 s; that is waited for where the first
figure does not tell all. LONG=1 adds what takes minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import pytest
from faults import DYNDNS_HOST, SITES, Faults
from lab import wait_for
from rounds import Name, Round, Stage
from watch import await_quiet

Fault = Callable[[Faults], Callable[[str], AbstractContextManager[float]]]
PRIMARY, SECONDARY = "ns-iisas", "ns-ifca"


def assert_moved_once(one: Round) -> None:
    """Each name that had to be moved was, once and with one update; no other was."""
    assert {name: count for name, count in one.changes.items() if count} == dict.fromkeys(one.needed, 1)
    assert one.updates == len(one.needed)


def assert_untouched(one: Round) -> None:
    """Nothing moved, and nothing was sent."""
    assert not any(one.changes.values())
    assert one.updates == 0


# --- the site that holds the name fails -------------------------------------------------------------------------------

# What happens, how it is made, and within how many s both DNS servers must have followed.
SITE_FAULTS: dict[str, tuple[Fault, float]] = {
    "server killed, stays down": (lambda f: f.killed, 10),
    "server crashed, comes back sealed": (lambda f: f.crashed, 10),
    "server sealed": (lambda f: f.sealed, 10),
    "server hangs": (lambda f: f.hung, 12),
    "host stopped": (lambda f: f.host_stopped, 12),
    "host cut from the other sites": (lambda f: f.cut_from_sites, 12),
    "host cut from everyone": (lambda f: f.cut_from_everyone, 12),
    "one-way cut: nothing gets in": (lambda f: lambda node: f.cut_from_everyone(node, "in"), 12),
    "one-way cut: nothing gets out": (lambda f: lambda node: f.cut_from_everyone(node, "out"), 12),
    "certificate expired": (lambda f: f.expired, 10),
}
# Here the user is waited for: up to 60 s, for as long as the resolver keeps the old address.
WAITED = {"server hangs"}
# The same of the node that leads the cluster: it takes an election as well.
LEADING = {"server killed, stays down", "host cut from the other sites"}


# Kin of others in the list, for who has the time.
KIN = {
    "server crashed, comes back sealed",
    "server sealed",
    "host cut from everyone",
    "one-way cut: nothing gets out",
    "certificate expired",
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.long] if kind in KIN else []) for kind in SITE_FAULTS]
)
def test_the_site_that_holds_the_name_fails(stage: Stage, kind: str) -> None:
    make, within = SITE_FAULTS[kind]
    if kind in LEADING:
        stage.lead_where_the_name_is()
    one = stage.strike(kind, make(stage.faults), within=2 * within, wait_for_user=kind in WAITED)
    assert_moved_once(one)
    assert one.dns_after <= within


def test_a_leader_whose_disk_is_full_is_stopped_and_the_name_leaves_it(stage: Stage) -> None:
    """Both audit devices are blocked: without the fence the whole cluster would stall for good."""
    stage.lead_where_the_name_is()
    one = stage.strike("disk full on the leader", stage.faults.disk_full, within=60)
    assert one.led
    assert_moved_once(one)


@pytest.mark.long
def test_a_full_disk_alone_is_no_failure_while_the_journal_takes_audit(stage: Stage) -> None:
    stage.lead_where_the_name_is()
    site = stage.site_of(stage.names[0])
    with stage.faults.disk_full(f"vault-{site}", journal=False) as struck:
        await_quiet(lambda: stage.faults.serves(f"vault-{site}"), 6, 10, "the leader to serve with one audit device")
        ended = time.monotonic()
    one = stage.account("disk of the audit file full, alone", site, struck, ended, led=True)
    assert_untouched(one)
    assert one.user.failed == 0


# --- the network between sites ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["both", pytest.param("in", marks=pytest.mark.long)])
def test_candidates_cut_from_each_other_do_not_fight(stage: Stage, direction: str) -> None:
    """INFN and IFCA do not see each other, and both see IISAS: the names come to rest, after one move at most."""
    stage.begin()
    before = {name.name: stage.site_of(name) for name in stage.names}
    with stage.faults.link_cut("infn", "ifca", direction) as struck:  # type: ignore[arg-type]
        wait_for(lambda: any(stage.faults.serves(f"vault-{site}") for site in SITES), 20, "a site to serve")

        def at_rest() -> bool:
            return stage.housed() and all(stage.faults.serves(f"vault-{stage.site_of(name)}") for name in stage.names)

        await_quiet(at_rest, 10, 60, "each name to be at a site that serves")
        ended = time.monotonic()
        needed = [name for name in stage.names if stage.site_of(name) != before[name.name]]
    one = stage.account(f"link INFN to IFCA cut, {direction}", "-", struck, ended, needed=needed)
    assert max(one.changes.values()) <= 1
    assert one.updates == len(needed)


# --- the checkers, DNS and DynDNS ---------------------------------------------------------------------------------------


def test_checkers_that_are_cut_off_move_nothing_and_the_last_one_suffices(stage: Stage) -> None:
    site, needed = stage.begin()
    with stage.faults.checkers_cut("vault-infn", "vault-ifca") as cut:
        await_quiet(lambda: not any(stage.changes(cut).values()), 5, 6, "the names to stay")
        with stage.faults.killed(f"vault-{site}") as struck:
            settled = stage.await_elsewhere(needed, site, 60)
            ended = time.monotonic()
    one = stage.account(
        "server killed, both its checkers cut", site, struck, ended, needed=needed, dns_after=settled - struck
    )
    assert_moved_once(one)


MOVERS: dict[str, Callable[[Faults], AbstractContextManager[float]]] = {
    "DynDNS down": lambda f: f.dyndns_down(),
    "DynDNS hangs": lambda f: f.dyndns_hangs(),
    "primary down": lambda f: f.dns_down(PRIMARY),
}


@pytest.mark.parametrize(
    "what", ["DynDNS down", *(pytest.param(what, marks=pytest.mark.long) for what in ("DynDNS hangs", "primary down"))]
)
def test_what_moves_names_is_down_while_a_site_fails(stage: Stage, what: str) -> None:
    """Nothing can be moved, and nobody is harmed by that alone; once it is back the names are moved."""
    site, needed = stage.begin()
    with ExitStack() as undo:
        broken = undo.enter_context(ExitStack())
        since = broken.enter_context(MOVERS[what](stage.faults))
        await_quiet(stage.faults.whole, 5, 10, "users to be served")
        struck = undo.enter_context(stage.faults.killed(f"vault-{site}"))
        await_quiet(lambda: not any(stage.changes(since).values()), 10, 11, "the names to stay")
        assert stage.updates(since) == []
        broken.close()
        back = time.monotonic()
        settled = stage.await_elsewhere(needed, site, 90)
        ended = time.monotonic()
    # Counted from when it was back: before that nothing could be done.
    one = stage.account(
        f"server killed while {what}", site, struck, ended, needed=needed, dns_after=max(0.0, settled - back)
    )
    assert_moved_once(one)


@pytest.mark.long
def test_the_secondary_is_down_while_a_site_fails(stage: Stage) -> None:
    """A DNS server that is down does not stop a move, and has the name's new address soon after it is back."""
    site, needed = stage.begin()
    with ExitStack() as undo:
        broken = undo.enter_context(ExitStack())
        broken.enter_context(stage.faults.dns_down(SECONDARY))
        struck = undo.enter_context(stage.faults.killed(f"vault-{site}"))
        settled = stage.await_elsewhere(needed, site, 30)
        broken.close()
        followed = stage.await_left(needed, site, SECONDARY, 30)
        ended = time.monotonic()
    one = stage.account("server killed while secondary down", site, struck, ended, needed=needed, dns_after=settled - struck)
    print(f"the secondary followed {followed - settled:.1f} s after the primary")
    assert_moved_once(one)


# What the DynDNS server may say, as status and body. What may pass is tried again, less and less often: by each of the three
# checkers at once and after two seconds, within three. A refusal is heeded by each once it has been refused itself.
MAY_PASS = {
    "not a word of the protocol": (200, "<html><body>Service unavailable</body></html>"),
    "nothing at all": (200, ""),
    "error 500": (500, "Internal Server Error"),
}
REFUSALS = {
    "notfqdn": (200, "notfqdn"),
    "nohost": (200, "nohost"),
    "abuse": (200, "abuse"),
    "badagent": (200, "badagent"),
    "badauth": (401, "badauth"),
    "abuse of a bad host": (403, "abuse"),
    "good, and another address": (200, "good 192.0.2.1"),
}


def has_asked(stage: Stage, name: Name, since: float) -> bool:
    return bool(stage.asked_for(name, since))


@pytest.mark.parametrize(
    ("which", "answers", "most"), [pytest.param("may pass", MAY_PASS, 6, marks=pytest.mark.long), ("refusals", REFUSALS, 3)]
)
def test_dyndns_gives_each_of_its_errors(stage: Stage, which: str, answers: dict[str, tuple[int, str]], most: int) -> None:
    """None of them is taken for a success or hammered at, and in the end the names are moved."""
    stage.checkers.forget()  # what was sent in ten minutes is limited, and the story before this sent enough
    site, needed = stage.begin()
    asked: dict[str, int] = {}
    with ExitStack() as undo:
        undo.callback(stage.checkers.forget)
        broken = undo.enter_context(ExitStack())
        say = broken.enter_context(stage.faults.dyndns_stand_in())
        say(500, "")
        struck = undo.enter_context(stage.faults.killed(f"vault-{site}"))
        for kind, (status, body) in answers.items():
            say(status, body)
            told = time.monotonic()
            stage.checkers.mend_accounts()  # after a refusal a person has to: the next answer is to be met afresh
            wait_for(partial(has_asked, stage, needed[0], told), 40, f"an update to be answered {kind!r}")
            first = stage.asked_for(needed[0], told)[0].at
            await_quiet(lambda: not any(stage.changes(struck).values()), 3, 4, "the names to stay")
            asked[kind] = sum(update.at < first + 3 for update in stage.asked_for(needed[0], told))
        broken.close()
        back = time.monotonic()
        stage.checkers.mend_accounts()
        settled = stage.await_elsewhere(needed, site, 90)
        ended = time.monotonic()
    one = stage.account(f"DynDNS answers with errors: {which}", site, struck, ended, needed=needed, dns_after=settled - back)
    print("requests in 3 s:", asked)
    assert {kind: count for kind, count in asked.items() if count > most} == {}
    assert {name: count for name, count in one.changes.items() if count} == dict.fromkeys(one.needed, 1)


# --- traps of the DynDNS server -----------------------------------------------------------------------------------------


def test_the_nochg_trap_is_got_out_of(stage: Stage) -> None:
    """The DynDNS server believes the secondary. While that lags, an update back is `nochg`, and changes nothing."""
    stage.move_all("infn")
    with ExitStack() as undo:
        lag = undo.enter_context(ExitStack())
        since = lag.enter_context(stage.faults.cut(SECONDARY, [PRIMARY]))
        with stage.faults.killed("vault-infn"):
            stage.await_left(stage.names, "infn", PRIMARY, 30)
        assert {stage.dns.says(name.name)[SECONDARY] for name in stage.names} == {stage.address("infn")}
        wait_for(lambda: stage.checkers.know_to_serve("infn"), 60, "the checkers to know that INFN serves again")
        undo.enter_context(stage.faults.killed("vault-ifca"))
        wait_for(lambda: stage.heard("nochg", since), 60, "an update that the server takes for none")
        assert {stage.dns.says(name.name)[PRIMARY] for name in stage.names} == {stage.address("ifca")}
        lag.close()
        healed = time.monotonic()
        settled = stage.await_elsewhere(stage.names, "ifca", 90)
        ended = time.monotonic()
    stage.account("nochg trap", "ifca", since, ended, needed=stage.names, dns_after=settled - healed)


@pytest.mark.long
def test_the_lock_of_120_s_is_waited_out(stage: Stage) -> None:
    """An update that could not reach the primary locks the domain. One is sent when that is over, and none before."""
    site, needed = stage.begin()
    with ExitStack() as undo:
        broken = undo.enter_context(ExitStack())
        since = broken.enter_context(stage.faults.cut(DYNDNS_HOST, [PRIMARY]))
        struck = undo.enter_context(stage.faults.killed(f"vault-{site}"))
        wait_for(lambda: stage.heard("dnserr", since), 40, "the DynDNS server to find the primary out of its reach")
        broken.close()
        settled = stage.await_elsewhere(needed, site, 200)
        ended = time.monotonic()
    one = stage.account("lock of 120 s", site, struck, ended, needed=needed, dns_after=settled - struck)
    assert {name: count for name, count in one.changes.items() if count} == dict.fromkeys(one.needed, 1)
    assert one.updates <= 2 * len(needed)


# --- everything --------------------------------------------------------------------------------------------------------


def test_everything_goes_down_and_comes_back(stage: Stage) -> None:
    """Operators unseal, and nobody has to do anything about the names."""
    stage.begin()
    with stage.faults.everything_down() as struck:
        wait_for(lambda: all(said == "silent" for name in stage.names for said in stage.dns.says(name.name).values()), 10,
                 "everything to be silent")  # fmt: skip
        ended = time.monotonic()
    one = stage.account("everything down and back", "-", struck, ended)
    assert sum(one.changes.values()) == one.updates <= len(stage.names)
