"""Unseal what can be unsealed with the shares at hand, and say what is still missing.

What was found of the real server (OpenBao 2.7.2), and leans on here:

* sys/unseal needs no login, so the attempt under way may hold anybody's rubbish. A share that has been sent cannot be
  looked at again: a foreign one shows only when the attempt is complete and fails, and is then forgotten with the
  others.
* A share that the server already has is not counted twice.
* A node that has not joined says initialized=false until it has a join challenge from the unsealed active node. Its own
  retry_join fetches one every 2 s, and answers it at its next try once the last share is in. A wrong key in that state
  **wedges the node for good**: the request never ends, nothing but sys/health answers, not even SIGTERM ends it.
* POST sys/storage/raft/join just before the last share makes that exchange immediate (1.1 s instead of 4 to 5 s) and
  turns a wrong key into an error. It changes nothing on a node that is a member. So it precedes every attempt that
  could join.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .api import Api, SealStatus, Secret, in_parallel
from .bundle import Bundle, Share, shares_of
from .cluster import NodeState, by_name, observe_nodes, wedged_sentence
from .errors import CeremonyError, NodeError, RefusedError, SecretsError, UnreachableError
from .pgp import Keyrings

UNSEAL_PLAYBOOK = "playbooks/operate/unseal.yml"

_POLL = 0.15
# The last share of a joining node is answered when its retry_join has come round: 2 s, twice for good measure.
_SUBMIT_TIMEOUT = 15.0


@dataclass(frozen=True)
class Waits:
    """How long to wait at most, in s: for a node to join, for it to be unsealed, for an active node to be elected."""

    join: float = 60.0
    unseal: float = 30.0
    leader: float = 30.0


@dataclass
class NodeReport:
    """How one node ended.

    Args:
        state: what it says in the end.
        before: what it said in the beginning.
        threshold: shares that it needs in all.
        missing: shares that it still needs; 0 when unsealed.
        messages: sentences.
        failures: sentences; the run fails when any node has one.
        disturbed: whether an attempt was reset.
    """

    before: NodeState
    state: NodeState
    threshold: int
    messages: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    disturbed: bool = False

    @property
    def progress(self) -> int:
        """Shares received of the attempt under way."""
        return self.state.status.progress if self.state.status else 0

    @property
    def missing(self) -> int:
        """Shares still needed."""
        if self.state.status is not None and not self.state.status.sealed:
            return 0
        return max(self.threshold - self.progress, 0)

    @property
    def changed(self) -> bool:
        """Whether its seal state, its progress or its membership moved."""
        old, new = self.before.status, self.state.status
        if old is None or new is None:
            return False
        return self.disturbed or (old.initialized, old.sealed, old.progress) != (
            new.initialized,
            new.sealed,
            new.progress,
        )

    def result(self) -> dict[str, object]:
        """Return it as the module returns it."""
        return {
            "name": self.state.name,
            "role": self.state.role,
            "initialized": self.state.initialized,
            "sealed": None if self.state.status is None else self.state.status.sealed,
            "progress": self.progress,
            "threshold": self.threshold,
            "missing": self.missing,
        }


@dataclass
class Outcome:
    """What happened: a report a node, sentences for the operator, sentences of failure, the active node's name."""

    nodes: list[NodeReport]
    messages: list[str]
    failures: list[str]
    active: str
    changed: bool


class ShareBox:
    """The shares that the keyrings at hand can decrypt: once, and only when some node needs them."""

    def __init__(self, bundle: Bundle, homes: list[str]) -> None:
        self._bundle = bundle
        self._homes = homes
        self._keyrings: Keyrings | None = None
        self._opened: list[Secret] | None = None

    @property
    def operators(self) -> list[str]:
        """The operators whose secret key is at hand, of all shares that are."""
        return list(dict.fromkeys(share.operator for share in self._held()))

    @property
    def count(self) -> int:
        """How many shares can be sent: those that can be decrypted, and no more than are needed."""
        return len(self._wanted())

    def open(self) -> list[Secret]:
        """Decrypt them.

        Raises:
            PgpError: gpg could not.
        """
        if self._opened is None:
            keyrings = self._rings()
            self._opened = [
                keyrings.decrypt(share.ciphertext, share.fingerprint, f"share {share.index} of {share.operator}")
                for share in self._wanted()
            ]
        return self._opened

    def _wanted(self) -> list[Share]:
        # A threshold of ours suffices whatever a node has already; each further one could be another PIN to type.
        return self._held()[: self._bundle.threshold]

    def _held(self) -> list[Share]:
        return shares_of(self._bundle, self._rings().homes)

    def _rings(self) -> Keyrings:
        if self._keyrings is None:
            self._keyrings = Keyrings.open(self._homes)
        return self._keyrings


def submit(api: Api, shares: list[Secret], status: SealStatus, prepare: Callable[[], None]) -> SubmitResult:
    """Send one node the shares at hand, until it is unsealed or none is left.

    An attempt that fails with somebody else's shares in it is started afresh once, with ours alone.

    Args:
        api: a node that is initialised and sealed.
        shares: ours.
        status: its seal status now.
        prepare: called before a share that may complete the attempt.

    Returns:
        What came of it.

    Raises:
        NodeError: the node does not answer, or refuses for a reason other than the key.
    """
    others = status.progress
    try:
        return SubmitResult(_send(api, shares, status, prepare))
    except RefusedError as error:
        if not _is_wrong_key(error):
            raise
    fresh = api.reset_unseal()
    if not others:
        return SubmitResult(fresh, wrong=True)
    try:
        return SubmitResult(_send(api, shares, fresh, prepare), afresh=True)
    except RefusedError as error:
        if not _is_wrong_key(error):
            raise
    return SubmitResult(api.reset_unseal(), afresh=True, wrong=True)


@dataclass(frozen=True)
class SubmitResult:
    """What came of sending shares.

    Args:
        status: the node's last answer.
        afresh: the attempt held a share that is not of this cluster, and was started again with ours.
        wrong: our own shares, complete, are not this node's key.
    """

    status: SealStatus
    afresh: bool = False
    wrong: bool = False


def _send(api: Api, shares: list[Secret], status: SealStatus, prepare: Callable[[], None]) -> SealStatus:
    for share in shares:
        completes = status.progress + 1 >= status.threshold
        if completes:
            prepare()
        status = api.submit_share(share, _SUBMIT_TIMEOUT)
        if not status.sealed or (completes and status.progress == 0):
            break  # unsealed, or joining: progress is reset once the key is complete
    return status


def _is_wrong_key(error: RefusedError) -> bool:
    """Whether the server says that the completed set of shares is not its key.

    Its words: "failed to decrypt keys from storage: cipher: message authentication failed" (a member), "error
    decrypting challenge: cipher: ..." (a node that is joining), "failed to compute combined key: ..." (shares that do
    not fit each other, such as two of one index), "invalid key: ..." (a share of the wrong length).
    """
    words = " ".join(error.reasons)
    return any(
        sign in words
        for sign in ("message authentication failed", "invalid key", "failed to compute", "decrypting challenge")
    )


def run(
    apis: list[Api],
    bundle: Bundle,
    homes: list[str],
    *,
    waits: Waits,
    check_mode: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Unseal the members of the cluster, then let those that have not joined join and unseal them.

    Args:
        apis: all members of the inventory.
        bundle: the cluster's unseal bundle.
        homes: GnuPG homes with the secret keys at hand, "" for the operator's own.
        waits: bounds of what is waited for.
        check_mode: send nothing and decrypt nothing; say what would be done.
        clock: monotonic time, s.
        sleep: how to wait, s.

    Returns:
        A report a node. Too few shares is a good end, which the messages explain.

    Raises:
        CeremonyError: no node is initialised, or none answers.
        PgpError: a share could not be decrypted.
    """
    states = observe_nodes(apis)
    _refuse_hopeless(states)
    box = ShareBox(bundle, homes)
    reports = {
        state.name: NodeReport(state, state, (state.status.threshold if state.status else 0) or bundle.threshold)
        for state in states
    }
    work = _Work(apis, bundle, box, waits, reports, clock, sleep)
    pending = [state for state in states if state.status is not None and state.status.sealed]
    if pending and check_mode:
        work.foretell(states)
    elif pending and box.count:
        work.unseal()
    if not check_mode:
        work.look_again()
    return work.outcome(check_mode=check_mode)


def _refuse_hopeless(states: list[NodeState]) -> None:
    if all(state.role == "unreachable" for state in states):
        raise CeremonyError("No node answers. " + " ".join(state.problem for state in states))
    if not any(state.initialized for state in states):
        down = [state.name for state in states if state.role == "unreachable"]
        beside = f" {', '.join(down)} did not answer and may be: start it." if down else ""
        raise CeremonyError(f"No node that answers is initialised: playbooks/site.yml initialises the cluster.{beside}")


@dataclass
class _Work:
    """One run: the nodes, the shares, and what has become of each so far."""

    apis: list[Api]
    bundle: Bundle
    box: ShareBox
    waits: Waits
    reports: Mapping[str, NodeReport]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    active: str = ""

    def unseal(self) -> None:
        """Members first; a node that has not joined needs an unsealed, active one to join."""
        shares = self.box.open()
        leader = self._active()
        first = [api for api in self.apis if self._is(api, initialized=True)]
        self._each(first, lambda api: self._unseal_member(api, shares, leader))
        joining = [api for api in self.apis if self._is(api, initialized=False)]
        if not joining:
            return
        if not any(self._unsealed(api) for api in self.apis):
            return  # explained in outcome()
        leader = leader or self._await_active()
        if leader is None:
            return
        found = leader
        self._each(joining, lambda api: self._join_and_unseal(api, shares, found))

    def foretell(self, states: list[NodeState]) -> None:
        """Say what a run without check mode would do."""
        for state in states:
            if state.status is None or not state.status.sealed or not self.box.count:
                continue
            verb = "be sent" if state.initialized else "join once another node is active, and be sent"
            self.reports[state.name].messages.append(
                f"{state.name} would {verb} {self.box.count} of {self.bundle.threshold} shares "
                f"({', '.join(self.box.operators)})."
            )

    def look_again(self) -> None:
        """Bring the reports up to date, and wait for an active node where a majority is unsealed."""
        unsealed = [api for api in self.apis if self._unsealed(api)]
        if 2 * len(unsealed) > len(self.apis):
            leader = self._active() or self._await_active()
            self.active = leader.node.name if leader else ""
            if leader is None:
                names = ", ".join(api.node.name for api in unsealed)
                self.reports[unsealed[0].node.name].failures.append(
                    f"{names} are unsealed and elected no active node within {self.waits.leader:g} s: look at their "
                    "journals; members must reach each other on the cluster port (8201)."
                )
        for name, state in by_name(observe_nodes(self.apis)).items():
            self.reports[name].state = state

    def outcome(self, *, check_mode: bool) -> Outcome:
        """Sum up."""
        messages, failures = [], []
        for report in self.reports.values():
            messages += report.messages
            failures += report.failures
            if report.state.role == "unreachable":
                messages.append(f"{report.state.problem} It was left out; unseal it when it is back ({UNSEAL_PLAYBOOK}).")
            elif report.missing and not report.failures and not (check_mode and self.box.count >= report.missing):
                messages.append(self._missing_sentence(report))
        changed = any(report.changed for report in self.reports.values())
        if check_mode:
            changed = any(report.messages for report in self.reports.values())
        if not self.active:
            self.active = next((r.state.name for r in self.reports.values() if r.state.role == "active"), "")
        return Outcome(list(self.reports.values()), messages, failures, self.active, changed)

    def _missing_sentence(self, report: NodeReport) -> str:
        ours = self.box.operators
        others = [name for name in self.bundle.operators if name not in ours]
        number = f"{report.missing} more share{'s' if report.missing > 1 else ''} of {report.threshold}"
        name = report.state.name
        if not report.state.initialized and not any(each.state.role == "active" for each in self.reports.values()):
            return (
                f"{name} has not joined its cluster: it can once a majority of those that have is unsealed; it then needs "
                f"{report.threshold} shares ({UNSEAL_PLAYBOOK})."
            )
        who = f"{' or '.join(others)} can" if others else "run this again to"
        own = " No secret key at hand is a share-holder's: insert the smart card or set vault_cluster_gnupg_homes."
        beside = "" if ours else own
        return f"{name} needs {number}: {who} supply it by running {UNSEAL_PLAYBOOK}.{beside}"

    def _each(self, apis: list[Api], call: Callable[[Api], None]) -> None:
        for api, result in zip(apis, in_parallel(apis, call), strict=True):
            if isinstance(result, SecretsError):
                self.reports[api.node.name].failures.append(str(result))

    def _unseal_member(self, api: Api, shares: list[Secret], leader: Api | None) -> None:
        status = api.seal_status()
        report = self.reports[api.node.name]
        if not status.sealed:
            return
        if (status.threshold, status.shares) != (self.bundle.threshold, len(self.bundle.shares)):
            raise NodeError(
                api.node.name,
                f"{api.node.name} is unsealed by {status.threshold} of {status.shares} shares and the bundle has "
                f"{self.bundle.threshold} of {len(self.bundle.shares)}: it is another cluster's bundle, or from before "
                "a rekey; put this cluster's at vault_cluster_bundle_file.",
            )

        def prepare() -> None:
            if leader is not None:
                _push(api, leader)

        try:
            result = submit(api, shares, status, prepare)
        except UnreachableError:
            # Where it waits for its join, the join ends that wait; where it was given a wrong key, nothing does.
            self._await_unsealed(api)
            return
        report.disturbed = report.disturbed or result.afresh
        if result.afresh:
            report.messages.append(
                f"The attempt to unseal {api.node.name} held a share that is not of this cluster (anyone may send "
                "one): it was thrown away with all others, and yours sent again. An operator who ran this before must "
                "run it again."
            )
        if result.wrong:
            raise NodeError(
                api.node.name,
                f"{api.node.name} does not accept the key that the bundle's shares make: the bundle is another "
                "cluster's, or from before a rekey; put this cluster's at vault_cluster_bundle_file.",
            )
        if result.status.sealed and result.status.progress == 0 and len(shares) + status.progress >= status.threshold:
            self._await_unsealed(api)

    def _join_and_unseal(self, api: Api, shares: list[Secret], leader: Api) -> None:
        deadline = self.clock() + self.waits.join
        pushed = -float("inf")
        reason = ""
        while not api.seal_status().initialized:
            if self.clock() > deadline:
                raise NodeError(
                    api.node.name,
                    f"{api.node.name} did not join the cluster of {leader.node.name} within {self.waits.join:g} "
                    f"s{reason}: look at its journal; it must resolve and reach {leader.node.url} and trust its "
                    "certificate (retry_join).",
                )
            if self.clock() - pushed > 2:  # noqa: PLR2004  # its own retry_join tries as often
                pushed = self.clock()
                reason = _push(api, leader)
            else:
                self.sleep(_POLL)
        self._unseal_member(api, shares, leader)

    def _await_unsealed(self, api: Api) -> None:
        deadline = self.clock() + self.waits.unseal
        while True:
            try:
                if not api.seal_status().sealed:
                    return
            except UnreachableError:
                if self.clock() > deadline:
                    raise NodeError(api.node.name, wedged_sentence(api.node.name)) from None
            if self.clock() > deadline:
                raise NodeError(
                    api.node.name,
                    f"{api.node.name} has all its shares and is still sealed after {self.waits.unseal:g} s: look at "
                    "its journal; a node that joins must reach the active one on the cluster port (8201).",
                )
            self.sleep(_POLL)

    def _active(self) -> Api | None:
        roles = in_parallel(self.apis, lambda api: api.health().role)
        return next((api for api, role in zip(self.apis, roles, strict=True) if role == "active"), None)

    def _await_active(self) -> Api | None:
        deadline = self.clock() + self.waits.leader
        while (leader := self._active()) is None and self.clock() < deadline:
            self.sleep(_POLL)
        return leader

    def _is(self, api: Api, *, initialized: bool) -> bool:
        status = self.reports[api.node.name].before.status
        return status is not None and status.sealed and status.initialized == initialized

    def _unsealed(self, api: Api) -> bool:
        try:
            return not api.seal_status().sealed
        except SecretsError:
            return False


def _push(api: Api, leader: Api) -> str:
    """Have the node fetch its challenge now, and return "", or why not: its own retry_join then still will."""
    try:
        api.join(leader.node)
    except NodeError as error:
        return f" ({str(error).rstrip('.')})"
    return ""
