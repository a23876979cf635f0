"""The decision, rule by rule: tables of what was seen, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from endpoint_failover import decide
from endpoint_failover.decide import Situation, is_down, is_eligible, is_fresh, is_held, is_stale, score, standing, watch
from endpoint_failover.model import (
    NEVER,
    NO_RECORD,
    Act,
    Answer,
    Change,
    Consequence,
    Decision,
    Hold,
    Kind,
    Lease,
    NameMemory,
    Outcome,
    Phase,
    Place,
    Reply,
    Score,
    Standing,
    View,
    Watched,
)
from endpoint_failover.settings import DnsServer, Dyndns, Name, Rules
from hypothesis import given
from hypothesis import strategies as st

NOW, EPOCH = 1000.0, 1_800_000_000.0
RULES = Rules()
SITES = ("iisas", "infn", "ifca")
NAME = Name(
    "vault.test",
    8200,
    ("infn", "ifca"),
    (DnsServer("primary", "192.0.2.53"), DnsServer("secondary", "192.0.2.54")),
    Dyndns("https://dyndns.test/nic/update", "vault.test", "/secret"),
    primary="primary",
)
OK, LOCAL, WRITE = Outcome(Kind.OK), Outcome(Kind.LOCAL, "refused"), Outcome(Kind.WRITE, "no answer", "standby")
UP = Score(oks=9, serving=True, since=500.0)
DOWN = Score(fails=3, serving=False, since=990.0, why="refused")


def at(primary: str | None, secondary: str | None = None) -> Place:
    """Return a place; None: that server is silent. One argument: both say so."""
    secondary = primary if secondary is None else secondary
    said = {"primary": primary, "secondary": secondary}
    return Place(
        primary=primary,
        places=tuple(place for place in said.values() if place is not None),
        silent=tuple(server for server, place in said.items() if place is None),
    )


ONLY_SECONDARY = Place(None, ("infn",), ("primary",))
ONLY_PRIMARY = Place("infn", ("infn",), ("secondary",))
NOBODY = Place(None, (), ("primary", "secondary"))


def fresh(**standings: Standing) -> Watched[View]:
    return Watched(View({NAME.name: standings}), 7, changed_after=NOW - 2, seen_since=NOW - 1, read_at=NOW)


def stale(**standings: Standing) -> Watched[View]:
    return Watched(View({NAME.name: standings}), 7, changed_after=NOW - 60, seen_since=NOW - 50, read_at=NOW)


def unknown(**standings: Standing) -> Watched[View]:
    """Not known yet: first read just now, so it may be of any age."""
    return Watched(View({NAME.name: standings}), 7, changed_after=NEVER, seen_since=NOW, read_at=NOW)


NEVER_WROTE: Watched[View] = Watched(None, 0, changed_after=NEVER, seen_since=NOW, read_at=NOW)


def lease(phase: Phase = Phase.DONE, holder: str = "ifca", version: int = 4, age: float = 100.0, lock: float = 0.0) -> Any:
    value = Lease(holder, phase, "infn", "ifca", "because", lock=lock)
    return Watched(value, version, changed_after=NOW - age - 1, seen_since=NOW - age, read_at=NOW)


NO_LEASE: Watched[Lease] = Watched(None, 0, changed_after=NEVER, seen_since=NOW, read_at=NOW)


def situation(down: Iterable[str] = (), **given: Any) -> Situation:
    """Return a situation as iisas sees it: the name is at infn, all is well but the sites that are down."""
    down = set(down)
    standings = {site: Standing.DOWN if site in down else Standing.UP for site in SITES}
    common: dict[str, Any] = {
        "name": NAME,
        "rules": RULES,
        "observer": "iisas",
        "sites": SITES,
        "now": NOW,
        "cluster_now": EPOCH,
        "own": {site: DOWN if site in down else UP for site in SITES},
        "outcomes": {site: LOCAL if site in down else OK for site in SITES},
        "place": at("infn"),
        "memory": NameMemory(),
        "asked": True,
        "views": {"infn": fresh(**standings), "ifca": fresh(**standings)},
        "lease": NO_LEASE,
    }
    return Situation(**{**common, **given})


def decided(s: Situation) -> tuple[Act, str]:
    decision = decide.decide(s)
    return decision.act, decision.target


def moving(**given: Any) -> NameMemory:
    """Return the memory of an observer that has the lease, version 5, to move the name to ifca."""
    common: dict[str, Any] = {
        "trouble": "down",
        "trouble_since": NOW - 5,
        "lease": 5,
        "leased_at": NOW - 1,
        "target": "ifca",
        "source": "infn",
        "why": "infn is down",
    }
    return NameMemory(**{**common, **given})


OURS = lease(Phase.MOVING, "iisas", version=5, age=1.0)


# --- histories of a site


def seen(*checks: Mapping[str, Outcome], rules: Rules = RULES) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for number, outcomes in enumerate(checks):
        found = score(found, outcomes, rules, NOW + number)
    return found


def all_of(outcome: Outcome, **others: Outcome) -> dict[str, Outcome]:
    return {**dict.fromkeys(SITES, outcome), **others}


def test_a_site_is_up_after_rise_successes() -> None:
    assert standing(seen(*[all_of(OK)] * 2)["infn"], RULES) is Standing.DOUBT
    assert standing(seen(*[all_of(OK)] * 3)["infn"], RULES) is Standing.UP


@pytest.mark.parametrize("outcome", [LOCAL, WRITE])
def test_a_site_is_down_after_fall_failures_while_another_serves(outcome: Outcome) -> None:
    failing = all_of(OK, infn=outcome)

    assert standing(seen(*[all_of(OK)] * 3, *[failing] * 2)["infn"], RULES) is Standing.DOUBT
    assert standing(seen(*[all_of(OK)] * 3, *[failing] * 3)["infn"], RULES) is Standing.DOWN


def test_a_success_between_failures_starts_the_count_anew() -> None:
    failing = all_of(OK, infn=LOCAL)

    found = seen(*[all_of(OK)] * 3, failing, failing, all_of(OK), failing, failing)["infn"]

    assert (found.fails, standing(found, RULES)) == (2, Standing.DOUBT)


def test_a_site_that_was_down_is_up_only_after_rise_successes() -> None:
    back = [all_of(OK)] * 2
    found = seen(*[all_of(OK, infn=LOCAL)] * 3, *back)

    assert standing(found["infn"], RULES) is Standing.DOUBT
    assert standing(score(found, all_of(OK), RULES, NOW)["infn"], RULES) is Standing.UP


def test_a_timely_refusal_of_our_identity_is_a_success() -> None:
    found = seen(*[all_of(Outcome(Kind.FORWARDED, "HTTP 403"))] * 3)

    assert {standing(each, RULES) for each in found.values()} == {Standing.UP}


def test_when_no_site_takes_a_write_none_is_found_guilty() -> None:
    found = seen(*[all_of(OK)] * 3, *[all_of(WRITE)] * 50)

    assert [each.fails for each in found.values()] == [0, 0, 0]


def test_when_no_site_is_reached_none_is_found_guilty() -> None:
    found = seen(*[all_of(OK)] * 3, *[all_of(LOCAL)] * 50)

    assert [each.fails for each in found.values()] == [0, 0, 0]


def test_a_fault_of_its_own_during_an_election_counts_and_is_not_enough() -> None:
    election = all_of(WRITE, infn=LOCAL)
    found = seen(*[all_of(OK)] * 3, *[election] * 50)

    assert (found["infn"].fails, found["ifca"].fails) == (RULES.fall - 2, 0)


def test_two_failures_after_an_election_prove_what_it_hinted_at() -> None:
    after = all_of(OK, infn=LOCAL)

    assert standing(seen(*[all_of(OK)] * 3, all_of(WRITE, infn=LOCAL), after)["infn"], RULES) is Standing.DOUBT
    assert standing(seen(*[all_of(OK)] * 3, all_of(WRITE, infn=LOCAL), after, after)["infn"], RULES) is Standing.DOWN


def test_a_site_that_is_down_stays_down_while_nothing_can_be_proved() -> None:
    found = seen(*[all_of(OK, infn=LOCAL)] * 3, all_of(WRITE), all_of(LOCAL))

    assert standing(found["infn"], RULES) is Standing.DOWN


def test_a_site_that_was_not_probed_keeps_its_history() -> None:
    assert score({"ifca": UP}, {"infn": OK}, RULES, NOW)["ifca"] == UP


def test_the_verdict_says_since_when_and_why() -> None:
    found = seen(*[all_of(OK)] * 3, *[all_of(OK, infn=LOCAL)] * 5)["infn"]

    assert (found.since, found.why) == (NOW + 5, "refused")


def test_after_a_pause_of_the_checker_nothing_is_in_a_row() -> None:
    found = decide.forget({"infn": UP, "ifca": DOWN})

    assert {standing(each, RULES) for each in found.values()} == {Standing.DOUBT}


def test_after_a_while_without_service_what_was_well_must_be_seen_anew() -> None:
    found = decide.distrust({"infn": UP, "ifca": DOWN})

    assert (standing(found["infn"], RULES), standing(found["ifca"], RULES)) == (Standing.DOUBT, Standing.DOWN)


@given(st.lists(st.fixed_dictionaries({site: st.sampled_from((OK, LOCAL, WRITE)) for site in SITES}), max_size=30))
def test_down_means_that_it_failed_at_least_twice_while_another_served(checks: list[dict[str, Outcome]]) -> None:
    for site, found in seen(*checks).items():
        if standing(found, RULES) is Standing.DOWN:
            since = max((n for n, each in enumerate(checks) if each[site].serves), default=-1)
            proofs = [each for each in checks[since + 1 :] if any(outcome.serves for outcome in each.values())]
            assert len(proofs) >= 2


@given(st.lists(st.fixed_dictionaries({site: st.sampled_from((OK, LOCAL, WRITE)) for site in SITES}), max_size=30))
def test_up_means_that_the_last_rise_proofs_were_in_its_favour(checks: list[dict[str, Outcome]]) -> None:
    for site, found in seen(*checks).items():
        if standing(found, RULES) is Standing.UP and found.oks == RULES.rise:
            proofs = [each for each in checks if any(outcome.serves for outcome in each.values())]
            assert all(each[site].serves for each in proofs[-RULES.rise :])


# --- where a name is

ADDRESSES = {"192.0.2.2": "infn", "192.0.2.3": "ifca"}


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        ([("primary", ["192.0.2.2"]), ("secondary", ["192.0.2.2"])], at("infn")),
        ([("primary", ["192.0.2.3"]), ("secondary", ["192.0.2.2"])], at("ifca", "infn")),
        ([("primary", []), ("secondary", [])], at(NO_RECORD)),
        ([("primary", ["198.51.100.1"]), ("secondary", ["192.0.2.2"])], at("198.51.100.1", "infn")),
        (
            [("primary", ["192.0.2.2", "192.0.2.3"]), ("secondary", ["192.0.2.2", "192.0.2.3"])],
            at("infn, ifca"),
        ),
        ([("primary", None), ("secondary", ["192.0.2.2"])], ONLY_SECONDARY),
        ([("primary", ["192.0.2.2"]), ("secondary", None)], ONLY_PRIMARY),
        ([("primary", None), ("secondary", None)], NOBODY),
    ],
    ids=["agreed", "uneven", "no record", "foreign", "two records", "primary silent", "secondary silent", "all silent"],
)
def test_the_place_is_what_the_servers_say(answers: list[tuple[str, list[str] | None]], place: Place) -> None:
    said = tuple(Answer(server, tuple(each or ()), "" if each is not None else "no answer") for server, each in answers)

    assert decide.place_of(said, ADDRESSES, "primary") == place


@pytest.mark.parametrize(
    ("place", "agreed"),
    [(at("infn"), "infn"), (at("infn", "ifca"), None), (ONLY_SECONDARY, "infn"), (NOBODY, None)],
)
def test_servers_agree_when_all_that_answer_do(place: Place, agreed: str | None) -> None:
    assert place.agreed == agreed


def test_a_hidden_primary_is_no_server_that_is_asked() -> None:
    said = (Answer("secondary", ("192.0.2.2",)),)

    assert decide.place_of(said, ADDRESSES, "").primary is None


# --- keys of the cluster, by our own clock


def test_a_key_read_for_the_first_time_may_be_of_any_age() -> None:
    found = watch(None, View(), 7, NOW)

    assert (is_fresh(found, RULES, NOW), is_stale(found, RULES, NOW)) == (False, False)


def test_a_key_that_changed_between_two_readings_is_fresh() -> None:
    found = watch(watch(None, View(), 7, NOW - 5), View(), 8, NOW)

    assert (is_fresh(found, RULES, NOW), is_stale(found, RULES, NOW)) == (True, False)


def test_a_key_that_changed_at_some_time_in_a_long_pause_is_not_known_to_be_fresh() -> None:
    found = watch(watch(None, View(), 7, NOW - 31), View(), 8, NOW)

    assert (is_fresh(found, RULES, NOW), is_stale(found, RULES, NOW)) == (False, False)


def test_a_key_that_has_not_changed_for_view_ttl_is_stale() -> None:
    found = watch(watch(None, View(), 7, NOW - RULES.view_ttl), View(), 7, NOW)

    assert (is_fresh(found, RULES, NOW), is_stale(found, RULES, NOW)) == (False, True)


def test_a_key_that_was_not_read_for_long_is_not_known_to_be_stale() -> None:
    found = watch(watch(None, View(), 7, NOW - 60), View(), 7, NOW - 30)

    assert is_stale(found, RULES, NOW) is False


def test_an_observer_that_never_wrote_is_dead() -> None:
    assert is_stale(watch(None, None, 0, NOW), RULES, NOW) is True


# --- holds


@pytest.mark.parametrize(
    ("hold", "held"),
    [(None, False), (Hold(0.0), True), (Hold(EPOCH + 1), True), (Hold(EPOCH), False), (Hold(EPOCH - 1), False)],
)
def test_a_hold_lasts_until_its_end_or_its_release(hold: Hold | None, held: bool) -> None:
    assert is_held("infn", {"infn": hold} if hold else {}, EPOCH) is held


# --- who is down in the eyes of a majority

D, U, B = {"infn": Standing.DOWN}, {"infn": Standing.UP}, {"infn": Standing.DOUBT}


@pytest.mark.parametrize(
    ("own", "infn", "ifca", "down"),
    [
        (DOWN, fresh(**D), fresh(**D), True),
        (DOWN, fresh(**U), fresh(**D), True),
        (UP, fresh(**D), fresh(**D), True),
        (DOWN, fresh(**U), fresh(**U), False),
        (DOWN, fresh(**B), fresh(**B), False),
        (DOWN, stale(**U), fresh(**D), True),
        (DOWN, stale(**U), fresh(**U), False),
        (DOWN, stale(**U), stale(**U), True),
        (UP, stale(**D), stale(**D), False),
        (DOWN, stale(**U), unknown(**D), False),
        (DOWN, unknown(**D), unknown(**D), False),
        (UP, unknown(**D), unknown(**D), False),
        (DOWN, NEVER_WROTE, NEVER_WROTE, True),
        (DOWN, NEVER_WROTE, fresh(**U), False),
    ],
)
def test_a_majority_of_those_that_count(own: Score, infn: Watched[View], ifca: Watched[View], down: bool) -> None:
    s = situation(own={"infn": own}, views={"infn": infn, "ifca": ifca})

    assert is_down(s, "infn") is down


def test_what_an_observer_says_of_another_name_does_not_count() -> None:
    other = replace(fresh(), value=View({"secrets.test": {"infn": Standing.DOWN}}))
    s = situation(own={"infn": DOWN}, views={"infn": other, "ifca": other})

    assert is_down(s, "infn") is False


# --- who may be moved to


@pytest.mark.parametrize(
    ("given", "eligible"),
    [
        ({}, True),
        ({"outcomes": {"ifca": Outcome(Kind.FORWARDED)}}, True),
        ({"outcomes": {"ifca": LOCAL}}, False),
        ({"outcomes": {"ifca": WRITE}}, False),
        ({"outcomes": {}}, False),
        ({"own": {"ifca": replace(UP, serving=None)}}, False),
        ({"own": {"ifca": replace(UP, serving=False)}}, False),
        ({"own": {}}, False),
        ({"holds": {"ifca": Hold(EPOCH + 1)}}, False),
        ({"holds": {"ifca": Hold(EPOCH - 1)}}, True),
        ({"views": {"infn": fresh(ifca=Standing.DOWN), "ifca": fresh(ifca=Standing.DOWN)}}, False),
        ({"views": {"infn": fresh(ifca=Standing.DOWN), "ifca": fresh(ifca=Standing.UP)}}, True),
    ],
)
def test_a_target_serves_now_and_is_unheld(given: dict[str, Any], eligible: bool) -> None:
    assert is_eligible(situation(**given), "ifca") is eligible


# --- stay


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"down": ["ifca"]},
        {"down": ["iisas"]},
        {"own": dict.fromkeys(SITES, Score()), "views": {}},
        {"place": at("ifca")},
        {"views": {"infn": stale(), "ifca": stale()}},
        {"views": {}},
        {"holds": {"ifca": Hold()}},
        {"holds": {"infn": Hold(EPOCH - 1)}},
        {"place": ONLY_PRIMARY},
        {"place": ONLY_SECONDARY},
        {"wish": "infn"},
        {"asked": False, "lease": None},
    ],
    ids=[
        "all is well",
        "another candidate is down",
        "no candidate is down",
        "nothing is known yet",
        "at the second choice",
        "dead checkers",
        "no other checkers",
        "another is held",
        "the hold has run out",
        "the secondary is silent",
        "the primary is silent",
        "wished for where it is",
        "not asked",
    ],
)
def test_a_name_stays_where_nothing_is_wrong(given: dict[str, Any]) -> None:
    assert decided(situation(**given)) == (Act.STAY, "")


def test_what_only_we_see_moves_nothing() -> None:
    views = {"infn": fresh(infn=Standing.UP), "ifca": fresh(infn=Standing.UP)}

    assert decided(situation(["infn"], views=views)) == (Act.STAY, "")


def test_a_silent_dns_server_is_told_and_does_not_stop_a_move() -> None:
    decision = decide.decide(situation(["infn"], place=ONLY_PRIMARY))

    assert (decision.act, [alarm.key for alarm in decision.alarms]) == (Act.LEASE, ["dns vault.test secondary"])


def test_without_any_dns_server_nobody_knows_and_nothing_moves() -> None:
    decision = decide.decide(situation(["infn"], place=NOBODY))

    assert (decision.act, [alarm.key for alarm in decision.alarms]) == (Act.WAIT, ["dns vault.test"])


# --- move


def test_who_sees_the_site_down_asks_the_cluster_first() -> None:
    assert decided(situation(["infn"], asked=False, lease=None))[0] is Act.ASK


def test_who_has_asked_takes_the_lease() -> None:
    decision = decide.decide(situation(["infn"], lease=lease(version=4)))

    assert (decision.act, decision.target, decision.cas) == (Act.LEASE, "ifca", 4)
    assert decision.lease == Lease("iisas", Phase.MOVING, "infn", "ifca", "infn is down: refused", at=EPOCH)


def test_who_has_the_lease_sends_the_update() -> None:
    assert decided(situation(["infn"], memory=moving(), lease=OURS)) == (Act.SEND, "ifca")


def test_the_lease_of_another_who_moves_is_respected() -> None:
    s = situation(["infn"], lease=lease(Phase.MOVING, "ifca", age=RULES.lease_time - 0.1))

    assert decide.decide(s).why == "ifca is moving it to ifca"


@pytest.mark.parametrize(
    "held",
    [
        lease(Phase.MOVING, "ifca", age=RULES.lease_time),
        lease(Phase.DONE, "ifca", age=0.0),
        lease(Phase.FAILED, "ifca", age=0.0),
        lease(Phase.MOVING, "iisas", age=0.0),
    ],
    ids=["run out", "done", "failed", "ours, from before a restart"],
)
def test_a_lease_that_is_free_is_taken(held: Watched[Lease]) -> None:
    assert decided(situation(["infn"], lease=held)) == (Act.LEASE, "ifca")


def test_a_lease_that_is_about_to_run_out_is_taken_anew_before_an_update() -> None:
    in_time = RULES.lease_time - RULES.dyndns_timeout - decide.LEASE_MARGIN

    assert decided(situation(["infn"], memory=moving(leased_at=NOW - in_time + 0.1), lease=OURS))[0] is Act.SEND
    assert decided(situation(["infn"], memory=moving(leased_at=NOW - in_time), lease=OURS))[0] is Act.LEASE


def test_a_lease_for_another_target_is_taken_anew() -> None:
    assert decided(situation(["infn"], memory=moving(target="iisas"), lease=OURS)) == (Act.LEASE, "ifca")


def test_a_lease_that_somebody_else_took_is_ours_no_longer() -> None:
    s = situation(["infn"], memory=moving(), lease=lease(Phase.MOVING, "ifca", version=6, age=0.0))

    decision = decide.decide(s)

    assert (decision.act, decision.memory.lease) == (Act.WAIT, 0)


def test_the_cluster_must_be_asked_before_any_update() -> None:
    assert decided(situation(["infn"], memory=moving(), lease=None))[0] is Act.WAIT
    assert decided(situation(["infn"], memory=moving(), lease=None, asked=False))[0] is Act.ASK


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({"down": ["infn"]}, "down"),
        ({"holds": {"infn": Hold(0, "alice", "new disk")}}, "held"),
        ({"wish": "ifca"}, "wish"),
        ({"place": at("iisas")}, "no candidate"),
        ({"place": at(NO_RECORD)}, "no record"),
        ({"place": at("198.51.100.1")}, "foreign"),
        ({"place": at("infn, ifca")}, "foreign"),
        ({"down": ["infn"], "place": at("infn", "ifca")}, "uneven"),
        ({"place": at(NO_RECORD, "infn")}, "uneven"),
    ],
)
def test_each_trouble_moves_the_name_once_it_has_lasted(given: dict[str, Any], trouble: str) -> None:
    memory = NameMemory(trouble=trouble, trouble_since=NOW - RULES.settle)

    decision = decide.decide(situation(**given, memory=memory))

    assert (decision.memory.trouble, decision.act) == (trouble, Act.LEASE)


@pytest.mark.parametrize(
    ("given", "patience"),
    [
        ({"down": ["infn"]}, 0.0),
        ({"holds": {"infn": Hold()}}, 0.0),
        ({"wish": "ifca"}, 0.0),
        ({"place": at("iisas")}, (RULES.fall - 1) * RULES.retry),
        ({"place": at(NO_RECORD)}, (RULES.fall - 1) * RULES.retry),
        ({"place": at("198.51.100.1")}, (RULES.fall - 1) * RULES.retry),
        ({"down": ["infn"], "place": at("infn", "ifca")}, RULES.settle),
    ],
)
def test_what_was_seen_only_once_is_no_trouble_yet(given: dict[str, Any], patience: float) -> None:
    first = decide.decide(situation(**given))
    acts = [
        decide.decide(situation(**given, memory=replace(first.memory, trouble_since=NOW - lasted))).act
        for lasted in (max(0.0, patience - 0.1), patience)
    ]

    assert first.memory.trouble_since == NOW
    assert acts == [Act.WAIT if patience else Act.LEASE, Act.LEASE]


@pytest.mark.parametrize(
    "given",
    [{"down": ["ifca"], "place": at("infn", "ifca")}, {"place": at("infn", "ifca")}, {"place": at("ifca", NO_RECORD)}],
)
def test_where_the_primary_is_right_the_secondary_follows_by_itself(given: dict[str, Any]) -> None:
    assert decided(situation(**given)) == (Act.STAY, "")


def test_dns_servers_that_differ_for_long_are_told() -> None:
    memory = NameMemory(uneven_since=NOW - RULES.settle)
    decision = decide.decide(situation(place=at("infn", "ifca"), memory=memory))

    assert [alarm.key for alarm in decision.alarms] == ["dns vault.test differ"]


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({"down": ["infn"]}, "ifca"),
        ({"down": ["ifca"], "place": at("ifca")}, "infn"),
        ({"place": at("iisas"), "memory": NameMemory(trouble="no candidate")}, "infn"),
        ({"place": at("iisas", "ifca"), "memory": NameMemory(trouble="uneven")}, "ifca"),
        ({"wish": "ifca"}, "ifca"),
    ],
    ids=["the next in order", "back to the first", "the first in order", "where a server has it already", "as wished"],
)
def test_the_target_is_the_first_candidate_that_serves(given: dict[str, Any], target: str) -> None:
    assert decided(situation(**given)) == (Act.LEASE, target)


@pytest.mark.parametrize(
    "given",
    [
        {"down": ["infn", "ifca"]},
        {"down": ["infn"], "holds": {"ifca": Hold()}},
        {"holds": {"infn": Hold(), "ifca": Hold()}},
        {"down": ["ifca"], "wish": "ifca"},
        {"wish": "iisas"},
        {"wish": "ifca", "holds": {"ifca": Hold()}},
    ],
)
def test_without_a_target_it_stays_and_that_is_an_alarm(given: dict[str, Any]) -> None:
    decision = decide.decide(situation(**given))

    assert (decision.act, [alarm.key for alarm in decision.alarms]) == (Act.WAIT, ["nowhere vault.test"])


def test_a_trouble_that_has_passed_gives_the_lease_back() -> None:
    decision = decide.decide(situation(memory=moving(), lease=OURS))

    assert decision.act is Act.RELEASE
    assert decision.lease is not None
    assert (decision.lease.phase, decision.lease.why, decision.cas) == (Phase.FAILED, "no longer needed", 5)


# --- what keeps an update back


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"memory": moving(not_before=NOW + 1, wait="dnserr")}, "dnserr"),
        ({"memory": moving(sends=tuple(NOW - n for n in range(10)))}, "10 updates were sent within 10 minutes"),
        ({"place": ONLY_SECONDARY}, "the primary DNS server does not answer, and an update now would lock the domain"),
        ({"lease": lease(Phase.FAILED, "ifca", age=100.0, lock=125.0)}, "ifca was told that the DynDNS server is locked"),
    ],
)
def test_an_obstacle_keeps_an_update_back_and_is_told(given: dict[str, Any], why: str) -> None:
    memory = replace(given.get("memory", NameMemory()), lease=0, trouble="down", trouble_since=NOW)
    decision = decide.decide(situation(["infn"], **{**given, "memory": memory}))

    assert (decision.act, decision.why) == (Act.WAIT, why)
    assert [alarm.key for alarm in decision.alarms][-1] == "stuck vault.test"


@pytest.mark.parametrize(
    "given",
    [
        {"memory": moving(lease=0, not_before=NOW)},
        {"memory": moving(lease=0, sends=tuple(NOW - decide.RATE_WINDOW - n for n in range(10)))},
        {"memory": moving(lease=0, not_before=NOW + 900, blocked="old"), "account": "new"},
        {"place": ONLY_SECONDARY, "memory": moving(lease=0, trouble_since=NOW - decide.PRIMARY_PATIENCE)},
        {"lease": lease(Phase.FAILED, "ifca", age=125.0, lock=125.0)},
    ],
    ids=["waited out", "sent long ago", "another account", "the primary was waited for", "the lock is over"],
)
def test_an_obstacle_that_has_passed_keeps_nothing_back(given: dict[str, Any]) -> None:
    assert decided(situation(["infn"], **given))[0] is Act.LEASE


def test_an_account_that_was_refused_stays_blocked() -> None:
    memory = moving(lease=0, not_before=NOW + 900, wait="badauth", blocked="same")

    assert decide.decide(situation(["infn"], memory=memory, account="same")).why == "badauth"


def test_a_hidden_primary_is_not_waited_for() -> None:
    s = situation(["infn"], name=replace(NAME, primary=""), place=Place(None, ("infn",), ("primary",)))

    assert decide.decide(s).act is Act.LEASE


def test_an_obstacle_gives_the_lease_back_and_passes_the_lock_on() -> None:
    memory = moving(not_before=NOW + 120, wait="dnserr", lock=125.0)
    decision = decide.decide(situation(["infn"], memory=memory, lease=OURS))

    assert decision.act is Act.RELEASE
    assert decision.lease is not None
    assert (decision.lease.phase, decision.lease.lock) == (Phase.FAILED, 125.0)


# --- after an update


def test_an_update_on_its_way_is_waited_for() -> None:
    s = situation(["infn"], memory=moving(sent_at=NOW - RULES.verify + 0.1), lease=OURS)

    assert decide.decide(s).why == "the update to ifca is on its way"


def test_an_update_is_waited_for_even_when_it_is_not_needed_any_more() -> None:
    assert decided(situation(memory=moving(sent_at=NOW - 1), lease=OURS))[0] is Act.WAIT


def test_an_update_that_did_not_arrive_is_a_failure_and_is_not_repeated_at_once() -> None:
    decision = decide.decide(situation(["infn"], memory=moving(sent_at=NOW - RULES.verify), lease=OURS))

    assert decision.act is Act.RELEASE
    assert decision.memory.not_before == NOW + decide.LOST_LEAST
    assert decision.why == "the update to ifca was taken and did not arrive at the DNS servers"


def test_an_update_that_did_not_arrive_after_the_lease_was_lost_is_waited_out_too() -> None:
    s = situation(["infn"], memory=moving(sent_at=NOW - RULES.verify, lease=0), lease=NO_LEASE)

    assert decided(s)[0] is Act.WAIT


def test_an_update_that_arrived_is_told_and_the_lease_given_back() -> None:
    s = situation(["infn"], memory=moving(sent_at=NOW - 1, sends=(NOW - 1,)), lease=OURS, place=at("ifca"))

    decision = decide.decide(s)

    assert decision.arrived == Change("infn", "ifca", "infn is down", EPOCH)
    assert (decision.act, decision.cas, decision.memory.target) == (Act.RELEASE, 5, "")
    assert decision.lease is not None
    assert decision.lease.phase is Phase.DONE


def test_an_update_has_arrived_when_all_that_answer_say_so() -> None:
    memory = moving(sent_at=NOW - 1, sends=(NOW - 1,))
    half = situation(["infn"], memory=memory, lease=OURS, place=at("ifca", "infn"))
    one_silent = situation(["infn"], memory=memory, lease=OURS, place=Place("ifca", ("ifca",), ("secondary",)))

    assert decide.decide(half).arrived is None
    assert decide.decide(one_silent).arrived is not None


def test_a_move_by_another_is_not_told_as_ours() -> None:
    decision = decide.decide(situation(["infn"], memory=moving(lease=0), place=at("ifca")))

    assert (decision.arrived, decision.act, decision.memory.target) == (None, Act.STAY, "")


FAILED = lease(Phase.FAILED, "iisas", version=6)
GIVEN_UP = {"sends": (NOW - 20,), "lease": 0, "tries": 1, "not_before": NOW + 5}


def test_an_update_that_arrived_after_the_lease_was_given_back_is_told_too() -> None:
    s = situation(["infn"], memory=moving(**GIVEN_UP), lease=FAILED, place=at("ifca"))

    decision = decide.decide(s)

    assert decision.arrived == Change("infn", "ifca", "infn is down", EPOCH)
    assert (decision.act, decision.cas, decision.memory.target) == (Act.RELEASE, 6, "")
    assert decision.lease is not None
    assert decision.lease.phase is Phase.DONE
    assert decided(replace(s, asked=False, lease=None)) == (Act.ASK, "")


@pytest.mark.parametrize("held", [lease(Phase.DONE, "ifca"), lease(Phase.FAILED, "ifca"), NO_LEASE, None])
def test_what_another_has_had_the_lease_for_since_is_not_told_as_ours(held: Watched[Lease] | None) -> None:
    decision = decide.decide(situation(["infn"], memory=moving(**GIVEN_UP), lease=held, place=at("ifca")))

    assert (decision.arrived, decision.act, decision.memory.target) == (None, Act.STAY, "")


def test_what_is_remembered_of_failures_is_forgotten_when_it_arrives() -> None:
    memory = moving(sent_at=NOW - 1, sends=(NOW - 1,), tries=5, not_before=NOW + 60, wait="dnserr", lock=125.0)

    rested = decide.decide(situation(["infn"], memory=memory, lease=OURS, place=at("ifca"))).memory

    assert (rested.tries, rested.not_before, rested.wait, rested.lock, rested.sends) == (0, NEVER, "", 0.0, (NOW - 1,))


@pytest.mark.parametrize(
    ("consequence", "sent_at", "not_before", "lock", "blocked"),
    [
        (Consequence.SENT, NOW, NEVER, 0.0, ""),
        (Consequence.UNCHANGED, NOW, NEVER, 0.0, ""),
        (Consequence.LOCKED, None, NOW + decide.LOCK, decide.LOCK, ""),
        (Consequence.STOP, None, NOW + decide.STOPPED, 0.0, "account"),
        (Consequence.RETRY, None, NOW + decide.RETRY_LEAST, 0.0, ""),
    ],
)
def test_each_answer_has_its_consequence(
    consequence: Consequence, sent_at: float | None, not_before: float, lock: float, blocked: str
) -> None:
    found = decide.after_send(moving(), Reply(consequence, "text"), NOW, "account")

    assert (found.sent_at, found.not_before, found.lock, found.blocked) == (sent_at, not_before, lock, blocked)
    assert found.sends == (NOW,)


def test_the_wait_after_failures_doubles_up_to_a_bound() -> None:
    memory, waits = moving(), []
    for _ in range(8):
        memory = decide.after_send(memory, Reply(Consequence.RETRY, "no answer"), NOW, "")
        waits.append(memory.not_before - NOW)

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_updates_of_long_ago_are_forgotten() -> None:
    memory = moving(sends=(NOW - decide.RATE_WINDOW, NOW - 1))

    assert decide.after_send(memory, Reply(Consequence.SENT, "good"), NOW, "").sends == (NOW - 1, NOW)


def test_a_lease_that_was_granted_is_remembered_from_before_it_was_asked_for() -> None:
    wanted = decide.decide(situation(["infn"]))

    found = decide.after_lease(wanted.memory, wanted, 9, NOW - 0.5)

    assert (found.lease, found.leased_at, found.target, found.source) == (9, NOW - 0.5, "ifca", "infn")


def test_a_lease_that_was_refused_is_none() -> None:
    wanted = decide.decide(situation(["infn"]))

    assert decide.after_lease(wanted.memory, wanted, 0, NOW).lease == 0


def test_a_lease_that_was_given_back_is_ours_no_longer() -> None:
    assert decide.after_release(moving()).lease == 0


# --- whatever the situation

standings = st.sampled_from(tuple(Standing))
scores = st.sampled_from((UP, DOWN, Score(), Score(fails=1, serving=True), Score(oks=1, serving=False)))
places = st.sampled_from(("infn", "ifca", "iisas", NO_RECORD, "198.51.100.1"))
views = st.builds(
    lambda kind, told: kind(**told),
    st.sampled_from((fresh, stale, unknown)),
    st.fixed_dictionaries(dict.fromkeys(SITES, standings)),
)
memories = st.sampled_from(
    (
        NameMemory(),
        moving(),
        moving(lease=0),
        moving(sent_at=NOW - 1),
        moving(sent_at=NOW - 60),
        moving(not_before=NOW + 60, wait="later"),
        NameMemory(trouble="no record", trouble_since=NOW - 60),
        NameMemory(trouble="uneven", trouble_since=NOW - 60, uneven_since=NOW - 60),
    )
)
situations = st.builds(
    situation,
    own=st.fixed_dictionaries(dict.fromkeys(SITES, scores)),
    outcomes=st.fixed_dictionaries({site: st.sampled_from((OK, LOCAL, WRITE)) for site in SITES}),
    place=st.one_of(places.map(at), st.builds(at, places, places), st.sampled_from((ONLY_PRIMARY, ONLY_SECONDARY, NOBODY))),
    memory=memories,
    asked=st.booleans(),
    views=st.fixed_dictionaries({"infn": views, "ifca": views}),
    holds=st.dictionaries(st.sampled_from(SITES), st.sampled_from((Hold(), Hold(EPOCH - 1), Hold(EPOCH + 1)))),
    lease=st.sampled_from((None, NO_LEASE, OURS, lease(), lease(Phase.MOVING, age=1.0), lease(Phase.FAILED, lock=125.0))),
    wish=st.sampled_from(("", "infn", "ifca", "iisas")),
)


def acts(s: Situation) -> Decision | None:
    """Return a decision that brings an update nearer; None where there is none."""
    decision = decide.decide(s)
    return decision if decision.act in (Act.LEASE, Act.SEND) else None


@given(situations)
def test_the_decision_is_a_function_of_the_situation(s: Situation) -> None:
    assert decide.decide(s) == decide.decide(s)


@given(situations)
def test_no_name_is_moved_but_to_a_candidate_that_serves_unheld(s: Situation) -> None:
    decision = acts(s)

    if decision is not None:
        assert decision.target in NAME.candidates
        assert s.outcomes[decision.target].serves
        assert not is_held(decision.target, s.holds, s.cluster_now)


@given(situations)
def test_no_name_is_moved_to_where_all_servers_have_it(s: Situation) -> None:
    decision = acts(s)

    if decision is not None:
        assert s.place.agreed != decision.target


@given(situations)
def test_no_update_is_sent_without_the_lease_and_a_fresh_look_at_it(s: Situation) -> None:
    decision = decide.decide(s)

    if decision.act is Act.SEND:
        assert s.asked
        assert s.lease is not None
        assert s.lease.version == s.memory.lease != 0


@given(situations)
def test_a_lease_is_written_over_the_version_that_was_read(s: Situation) -> None:
    decision = decide.decide(s)

    if decision.act is Act.LEASE:
        assert s.lease is not None
        assert decision.cas == s.lease.version


@given(situations)
def test_what_waits_says_why(s: Situation) -> None:
    decision = decide.decide(s)

    assert decision.act is Act.STAY or decision.why
