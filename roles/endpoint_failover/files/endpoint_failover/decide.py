"""The decision: a pure function of what the observers saw, what is remembered, and now.

Nothing here reads a clock, a file or the network. docs/failover.md says the same in plain words, with the invariants that
tests/unit/endpoint_failover/simulation holds it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from .model import (
    NEVER,
    NO_RECORD,
    Act,
    Alarm,
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
from .settings import Name, Rules

T = TypeVar("T")

# The DynDNS server refuses the whole domain for 120 s after it could not update the primary (FACTS: nsupdate.info).
LOCK = 125.0
# A refusal (password, host, abuse) is for a person to mend; asking more often makes it worse.
STOPPED = 900.0
# While the primary is silent an update would only bring about that lock. After so long, perhaps only we cannot reach it.
PRIMARY_PATIENCE = 120.0
RETRY_LEAST, RETRY_MOST = 2.0, 60.0
LOST_LEAST, LOST_MOST = 5.0, 300.0
RATE_WINDOW = 600.0
# The lease's holder stops this long before others may take it, for an update that is still on its way.
LEASE_MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision about one name is made of.

    Args:
        name: settings of the name.
        rules: thresholds.
        observer: who decides.
        sites: all sites.
        now: this host's monotonic clock, s.
        cluster_now: the cluster's clock, s since the epoch; what holds are measured by.
        own: own history of each site, this check included.
        outcomes: what this check found; a site that it did not probe is missing.
        place: where the DNS servers say that the name is.
        memory: what is remembered of it.
        asked: whether the cluster was asked in this check for views, holds and the lease.
        views: the other observers' views, as watched.
        holds: sites that are held.
        lease: the name's lease, as watched; None where the cluster could not be asked.
        account: fingerprint of the DynDNS account.
        wish: where an operator at this site wants the name; empty otherwise.
    """

    name: Name
    rules: Rules
    observer: str
    sites: tuple[str, ...]
    now: float
    cluster_now: float
    own: Mapping[str, Score]
    outcomes: Mapping[str, Outcome]
    place: Place
    memory: NameMemory
    asked: bool = False
    views: Mapping[str, Watched[View]] = field(default_factory=dict)
    holds: Mapping[str, Hold] = field(default_factory=dict)
    lease: Watched[Lease] | None = None
    account: str = ""
    wish: str = ""


def score(old: Mapping[str, Score], outcomes: Mapping[str, Outcome], rules: Rules, now: float) -> dict[str, Score]:
    """Return the histories after one more check.

    A check in which no site serves is no proof against any: the cluster elects a leader, or we are cut off. Then only a
    fault of the site itself counts, and never so far that the site is down: two more failures while another site serves
    are needed for that.

    Args:
        old: history of each site.
        outcomes: of the sites that were probed.
        rules: `fall` and `rise`.
        now: monotonic time, s.
    """
    somewhere = any(outcome.serves for outcome in outcomes.values())
    cut_off = all(outcome.kind is Kind.LOCAL for outcome in outcomes.values())
    new = dict(old)
    for site, outcome in outcomes.items():
        before = old.get(site, Score())
        if outcome.serves:
            new[site] = _succeeded(before, rules, now)
        elif somewhere:
            new[site] = _failed(before, before.fails + 1, outcome.why, rules, now)
        elif outcome.kind is Kind.LOCAL and not cut_off:
            fails = max(before.fails, min(before.fails + 1, rules.fall - 2))
            new[site] = _failed(before, fails, outcome.why, rules, now)
        else:
            new[site] = replace(before, why=outcome.why)
    return new


def _succeeded(before: Score, rules: Rules, now: float) -> Score:
    oks = before.oks + 1
    if oks >= rules.rise and before.serving is not True:
        return Score(oks=oks, serving=True, since=now)
    return Score(oks=oks, serving=before.serving, since=before.since, why=before.why)


def _failed(before: Score, fails: int, why: str, rules: Rules, now: float) -> Score:
    if fails >= rules.fall and before.serving is not False:
        return Score(fails=fails, serving=False, since=now, why=why)
    return replace(before, fails=fails, oks=0, why=why)


def forget(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return histories after a pause of the checker: what was in a row is no longer."""
    return {site: replace(each, fails=0, oks=0, serving=None) for site, each in scores.items()}


def distrust(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return histories after a while in which no site served us: which are well has to be seen anew."""
    return {site: replace(each, oks=0, serving=None) if each.serving else each for site, each in scores.items()}


def standing(history: Score, rules: Rules) -> Standing:
    """Return how a site stands with an observer that has seen this of it."""
    if history.fails >= rules.fall:
        return Standing.DOWN
    if history.serving is True and history.fails == 0:
        return Standing.UP
    return Standing.DOUBT


def place_of(answers: tuple[Answer, ...], site_of: Mapping[str, str], primary: str) -> Place:
    """Return where a name is by what the DNS servers said.

    Args:
        answers: of all servers.
        site_of: address → site.
        primary: which server is the zone's primary; empty: none of them.
    """

    def where(answer: Answer) -> str:
        if not answer.addresses:
            return NO_RECORD
        return ", ".join(site_of.get(address, address) for address in answer.addresses)

    return Place(
        primary=next((where(each) for each in answers if each.server == primary and not each.error), None),
        places=tuple(where(answer) for answer in answers if not answer.error),
        silent=tuple(answer.server for answer in answers if answer.error),
    )


def watch(old: Watched[T] | None, value: T | None, version: int, now: float) -> Watched[T]:
    """Return a key as watched, after one more reading of it.

    Args:
        old: as watched before; None: read for the first time.
        value: what it holds now.
        version: its version in the KV store; 0 where there is none.
        now: just before it was read, monotonic, s.
    """
    if old is None:
        return Watched(value, version, changed_after=NEVER, seen_since=now, read_at=now)
    if version == old.version:
        return replace(old, value=value, read_at=now)
    return Watched(value, version, changed_after=old.read_at, seen_since=now, read_at=now)


def is_fresh(watched: Watched[View], rules: Rules, now: float) -> bool:
    """Whether the observer has surely written within `view_ttl`."""
    return watched.value is not None and now - watched.changed_after <= rules.view_ttl


def is_stale(watched: Watched[View], rules: Rules, now: float) -> bool:
    """Whether the observer has surely not written for `view_ttl`, or never."""
    if now - watched.read_at > rules.view_ttl:
        return False
    return watched.value is None or watched.read_at - watched.seen_since >= rules.view_ttl


def is_held(site: str, holds: Mapping[str, Hold], cluster_now: float) -> bool:
    """Whether a site is held now."""
    hold = holds.get(site)
    return hold is not None and (hold.until == 0 or hold.until > cluster_now)


def is_down(s: Situation, site: str) -> bool:
    """Whether a majority of the observers that count has seen a site fail `fall` times in a row.

    An observer of which we do not know yet whether it is alive counts, and does not vote: else whoever looks first would be
    a majority by itself. One that is surely dead does not count.
    """
    down = standing(s.own.get(site, Score()), s.rules) is Standing.DOWN
    votes, counted = int(down), 1
    for watched in s.views.values():
        if is_stale(watched, s.rules, s.now):
            continue
        counted += 1
        if watched.value is not None and is_fresh(watched, s.rules, s.now):
            votes += watched.value.standing(s.name.name, site) is Standing.DOWN
    return 2 * votes > counted


def is_eligible(s: Situation, site: str) -> bool:
    """Whether a name may be moved to a site: unheld, serving in this check, and not down in the eyes of a majority."""
    outcome = s.outcomes.get(site)
    return (
        outcome is not None
        and outcome.serves
        and s.own.get(site, Score()).serving is True
        and not is_held(site, s.holds, s.cluster_now)
        and not is_down(s, site)
    )


def decide(s: Situation) -> Decision:
    """Decide what is to be done with a name now.

    Args:
        s: everything that it depends on.

    Returns:
        The next step. After LEASE, SEND and RELEASE the caller tells what came of it (`after_lease`, `after_send`,
        `after_release`), asks the DNS servers and the cluster again, and decides anew.
    """
    s = _remembering(s, _remember_lease(s))
    memory = s.memory
    if not s.place.places:
        alarm = Alarm(
            f"dns {s.name.name}", f"No DNS server of {s.name.name} answers: nobody can tell where it is, so it stays."
        )
        return Decision(Act.WAIT, "no DNS server answers", memory, alarms=(alarm,))
    if memory.target and s.place.agreed == memory.target:
        return _arrived(s)
    if memory.sent_at is not None:
        return _await_arrival(s)

    uneven_since = _uneven_since(s)
    if uneven_since != memory.uneven_since:
        s = _remembering(s, replace(memory, uneven_since=uneven_since))
    alarms = _dns_alarms(s)
    trouble, why = _trouble(s)
    if trouble != memory.trouble:
        s = _remembering(s, replace(s.memory, trouble=trouble, trouble_since=s.now))
    memory = s.memory
    if not trouble:
        if memory.lease:
            return _release(s, Phase.FAILED, "no longer needed", alarms)
        return Decision(Act.STAY, "", replace(memory, target="") if memory.target else memory, alarms=alarms)
    return _mend(s, why, alarms)


def _remembering(s: Situation, memory: NameMemory) -> Situation:
    return s if memory is s.memory else replace(s, memory=memory)


def _remember_lease(s: Situation) -> NameMemory:
    """Return the memory, without a lease that somebody else has meanwhile."""
    if s.memory.lease and s.lease is not None and s.lease.version != s.memory.lease:
        return replace(s.memory, lease=0)
    return s.memory


def _arrived(s: Situation) -> Decision:
    memory = s.memory
    late = not memory.lease and memory.tries > 0
    if late and not s.asked:
        return Decision(Act.ASK, f"it has come to {memory.target} after all", memory)
    version = s.lease.version if late and s.lease is not None and _gave_up(s, s.lease.value) else memory.lease
    # Without the lease it was another observer who moved it there.
    change = Change(memory.source, memory.target, memory.why, s.cluster_now) if version and memory.sends else None
    rested = replace(
        memory,
        trouble="",
        target="",
        source="",
        sent_at=None,
        tries=0,
        not_before=NEVER,
        wait="",
        lock=0.0,
        blocked="",
        uneven_since=None,
        last=change or memory.last,
    )
    if not version:
        return Decision(Act.STAY, "", rested, arrived=change)
    done = Lease(s.observer, Phase.DONE, memory.source, memory.target, memory.why, at=s.cluster_now)
    return Decision(Act.RELEASE, "arrived", rested, lease=done, cas=version, arrived=change)


def _gave_up(s: Situation, lease: Lease | None) -> bool:
    """Whether the name's last lease says that this move failed, by us: nobody has had another since."""
    return lease is not None and (lease.holder, lease.phase, lease.target) == (s.observer, Phase.FAILED, s.memory.target)


def _uneven_since(s: Situation) -> float | None:
    if s.place.agreed is not None:
        return None
    return s.now if s.memory.uneven_since is None else s.memory.uneven_since


def _dns_alarms(s: Situation) -> tuple[Alarm, ...]:
    found = [
        Alarm(f"dns {s.name.name} {server}", f"DNS server {server} does not answer for {s.name.name}.")
        for server in s.place.silent
    ]
    since = s.memory.uneven_since
    if since is not None and s.now - since >= s.rules.settle:
        found.append(
            Alarm(
                f"dns {s.name.name} differ",
                f"The DNS servers of {s.name.name} differ ({'; '.join(s.place.places)}) for {s.rules.settle:g} s: "
                "see whether the secondary gets transfers from the primary.",
            )
        )
    return tuple(found)


def _fault(s: Situation, place: str) -> tuple[str, str]:
    """Return why a name should not be at a place: kind and words, both empty where it may."""
    if place == NO_RECORD:
        return "no record", "it has no address record"
    if place not in s.sites:
        return "foreign", f"{place} is no site's address"
    if place not in s.name.candidates:
        return "no candidate", f"{place} is no candidate"
    if is_held(place, s.holds, s.cluster_now):
        hold = s.holds[place]
        return "held", f"{place} is held" + (f" by {hold.by}" if hold.by else "") + (f" ({hold.why})" if hold.why else "")
    if is_down(s, place):
        return "down", f"{place} is down: {s.own.get(place, Score()).why or 'in the eyes of the others'}"
    return "", ""


def _trouble(s: Situation) -> tuple[str, str]:
    """Return why the name should not stay where it is, as kind and words; empty where it should."""
    faults = {place: _fault(s, place) for place in s.place.places}
    if s.place.agreed is None:
        bad = [fault for fault in faults.values() if fault[0]]
        # Where the primary is right, an update changes nothing: the secondary has to get there by itself.
        if not bad or (s.place.primary is not None and not faults[s.place.primary][0]):
            return _wished(s)
        return "uneven", f"the DNS servers differ ({'; '.join(s.place.places)}), and {bad[0][1]}"
    fault = faults[s.place.agreed]
    return fault if fault[0] else _wished(s)


def _wished(s: Situation) -> tuple[str, str]:
    if s.wish and s.place.agreed not in (None, s.wish):
        return "wish", f"an operator wants it at {s.wish}"
    return "", ""


def _patience(s: Situation) -> float:
    """Return for how long, in s, a trouble must have lasted before something is done about it."""
    if s.memory.trouble == "uneven":
        return s.rules.settle
    if s.memory.trouble in ("down", "held", "wish"):
        return 0.0  # down has lasted for `fall` checks; the others are said, not seen
    return (s.rules.fall - 1) * s.rules.retry


def _mend(s: Situation, why: str, alarms: tuple[Alarm, ...]) -> Decision:
    """Move the name, as far as that can be done now."""
    target, key, obstacle = _target(s), "", ""
    if s.now - s.memory.trouble_since < _patience(s):
        obstacle = f"{why}; not for long yet"
    elif not target:
        key, obstacle = "nowhere", f"{why}, and no other candidate serves unheld"
    elif not s.asked:
        return Decision(Act.ASK, why, s.memory, alarms=alarms)
    elif s.lease is None:
        obstacle = f"{why}; the cluster cannot be asked"
    else:
        key, obstacle = "stuck", _obstacle(s)
    if not obstacle and s.lease is not None:
        return _next_step(s, target, why, s.lease, alarms)
    if key:
        text = f"{s.name.name} {f'cannot be moved although {why}' if key == 'stuck' else 'has nowhere to go'}: {obstacle}."
        alarms = (*alarms, Alarm(f"{key} {s.name.name}", text))
    if s.memory.lease and s.lease is not None:
        return _release(s, Phase.FAILED, obstacle, alarms)
    return Decision(Act.WAIT, obstacle, s.memory, alarms=alarms)


def _target(s: Situation) -> str:
    """Return the site to go to; empty where there is none."""
    if s.memory.trouble == "wish":
        return s.wish if s.wish in s.name.candidates and is_eligible(s, s.wish) else ""
    # Where DNS servers differ, one that some of them name already is nearest.
    order = sorted(s.name.candidates, key=lambda site: site not in s.place.places)
    return next((site for site in order if is_eligible(s, site)), "")


def _await_arrival(s: Situation) -> Decision:
    """Wait for an update that was sent, even when it is not needed any more: it may arrive at any time."""
    memory = s.memory
    if memory.sent_at is not None and s.now - memory.sent_at < s.rules.verify:
        return Decision(Act.WAIT, f"the update to {memory.target} is on its way", memory)
    tries = memory.tries + 1
    lost = replace(
        memory,
        sent_at=None,
        tries=tries,
        not_before=s.now + _back_off(tries, LOST_LEAST, LOST_MOST),
        wait=f"the update to {memory.target} was taken and did not arrive at the DNS servers",
        lock=0.0,
    )
    if lost.lease:
        return _release(replace(s, memory=lost), Phase.FAILED, lost.wait, ())
    return Decision(Act.WAIT, lost.wait, lost)


def _obstacle(s: Situation) -> str:
    """Return why no update may be sent now; empty where one may."""
    memory = s.memory
    if s.now < memory.not_before and not (memory.blocked and memory.blocked != s.account):
        return memory.wait
    if s.name.primary in s.place.silent and s.now - memory.trouble_since < PRIMARY_PATIENCE:
        return "the primary DNS server does not answer, and an update now would lock the domain"
    lease = s.lease
    if lease is not None and lease.value is not None and lease.value.lock > s.now - lease.seen_since:
        return f"{lease.value.holder} was told that the DynDNS server is locked"
    if sum(s.now - sent < RATE_WINDOW for sent in memory.sends) >= s.rules.max_sends:
        return f"{s.rules.max_sends} updates were sent within {RATE_WINDOW / 60:g} minutes"
    return ""


def _next_step(s: Situation, target: str, why: str, lease: Watched[Lease], alarms: tuple[Alarm, ...]) -> Decision:
    memory = s.memory
    ours = memory.lease != 0 and memory.target == target
    in_time = s.now - memory.leased_at < s.rules.lease_time - s.rules.dyndns_timeout - LEASE_MARGIN
    if ours and in_time:
        return Decision(Act.SEND, why, memory, target=target, alarms=alarms)
    value = lease.value
    taken = (
        value is not None
        and value.phase is Phase.MOVING
        and value.holder != s.observer
        and s.now - lease.seen_since < s.rules.lease_time
    )
    if taken and value is not None:
        return Decision(Act.WAIT, f"{value.holder} is moving it to {value.target}", memory, alarms=alarms)
    source = s.place.primary or s.place.places[0]
    wanted = Lease(s.observer, Phase.MOVING, source, target, why, at=s.cluster_now)
    return Decision(Act.LEASE, why, memory, target=target, lease=wanted, cas=lease.version, alarms=alarms)


def _release(s: Situation, phase: Phase, why: str, alarms: tuple[Alarm, ...]) -> Decision:
    memory = s.memory
    lease = Lease(s.observer, phase, memory.source, memory.target, why, lock=memory.lock, at=s.cluster_now)
    return Decision(Act.RELEASE, why, memory, lease=lease, cas=memory.lease, alarms=alarms)


def after_lease(memory: NameMemory, decision: Decision, version: int, asked_at: float) -> NameMemory:
    """Return the memory after a lease was asked for.

    Args:
        memory: before.
        decision: the LEASE that was carried out.
        version: what the lease has now; 0 where we did not get it, or do not know.
        asked_at: monotonic time just before the request was sent.
    """
    if not version or decision.lease is None:
        return replace(memory, lease=0)
    return replace(
        memory,
        lease=version,
        leased_at=asked_at,
        target=decision.target,
        source=decision.lease.source,
        why=decision.lease.why,
        sent_at=None,
    )


def after_send(memory: NameMemory, reply: Reply, now: float, account: str) -> NameMemory:
    """Return the memory after an update was sent.

    Args:
        memory: before.
        reply: what the DynDNS server said.
        now: monotonic time, s.
        account: fingerprint of the account that was used.
    """
    sends = (*(sent for sent in memory.sends if now - sent < RATE_WINDOW), now)
    memory = replace(memory, sends=sends, lock=0.0, blocked="")
    tries = memory.tries + 1
    match reply.consequence:
        case Consequence.SENT | Consequence.UNCHANGED:
            return replace(memory, sent_at=now, wait="", not_before=NEVER)
        case Consequence.LOCKED:
            return replace(memory, sent_at=None, tries=tries, not_before=now + LOCK, wait=reply.text, lock=LOCK)
        case Consequence.STOP:
            return replace(memory, sent_at=None, tries=tries, not_before=now + STOPPED, wait=reply.text, blocked=account)
        case Consequence.RETRY:
            back_off = _back_off(tries, RETRY_LEAST, RETRY_MOST)
            return replace(memory, sent_at=None, tries=tries, not_before=now + back_off, wait=reply.text)


def after_lock(memory: NameMemory, reply: Reply, now: float) -> NameMemory:
    """Return the memory after the DynDNS server locked the domain for the sake of another name in it.

    Args:
        memory: before.
        reply: what it said.
        now: monotonic time, s.
    """
    return replace(memory, not_before=max(memory.not_before, now + LOCK), wait=reply.text)


def after_release(memory: NameMemory) -> NameMemory:
    """Return the memory after the lease was given back, or was seen to be another's."""
    return replace(memory, lease=0)


def _back_off(tries: int, least: float, most: float) -> float:
    """Return how long to wait after `tries` failures in a row, s: doubling from `least` to `most`."""
    return min(most, least * 2.0 ** min(tries - 1, 16))
