"""One check, effect by effect: what is asked for in which situation, in which order, and what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from endpoint_failover.cycle import (
    FENCE_REPEAT,
    PATIENCE,
    POLLS,
    STEADY,
    Checker,
    Effect,
    Fence,
    Look,
    Looked,
    Memory,
    Pause,
    Publish,
    ReadShared,
    Send,
    Shared,
    Tell,
    WriteLease,
)
from endpoint_failover.model import (
    Alarm,
    Answer,
    Consequence,
    Hold,
    Kind,
    Lease,
    Outcome,
    Phase,
    Reply,
    Standing,
    View,
)
from endpoint_failover.settings import Settings
from endpoint_failover.simulate import SITES, default_settings

NAME, SECOND = "vault.services.test", "secrets.test"
EPOCH = 1_800_000_000.0
OK, DEAD = Outcome(Kind.OK), Outcome(Kind.LOCAL, "refused")
FORBIDDEN = Outcome(Kind.FORWARDED, "HTTP 403")
STANDBY, ACTIVE = Outcome(Kind.WRITE, "no answer", "standby"), Outcome(Kind.WRITE, "HTTP 500", "active")
GOOD = Reply(Consequence.SENT, "good")


@dataclass
class Around:
    """What a checker finds, and a record of what it asks for.

    It answers with what it is told to, whatever is asked: how the parts of the world depend on each other is world.py's.

    Args:
        outcomes: of each site's probe.
        place: what each DNS server says; None: it is silent.
        views: of the other observers: who says that which site is down. Each reading finds a new version.
        silent: observers that write no more.
        holds: site → hold.
        lease: of every name, and its version.
        leased: whether a lease is granted.
        readable: whether the cluster can be read.
        reply: of the DynDNS server.
        arrives: whether an update shows in DNS.
        takes: effect type → seconds.
    """

    outcomes: dict[str, Outcome] = field(default_factory=lambda: dict.fromkeys(SITES, OK))
    place: dict[str, str | None] = field(default_factory=lambda: {"primary": "infn", "secondary": "infn"})
    views: dict[str, set[str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    holds: dict[str, Hold] = field(default_factory=dict)
    lease: tuple[Lease | None, int] = (None, 0)
    leased: bool = True
    readable: bool = True
    reply: Reply = GOOD
    arrives: bool = True
    takes: dict[type, float] = field(default_factory=dict)
    now: float = 1000.0
    reads: int = 0
    effects: list[Effect] = field(default_factory=list)

    def checker(self, observer: str = "iisas", names: int = 1, **changes: Any) -> Checker:
        settings = replace(default_settings(names)[observer], **changes)
        return Checker(settings, Memory(), lambda: self.now)

    def check(self, checker: Checker) -> float:
        """Have a checker make one check; return what it returns. `effects` has what it asked for."""
        self.effects = []
        running, result = checker.check(), None
        while True:
            try:
                effect = running.send(result)
            except StopIteration as end:
                return float(end.value)
            self.effects.append(effect)
            result = self.answer(effect, checker.settings)
            self.now += self.takes.get(type(effect), 0.0)

    def answer(self, effect: Effect, settings: Settings) -> Any:
        result: Any = None
        match effect:
            case Look():
                result = self.look(effect, settings)
            case Publish():
                result = EPOCH + self.now
            case ReadShared():
                result = self.shared(settings, effect) if self.readable else None
            case WriteLease():
                self.lease = (effect.lease, self.lease[1] + 1) if self.leased else self.lease
                result = self.lease[1] if self.leased else 0
            case Send():
                if self.arrives and self.reply is GOOD:
                    self.place = dict.fromkeys(self.place, effect.site)
                result = self.reply
            case Pause():
                self.now += effect.seconds
        return result

    def look(self, effect: Look, settings: Settings) -> Looked:
        found = {site: self.outcomes[site] for site in effect.sites}
        answers = {
            name: tuple(
                Answer(server, error="no answer") if site is None else Answer(server, (settings.sites[site].address,))
                for server, site in self.place.items()
            )
            for name in effect.names
        }
        stamp = EPOCH + self.now if any(each.kind is Kind.OK for each in found.values()) else None
        return Looked({name.name: found for name in settings.names} if effect.sites else {}, answers, stamp)

    def shared(self, settings: Settings, effect: ReadShared) -> Shared:
        self.reads += 1
        views = {}
        for other in settings.others:
            down = self.views.get(other, set())
            standings = {site: Standing.DOWN if site in down else Standing.UP for site in SITES}
            view = View({name.name: standings for name in settings.names})
            views[other] = (view, 1 if other in self.silent else self.reads)
        return Shared(views, dict(self.holds), dict.fromkeys(effect.names, self.lease))

    def pass_checks(self, checker: Checker, number: int) -> list[Effect]:
        """Make checks when they are due; return all that was asked for."""
        found = []
        for _ in range(number):
            began = self.now
            wait = self.check(checker)
            found += self.effects
            self.now = max(self.now, began + wait)
        return found

    def kinds(self) -> list[str]:
        return [type(effect).__name__ for effect in self.effects]


def only(kind: type, effects: Sequence[Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: Sequence[Effect], event: str) -> list[str]:
    return [effect.text for effect in only(Tell, effects) if effect.event == event]


@pytest.fixture
def around() -> Around:
    return Around()


@pytest.fixture
def checker(around: Around) -> Checker:
    """A checker that has seen for a while that all is well."""
    made = around.checker()
    around.pass_checks(made, 20)
    return made


def kill(around: Around, site: str = "infn") -> None:
    """Have a site die; one of the others sees it as well."""
    around.outcomes[site] = DEAD
    around.views = {"infn" if site == "ifca" else "ifca": {site}}


# --- looking


def test_the_first_check_looks_at_everything(around: Around) -> None:
    around.check(around.checker())

    look = only(Look, around.effects)[0]
    assert (look.sites, look.names) == (SITES, (NAME,))


def test_while_all_is_well_only_the_site_with_the_name_is_probed_each_time(around: Around, checker: Checker) -> None:
    looked = [look.sites for look in only(Look, around.pass_checks(checker, 8))]

    assert sum("infn" in sites for sites in looked) == 8
    assert sum("ifca" in sites for sites in looked) == 2  # each idle_interval


def test_while_all_is_well_the_next_check_is_due_after_the_interval(around: Around, checker: Checker) -> None:
    assert around.check(checker) == checker.settings.rules.interval


def test_while_all_is_well_the_cluster_is_asked_once_in_a_while(around: Around, checker: Checker) -> None:
    effects = around.pass_checks(checker, 30)

    assert (len(only(ReadShared, effects)), len(only(Publish, effects))) == (2, 0)  # 60 s


def test_a_surprise_is_compared_with_the_other_sites_at_once(around: Around, checker: Checker) -> None:
    around.outcomes["infn"] = DEAD

    around.check(checker)

    assert {site for look in only(Look, around.effects) for site in look.sites} == set(SITES)


def test_what_is_in_doubt_is_told_and_asked_in_each_check_and_soon_again(around: Around, checker: Checker) -> None:
    around.outcomes["infn"] = DEAD

    wait = around.check(checker)

    assert "Publish" in around.kinds()
    assert "ReadShared" in around.kinds()
    assert wait == checker.settings.rules.retry


def test_the_view_that_is_published_is_from_this_check(around: Around, checker: Checker) -> None:
    around.outcomes["infn"] = DEAD
    around.check(checker)

    assert only(Publish, around.effects)[0].view.standing(NAME, "infn") is Standing.DOUBT


def test_what_was_amiss_for_long_is_looked_at_no_more_often_than_what_is_well(around: Around, checker: Checker) -> None:
    around.outcomes["ifca"] = DEAD
    around.pass_checks(checker, int(PATIENCE) + 10)

    assert around.check(checker) == checker.settings.rules.interval


def test_a_name_that_has_nowhere_to_go_is_not_forgotten_while_nobody_is_on_the_alert(
    around: Around, checker: Checker
) -> None:
    around.holds = {"ifca": Hold()}
    kill(around)

    effects = around.pass_checks(checker, int(PATIENCE) + 60)

    assert sum("has nowhere to go" in text for text in told(effects, "alarm")) == 1
    assert told(effects, "cleared") == []


def test_while_nothing_takes_a_write_the_cluster_is_left_alone(around: Around, checker: Checker) -> None:
    around.outcomes = dict.fromkeys(SITES, STANDBY)

    effects = around.pass_checks(checker, 20)

    assert not only(Publish, effects) + only(ReadShared, effects) + only(WriteLease, effects) + only(Send, effects)


def test_after_a_pause_what_was_well_has_to_be_seen_anew(around: Around, checker: Checker) -> None:
    around.now += checker.settings.rules.view_ttl + 1

    around.check(checker)

    assert checker.view().standing(NAME, "infn") is Standing.DOUBT


def test_after_a_while_without_any_service_what_was_well_has_to_be_seen_anew(around: Around, checker: Checker) -> None:
    around.outcomes = dict.fromkeys(SITES, STANDBY)
    around.pass_checks(checker, 20)
    around.outcomes = dict.fromkeys(SITES, OK)

    around.check(checker)

    assert checker.view().standing(NAME, "ifca") is Standing.DOUBT


def test_the_cluster_s_clock_is_known_from_its_writes(around: Around, checker: Checker) -> None:
    around.check(checker)

    assert checker.memory.cluster_offset == EPOCH


# --- moving


def test_a_move_goes_step_by_step(around: Around, checker: Checker) -> None:
    kill(around)
    around.pass_checks(checker, 2)

    around.check(checker)

    assert around.kinds() == [
        "Look",  # the third failure
        "Publish",
        "ReadShared",
        "WriteLease",
        "Look",  # is it still there?
        "ReadShared",  # is the target still unheld, and do the others still agree?
        "Send",
        "Look",  # has it arrived?
        "Tell",
        "WriteLease",
    ]
    assert told(around.effects, "moved") == [f"{NAME} was moved from infn to ifca: infn is down: refused."]


def test_the_lease_is_written_through_the_target(around: Around, checker: Checker) -> None:
    kill(around)

    leases = only(WriteLease, around.pass_checks(checker, 3))

    assert [(lease.lease.phase, lease.via[0]) for lease in leases] == [(Phase.MOVING, "ifca"), (Phase.DONE, "iisas")]


def test_a_move_is_made_once(around: Around, checker: Checker) -> None:
    kill(around)

    assert len(only(Send, around.pass_checks(checker, 60))) == 1


def test_without_the_others_agreement_nothing_is_moved(around: Around, checker: Checker) -> None:
    around.outcomes["infn"] = DEAD

    assert not only(WriteLease, around.pass_checks(checker, 60))


def test_a_lease_that_is_not_granted_sends_nothing(around: Around, checker: Checker) -> None:
    kill(around)
    around.leased = False

    effects = around.pass_checks(checker, 10)

    assert only(WriteLease, effects)
    assert not only(Send, effects)


@dataclass
class Meanwhile(Around):
    """Something happens while the lease is being written."""

    happens: Any = None

    def answer(self, effect: Effect, settings: Settings) -> Any:
        result = super().answer(effect, settings)
        if isinstance(effect, WriteLease) and effect.lease.phase is Phase.MOVING:
            self.happens(self)
        return result


def meanwhile(happens: Any) -> list[Effect]:
    around = Meanwhile(happens=happens)
    checker = around.checker()
    around.pass_checks(checker, 20)
    kill(around)
    around.pass_checks(checker, 2)
    around.check(checker)
    return around.effects


def test_nothing_is_sent_when_the_target_is_held_meanwhile() -> None:
    effects = meanwhile(lambda around: around.holds.update(ifca=Hold()))

    assert [lease.lease.phase for lease in only(WriteLease, effects)] == [Phase.MOVING, Phase.FAILED]
    assert not only(Send, effects)


def test_nothing_is_sent_when_another_has_moved_it_meanwhile() -> None:
    effects = meanwhile(lambda around: around.place.update(primary="ifca", secondary="ifca"))

    assert [lease.lease.phase for lease in only(WriteLease, effects)] == [Phase.MOVING, Phase.DONE]
    assert not only(Send, effects) + only(Tell, effects)


def test_nothing_is_sent_when_the_others_see_the_site_again_meanwhile() -> None:
    effects = meanwhile(lambda around: around.views.clear())

    assert [lease.lease.phase for lease in only(WriteLease, effects)] == [Phase.MOVING, Phase.FAILED]
    assert not only(Send, effects)


def test_nothing_is_sent_when_the_cluster_cannot_be_read_meanwhile() -> None:
    effects = meanwhile(lambda around: setattr(around, "readable", False))

    assert not only(Send, effects)


def test_nothing_is_sent_when_the_lease_is_another_s_meanwhile() -> None:
    other = Lease("ifca", Phase.MOVING, "infn", "ifca", "because")
    effects = meanwhile(lambda around: setattr(around, "lease", (other, 9)))

    assert not only(Send, effects)


@pytest.mark.parametrize("effect", [Look, ReadShared, WriteLease])
def test_nothing_is_sent_after_standing_still(effect: type, around: Around, checker: Checker) -> None:
    kill(around)
    around.pass_checks(checker, 2)
    around.takes = {effect: checker.settings.rules.view_ttl + 1}

    around.check(checker)

    assert not only(Send, around.effects)


def test_a_view_from_before_standing_still_is_not_published(around: Around, checker: Checker) -> None:
    kill(around)
    around.takes = {Look: checker.settings.rules.view_ttl + 1}

    around.check(checker)

    assert not only(Publish, around.effects)


def test_an_update_that_does_not_arrive_is_looked_for_and_then_left_to_the_next_check(
    around: Around, checker: Checker
) -> None:
    kill(around)
    around.arrives = False
    around.pass_checks(checker, 2)

    around.check(checker)

    assert len(only(Pause, around.effects)) == POLLS
    assert checker.memory.last[NAME] == "the update to ifca is on its way"


def test_an_update_that_arrives_after_it_was_given_up_is_told(around: Around, checker: Checker) -> None:
    kill(around)
    around.arrives = False
    while Phase.FAILED not in [each.lease.phase for each in only(WriteLease, around.effects)]:
        around.pass_checks(checker, 1)
    around.place = dict.fromkeys(around.place, "ifca")

    effects = around.pass_checks(checker, 3)

    assert [each.lease.phase for each in only(WriteLease, effects)] == [Phase.DONE]
    assert told(effects, "moved") == [f"{NAME} was moved from infn to ifca: infn is down: refused."]


def test_an_update_that_is_lost_is_repeated_later_and_later(around: Around, checker: Checker) -> None:
    kill(around)
    around.arrives = False

    effects = around.pass_checks(checker, 300)

    assert 3 <= len(only(Send, effects)) <= 7


def test_an_answer_that_is_an_error_is_not_followed_by_another_update_at_once(around: Around, checker: Checker) -> None:
    kill(around)
    around.reply = Reply(Consequence.STOP, "badauth")

    assert len(only(Send, around.pass_checks(checker, 60))) == 1


def test_another_account_is_tried_at_once_after_a_refusal(around: Around, checker: Checker) -> None:
    kill(around)
    around.reply = Reply(Consequence.STOP, "badauth")
    checker.accounts = {NAME: "old"}
    around.pass_checks(checker, 10)
    checker.accounts = {NAME: "new"}

    assert len(only(Send, around.pass_checks(checker, 10))) == 1


def test_a_lock_is_for_all_names_of_the_domain(around: Around) -> None:
    checker = around.checker(names=2)
    around.pass_checks(checker, 20)
    kill(around)
    around.reply = Reply(Consequence.LOCKED, "dnserr")

    effects = around.pass_checks(checker, 60)

    assert [send.name for send in only(Send, effects)] == [NAME]
    assert checker.memory.last[SECOND] == "dnserr"


def test_a_lock_of_another_service_does_not_matter(around: Around) -> None:
    checker = around.checker(names=2)
    first, second = checker.settings.names
    elsewhere = replace(second, dyndns=replace(second.dyndns, url="https://other.test/nic/update"))
    checker.settings = replace(checker.settings, names=(first, elsewhere))
    around.pass_checks(checker, 20)
    kill(around)
    around.reply = Reply(Consequence.LOCKED, "dnserr")

    effects = around.pass_checks(checker, 60)

    assert [send.name for send in only(Send, effects)] == [NAME, SECOND]


def test_each_name_is_moved_by_itself(around: Around) -> None:
    checker = around.checker(names=2)
    around.pass_checks(checker, 20)
    kill(around)
    around.arrives = False  # else the record of one were that of both here

    effects = around.pass_checks(checker, 20)

    assert {(send.name, send.site) for send in only(Send, effects)} == {(NAME, "ifca"), (SECOND, "ifca")}


def test_an_operator_s_wish_moves_a_name_at_once(around: Around, checker: Checker) -> None:
    checker.wishes = {NAME: "ifca"}
    checker.memory.alert = True  # as the loop does with a wish

    around.check(checker)

    assert [(send.name, send.site) for send in only(Send, around.effects)] == [(NAME, "ifca")]


def test_a_hold_moves_a_name_away_once_it_is_read(around: Around, checker: Checker) -> None:
    around.holds = {"infn": Hold(EPOCH + around.now + 3600, "alice", "new disk")}

    effects = around.pass_checks(checker, 20)

    assert told(effects, "moved") == [f"{NAME} was moved from infn to ifca: infn is held by alice (new disk)."]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(around: Around, checker: Checker) -> None:
    checker.dry_run = True
    kill(around)

    effects = around.pass_checks(checker, 3)

    assert told(effects, "would") == [f"Would move {NAME} to ifca: infn is down: refused."]
    assert not only(WriteLease, effects) + only(Send, effects)


# --- identity


def test_a_broken_identity_is_an_alarm_and_no_failover(around: Around, checker: Checker) -> None:
    around.outcomes = dict.fromkeys(SITES, FORBIDDEN)

    effects = around.pass_checks(checker, 20)

    assert ["does not know this checker" in text for text in told(effects, "alarm")] == [True]
    assert not only(WriteLease, effects) + only(Send, effects) + only(Publish, effects)


# --- the fence


def stall(around: Around, observer: str = "iisas") -> None:
    """Have the node at a site lead and commit nothing."""
    around.outcomes = {site: ACTIVE if site == observer else STANDBY for site in SITES}


def test_a_leader_that_cannot_write_is_stopped(around: Around, checker: Checker) -> None:
    stall(around)

    assert not only(Fence, around.pass_checks(checker, checker.settings.rules.fence_after - 1))
    assert only(Fence, around.pass_checks(checker, 1))


def test_a_fence_is_told(around: Around, checker: Checker) -> None:
    stall(around)

    texts = told(around.pass_checks(checker, 20), "fence")

    assert len(texts) == 1
    assert "Its server is being stopped, so that another takes over." in texts[0]


def test_a_fence_is_not_repeated_for_a_while(around: Around, checker: Checker) -> None:
    stall(around)

    assert len(only(Fence, around.pass_checks(checker, int(FENCE_REPEAT) - 10))) == 1


@pytest.mark.parametrize("third", [DEAD, replace(STANDBY, role="sealed"), replace(STANDBY, role="")])
def test_a_leader_is_not_stopped_when_the_others_are_no_quorum(third: Outcome, around: Around, checker: Checker) -> None:
    stall(around)
    around.outcomes["ifca"] = third

    effects = around.pass_checks(checker, 30)

    assert not only(Fence, effects)
    assert any("It is not stopped: 1 of the others stand by" in text for text in told(effects, "alarm"))


@pytest.mark.parametrize("outcome", [STANDBY, DEAD, OK])
def test_only_our_own_node_that_leads_is_stopped(outcome: Outcome, around: Around, checker: Checker) -> None:
    stall(around, "infn")
    around.outcomes["iisas"] = outcome

    assert not only(Fence, around.pass_checks(checker, 30))


def test_a_leader_through_which_nobody_but_others_can_write_is_not_stopped(around: Around, checker: Checker) -> None:
    around.outcomes["iisas"] = ACTIVE

    assert not only(Fence, around.pass_checks(checker, 30))


def test_a_leader_that_writes_again_in_between_is_not_stopped(around: Around, checker: Checker) -> None:
    for _ in range(4):
        stall(around)
        assert not only(Fence, around.pass_checks(checker, checker.settings.rules.fence_after - 1))
        around.outcomes = dict.fromkeys(SITES, OK)
        around.pass_checks(checker, 1)


def test_without_a_fence_file_it_is_only_told(around: Around) -> None:
    checker = around.checker(fence_file="")
    stall(around)

    effects = around.pass_checks(checker, 30)

    assert not only(Fence, effects)
    assert any("leads the cluster and cannot write" in text for text in told(effects, "alarm"))


def test_a_dry_run_stops_nothing(around: Around, checker: Checker) -> None:
    checker.dry_run = True
    stall(around)

    effects = around.pass_checks(checker, 30)

    assert not only(Fence, effects)
    assert len(told(effects, "would")) == 1


# --- alarms


def test_an_alarm_is_told_once_it_has_lasted(around: Around, checker: Checker) -> None:
    around.place["secondary"] = None

    assert told(around.pass_checks(checker, STEADY - 1), "alarm") == []
    assert told(around.pass_checks(checker, 1), "alarm") == [f"DNS server secondary does not answer for {NAME}."]
    assert told(around.pass_checks(checker, 50), "alarm") == []


def test_the_end_of_an_alarm_is_told_once_it_has_lasted(around: Around, checker: Checker) -> None:
    around.place["secondary"] = None
    around.pass_checks(checker, STEADY)
    around.place["secondary"] = "infn"

    assert told(around.pass_checks(checker, STEADY - 1), "cleared") == []
    assert told(around.pass_checks(checker, 1), "cleared") == [
        f"No longer so: DNS server secondary does not answer for {NAME}."
    ]
    assert told(around.pass_checks(checker, 50), "cleared") == []


def test_what_comes_and_goes_is_not_told_at_each_turn(around: Around, checker: Checker) -> None:
    events = []
    for turn in range(40):
        around.place["secondary"] = None if turn % 4 < 2 else "infn"
        events += only(Tell, around.pass_checks(checker, 1))

    assert events == []


def test_an_alarm_that_goes_on_is_told_again_after_a_while(around: Around) -> None:
    checker = around.checker()
    checker.settings = replace(checker.settings, rules=replace(checker.settings.rules, alarm_repeat=60.0))
    around.pass_checks(checker, 20)
    around.place["secondary"] = None

    assert len(told(around.pass_checks(checker, 60), "alarm")) == 2  # of 120 s


def test_a_checker_that_is_silent_is_told(around: Around, checker: Checker) -> None:
    around.silent = {"ifca"}

    assert told(around.pass_checks(checker, 60), "alarm") == ["The checker at ifca is silent."]


def test_a_site_that_does_not_serve_is_told_with_the_reason(around: Around, checker: Checker) -> None:
    kill(around, "ifca")

    assert told(around.pass_checks(checker, 10), "alarm") == [f"ifca does not serve {NAME}: refused."]


def test_when_no_site_takes_a_write_that_is_told(around: Around, checker: Checker) -> None:
    around.outcomes = dict.fromkeys(SITES, STANDBY)

    assert told(around.pass_checks(checker, 10), "alarm") == ["No site takes a write (no answer); nothing is moved."]


def test_alarms_of_the_run_itself_are_told_too(around: Around, checker: Checker) -> None:
    checker.further = [Alarm("disk", "The disk is full.")]

    assert told(around.pass_checks(checker, 10), "alarm") == ["The disk is full."]


# --- memory


def test_a_snapshot_is_not_changed_by_later_checks(around: Around, checker: Checker) -> None:
    snapshot = checker.memory.snapshot()
    before = repr(snapshot)
    kill(around)

    around.pass_checks(checker, 20)

    assert repr(snapshot) == before


def test_a_checker_that_goes_on_from_a_snapshot_does_the_same(around: Around, checker: Checker) -> None:
    kill(around)
    around.pass_checks(checker, 2)
    other = Checker(checker.settings, checker.memory.snapshot(), checker.clock)

    around.check(other)

    assert "Send" in around.kinds()
