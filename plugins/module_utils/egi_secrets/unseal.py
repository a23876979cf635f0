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

After a rekey a node may want the keys from before it, if it was down meanwhile, and may not tell: the numbers can be the
same. Which of the two sets an attempt is of must be known to the next operator, who sees nothing of it but its nonce. So the
nonce says it: the server draws one for each attempt, and an attempt is begun again until its last bit is the set's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .api import Api, SealStatus, Secret, in_parallel
from .bundle import Bundle, shares_of
from .cluster import NodeState, by_name, observe_nodes, wedged_sentence
from .errors import CeremonyError, NodeError, PgpError, RefusedError, SecretsError, UnreachableError
from .keys import KeySet, Share
from .pgp import Keyrings

UNSEAL_PLAYBOOK = "playbooks/operate/unseal.yml"

_POLL = 0.15
# The last share of a joining node is answered when its retry_join has come round: 2 s, twice for good measure.
_SUBMIT_TIMEOUT = 15.0
# Nonces drawn until one says which set an attempt is of; each does with even chances.
_DRAWS = 40


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
        keys: the keys that it was asked with last; None: it was not asked.
    """

    before: NodeState
    state: NodeState
    threshold: int
    messages: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    disturbed: bool = False
    keys: KeySet | None = None

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
    """The shares that the keyrings at hand can decrypt: once, and only when somebody needs them."""

    def __init__(self, keys: KeySet, homes: list[str], keyrings: Keyrings | None = None) -> None:
        self._keys = keys
        self._homes = homes
        self._keyrings = keyrings
        self._opened: dict[int, Secret] = {}
        self._unopened: dict[int, str] = {}

    @property
    def operators(self) -> list[str]:
        """The operators whose secret key is at hand, of all shares that are."""
        return list(dict.fromkeys(share.operator for share in self._held()))

    @property
    def count(self) -> int:
        """How many shares can be sent: those that can be decrypted, and no more than are needed."""
        return len(self.wanted)

    def open(self) -> list[Secret]:
        """Decrypt those that are wanted, in order.

        Raises:
            PgpError: gpg could not.
        """
        return [self._open(share) for share in self.wanted]

    def open_what_opens(self) -> list[Secret]:
        """Decrypt as many as are needed of those that gpg does decrypt."""
        opened: list[Secret] = []
        for share in self._held():
            if len(opened) < self._keys.threshold and share.index not in self._unopened:
                try:
                    opened.append(self._open(share))
                except PgpError as error:
                    self._unopened[share.index] = str(error)
        return opened

    @property
    def unopened(self) -> list[str]:
        """Sentences, of shares whose key is at hand and which gpg did not decrypt: of a card that is elsewhere by now."""
        return list(self._unopened.values())

    @property
    def wanted(self) -> list[Share]:
        """The shares that can be sent."""
        # A threshold of ours suffices whatever a node has already; each further one could be another PIN to type.
        return self._held()[: self._keys.threshold]

    def _open(self, share: Share) -> Secret:
        if share.index not in self._opened:
            what = f"share {share.index} of {share.operator}"
            self._opened[share.index] = self._rings().decrypt(share.ciphertext, share.fingerprint, what)
        return self._opened[share.index]

    def _held(self) -> list[Share]:
        return shares_of(self._keys, self._rings().homes)

    def beside(self, keys: KeySet) -> ShareBox:
        """Return a box for other keys, of the same keyrings."""
        return ShareBox(keys, self._homes, self._rings())

    def _rings(self) -> Keyrings:
        if self._keyrings is None:
            self._keyrings = Keyrings.open(self._homes)
        return self._keyrings


def mark_of(nonce: str) -> int:
    """Return which of two sets of shares an attempt is of, by its nonce: 0 or 1; pure."""
    return int(nonce[-1:] or "0", 16) & 1


def submit(
    api: Api, shares: list[Secret], status: SealStatus, prepare: Callable[[], None], mark: int | None = None
) -> SubmitResult:
    """Send one node the shares at hand, until it is unsealed or none is left.

    An attempt that fails with somebody else's shares in it is started afresh once, with ours alone.

    Args:
        api: a node that is initialised and sealed.
        shares: ours.
        status: its seal status now.
        prepare: called before a share that may complete the attempt.
        mark: what the nonce of an attempt that we begin must say; None: the node can want one set only.

    Returns:
        What came of it.

    Raises:
        NodeError: the node does not answer, or refuses for a reason other than the key.
    """
    others = status.progress
    try:
        return SubmitResult(_send(api, shares, status, prepare, mark))
    except RefusedError as error:
        if not is_wrong_key(error):
            raise
    fresh = api.reset_unseal()
    if not others:
        return SubmitResult(fresh, wrong=True)
    try:
        return SubmitResult(_send(api, shares, fresh, prepare, mark), afresh=True)
    except RefusedError as error:
        if not is_wrong_key(error):
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


def _send(api: Api, shares: list[Secret], status: SealStatus, prepare: Callable[[], None], mark: int | None) -> SealStatus:
    for share in shares:
        begins, completes = status.progress == 0, status.progress + 1 >= status.threshold
        if completes:
            prepare()
        status = api.submit_share(share, _SUBMIT_TIMEOUT)
        if not status.sealed or (completes and status.progress == 0):
            break  # unsealed, or joining: progress is reset once the key is complete
        if begins and mark is not None:
            for _ in range(_DRAWS):
                if mark_of(status.nonce) == mark:
                    break
                api.reset_unseal()
                status = api.submit_share(share, _SUBMIT_TIMEOUT)
    return status


def is_wrong_key(error: RefusedError) -> bool:
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
        PgpError: shares are at hand, and none of them could be decrypted.
    """
    states = observe_nodes(apis)
    _refuse_hopeless(states)
    box = ShareBox(bundle.keys, homes)
    reports = {
        state.name: NodeReport(state, state, (state.status.threshold if state.status else 0) or bundle.threshold)
        for state in states
    }
    work = _Work(apis, bundle, box, waits, reports, clock, sleep)
    pending = [state for state in states if state.status is not None and state.status.sealed]
    if pending and check_mode:
        work.foretell(states)
    elif pending:
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
    boxes: dict[KeySet, ShareBox] = field(default_factory=dict)

    def unseal(self) -> None:
        """Members first; a node that has not joined needs an unsealed, active one to join."""
        leader = self._active()
        first = [api for api in self.apis if self._is(api, initialized=True)]
        self._open_boxes(first)
        self._each(first, lambda api: self._unseal_member(api, leader))
        joining = [api for api in self.apis if self._is(api, initialized=False)]
        if not joining:
            return
        if not any(self._unsealed(api) for api in self.apis):
            return  # explained in outcome()
        leader = leader or self._await_active()
        if leader is None:
            return
        found = leader
        self._open_boxes(joining)
        self._each(joining, lambda api: self._join_and_unseal(api, found))

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
        messages = list(dict.fromkeys(sentence for box in self.boxes.values() for sentence in box.unopened))
        failures = []
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
        keys = report.keys or self.bundle.candidates(report.state.name)[0]
        ours = self.boxes.setdefault(keys, self.box.beside(keys)).operators
        others = [name for name in keys.operators if name not in ours]
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

    def _open_boxes(self, apis: list[Api]) -> None:
        """Decrypt what these nodes may want, one set after the other: a person may be asked for each.

        A share of one set that does not open, of a card that was replaced in a rekey, is no reason to keep back the others.
        """
        wanted = dict.fromkeys(keys for api in apis for keys in self.bundle.candidates(api.node.name))
        boxes = [self.boxes.setdefault(keys, self.box.beside(keys)) for keys in wanted]
        opened = [box.open_what_opens() for box in boxes]
        unopened = [sentence for box in boxes for sentence in box.unopened]
        if unopened and not any(opened):
            raise PgpError(unopened[0])

    def _candidates(self, api: Api, status: SealStatus) -> list[tuple[int | None, KeySet]]:
        """Return the keys that a node may want, and how an attempt with each is marked: what is under way first."""
        able = [keys for keys in self.bundle.candidates(api.node.name) if keys.numbers == (status.threshold, status.shares)]
        if not able:
            known = sorted({keys.numbers for keys in self.bundle.candidates(api.node.name)})
            told = " or ".join(f"{threshold} of {number}" for threshold, number in known)
            raise NodeError(
                api.node.name,
                f"{api.node.name} is unsealed by {status.threshold} of {status.shares} shares and the bundle has "
                f"{told}: it is another cluster's bundle, or from before a rekey; put this cluster's at "
                "vault_cluster_bundle_file.",
            )
        if len(able) == 1:
            return [(None, able[0])]
        # The set's own mark, not its place here: the likelier one changes when a rekey is settled.
        first = min(able, key=lambda keys: keys.key_id)
        marked: list[tuple[int | None, KeySet]] = [(int(keys != first), keys) for keys in able]
        if status.progress:
            marked.sort(key=lambda each: each[0] != mark_of(status.nonce))
        return marked

    def _unseal_member(self, api: Api, leader: Api | None) -> None:
        status = api.seal_status()
        if not status.sealed:
            return
        report = self.reports[api.node.name]
        candidates = self._candidates(api, status)
        report.keys = candidates[0][1]
        left: list[KeySet] = []
        for number, (mark, keys) in enumerate(candidates, start=1):
            shares = self.boxes.setdefault(keys, self.box.beside(keys)).open_what_opens()
            # An attempt with the other set that is under way is others': who has none of its shares ends it only to open.
            if not shares or (left and status.progress and len(shares) < status.threshold):
                left.append(keys)
                continue
            report.keys = keys
            refused = self._submit_set(api, leader, shares, mark, alone=len(candidates) == 1)
            if not refused:
                return
            if number < len(candidates):
                report.messages.append(
                    f"{api.node.name} was not opened by the shares of one of the two sets that it may want since the rekey "
                    "(or somebody else had sent a wrong one): the other set is being tried. An operator who ran this "
                    "before must run it again."
                )
        if left:
            report.keys = left[0]
            return
        raise NodeError(
            api.node.name,
            f"{api.node.name} does not accept the key that the bundle's shares make: the bundle is another "
            "cluster's, or from before a rekey; put this cluster's at vault_cluster_bundle_file.",
        )

    def _submit_set(self, api: Api, leader: Api | None, shares: list[Secret], mark: int | None, *, alone: bool) -> bool:
        """Send a node the shares of one set, and return whether they are not its key.

        Args:
            api: the node.
            leader: the active node, where there is one.
            shares: of that set.
            mark: how an attempt with that set is marked.
            alone: whether the node can want no other set, so that a failed attempt held somebody else's share.
        """
        report = self.reports[api.node.name]
        status = api.seal_status()

        def prepare() -> None:
            if leader is not None:
                _push(api, leader)

        try:
            result = submit(api, shares, status, prepare, mark)
        except UnreachableError:
            # Where it waits for its join, the join ends that wait; where it was given a wrong key, nothing does.
            self._await_unsealed(api)
            return False
        report.disturbed = report.disturbed or result.afresh
        if result.afresh and alone:
            report.messages.append(
                f"The attempt to unseal {api.node.name} held a share that is not of this cluster (anyone may send "
                "one): it was thrown away with all others, and yours sent again. An operator who ran this before must "
                "run it again."
            )
        if result.wrong:
            return True
        if result.afresh and not alone and result.status.sealed and result.status.progress:
            # The others' shares were of the other set: go on with that one, which the next operator then sees.
            api.reset_unseal()
            return True
        if result.status.sealed and result.status.progress == 0 and len(shares) + status.progress >= status.threshold:
            self._await_unsealed(api)
        return False

    def _join_and_unseal(self, api: Api, leader: Api) -> None:
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
        self._unseal_member(api, leader)

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
