"""Deal the unseal keys anew, in steps between which the bundle goes to every node.

    begin   an attempt is under way at the server, and the bundle says that it is ours
    give    old shares are given to it; the answer to the last one holds the new shares, encrypted, and goes into the bundle
    verify  new shares are given, all but the one that puts them in force; the bundle then says that this one may be given
    close   it is given, and the bundle takes the new keys up

Whoever runs the steps gives the shares that they can decrypt; the next operator's run goes on. Killed anywhere, the old keys
stay in force until the last share of `close` is in, and a run that finds the bundle closing finds out whether it was.
"""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .. import bundle as bundles
from .. import initialise, proving
from ..api import Api
from ..bundle import Bundle
from ..errors import BundleError, CeremonyError
from ..keys import Holder, KeySet, Ours, Pending, Previous, Retired, Share
from ..pgp import PublicKey
from ..preflight import Operator, check_keys
from ..products import AUDIT_LOG, Product
from ..unseal import ShareBox
from . import session
from .rekey_plan import Decision, Wanted, decide, wants
from .rekey_server import Attempt, Given, RekeyServer

PLAYBOOK = "playbooks/operate/rekey.yml"
Step = Literal["begin", "give", "verify", "close"]


@dataclass(frozen=True)
class Request:
    """What an operator asks for.

    Attributes:
        operators: who is to hold shares.
        threshold: how many are to be needed.
        key_min_days: days that a key must stay valid.
        bundle_file: the controller's copy of the bundle.
        gnupg_homes: keyrings at hand.
        anew: deal new shares even where the inventory wants what there is.
    """

    operators: list[Operator]
    threshold: int
    key_min_days: float
    bundle_file: str
    gnupg_homes: list[str]
    anew: bool


@dataclass
class Outcome:
    """What happened: the bundle as it is now, what it was, sentences for the operator, and what was replaced last."""

    bundle: Bundle
    before: Bundle
    changed: bool = False
    messages: list[str] = field(default_factory=list)
    retired: Bundle | None = None


def run(
    params: Mapping[str, Any], product: Product, apis: list[Api], request: Request, step: Step, *, check_mode: bool
) -> Outcome:
    """Go one step.

    Args:
        params: a module's, with `session.LOGIN`.
        product: what the nodes run.
        apis: all members of the inventory.
        request: what is asked for.
        step: which.
        check_mode: look, and say what would be done.

    Raises:
        CeremonyError: refused; the old shares are valid, unless the message says otherwise.
        SecretsError: as in the steps.
    """
    path = Path(request.bundle_file).expanduser()
    bundle = bundles.require(request.bundle_file)
    keys = initialise.load_keys(initialise.Plan("", request.operators, request.threshold, request.operators[0].name))
    wanted = _wanted(request, keys)
    node = session.leader_of(apis)[0]
    leader = next(api for api in apis if api.node.name == node.name)
    with session.as_operator(params, node) as server:
        rekey = RekeyServer(server, product)
        attempt = rekey.attempt()
        status = leader.seal_status()
        decision = decide(bundle, wanted, attempt, (status.threshold, status.shares))
        outcome = Outcome(bundle, bundle)
        if step == "begin" and decision.do == "begin":
            _refuse_unfit(request, bundle)
        work = _Work(path, request, keys, wanted, apis, leader, rekey, outcome)
        if check_mode:
            work.foretell(decision)
        else:
            bundles.prepare_directory(path)
            work.go(step, decision, attempt)
        if step == "begin" and outcome.retired is None:
            work.keep_retired()
    return outcome


def _wanted(request: Request, keys: Mapping[str, PublicKey]) -> Wanted:
    holders = tuple(Holder(name, keys[name].fingerprint) for name in initialise.holders(request.operators))
    return Wanted(request.threshold, holders, request.anew)


def _refuse_unfit(request: Request, bundle: Bundle) -> None:
    """Refuse what would be regretted before anything has begun: a bad key shows only when the last share is in."""
    _, unfit, wrong = check_keys(request.operators, request.key_min_days, datetime.datetime.now(datetime.UTC))
    if unfit or wrong:
        raise CeremonyError(" ".join([*wrong, *unfit, "No rekey was begun; the old shares are valid."]))
    if bundle.previous is not None:
        raise CeremonyError(
            f"{', '.join(bundle.previous.unproven)} may still want the keys from before the last rekey, so no other is "
            "begun: start that node, open it (playbooks/operate/unseal.yml), and run this again when it has caught up. A "
            "node that is gone for good leaves the inventory first."
        )


@dataclass
class _Work:
    """One step: what it works with, and what has come of it so far."""

    path: Path
    request: Request
    keys: Mapping[str, PublicKey]
    wanted: Wanted
    apis: list[Api]
    leader: Api
    server: RekeyServer
    outcome: Outcome
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def bundle(self) -> Bundle:
        """The bundle as it is now."""
        return self.outcome.bundle

    @property
    def pending(self) -> Pending:
        """The rekey under way."""
        if self.bundle.pending is None:
            raise CeremonyError("The bundle tells of no rekey under way: run this again.")  # decide() never asks for this
        return self.bundle.pending

    def foretell(self, decision: Decision) -> None:
        """Say what would be done."""
        told = {
            "nothing": "The keys are as the inventory wants them.",
            "begin": f"New shares would be dealt: {self.wanted.threshold} of {len(self.wanted.holders)}.",
            "give": "Shares of this keyboard would be given to the rekey under way.",
            "verify": "New shares of this keyboard would be given to verify them.",
            "begin proof": "Which shares are in force would be found out, with a threshold of them.",
            "prove": "Shares of this keyboard would be given to find out which ones are in force.",
            "switch": "The new shares are in force: the bundle would say so.",
        }
        self.outcome.changed = decision.do != "nothing" or decision.cancel
        self.outcome.messages += [each for each in (decision.why, told[decision.do]) if each]

    def go(self, step: Step, decision: Decision, attempt: Attempt | None) -> None:
        """Do what is next, if it is this step's."""
        if step == "begin":
            self._begin(decision)
        elif step == "give" and decision.do == "give" and attempt:
            self._give(attempt)
        elif step == "give" and decision.do == "prove" and attempt:
            self._prove(attempt)
        elif step == "verify" and decision.do == "verify" and attempt:
            self._verify(attempt)
        elif step == "close" and decision.do == "verify" and attempt:
            self._close(attempt)
        elif step == "close" and decision.do in ("begin", "begin proof", "switch") and self.bundle.pending is not None:
            # It was not so at the first step. A node that leads again has the attempt that it had when it led before.
            why = "The server has another attempt than this run began with." if decision.cancel else decision.why
            if decision.do == "switch":
                why = "The new shares are in force, and the bundle is still to say so."
            self.outcome.messages.append(f"{why} Run {PLAYBOOK} again.")

    def keep_retired(self) -> None:
        """Return what was replaced last once more: the run that did it may have been cut off before every node had it."""
        if not self.bundle.replaces:
            return
        key_id = self.bundle.replaces[-1].bundle_id
        place = bundles.retired_file(self.path, key_id)
        previous = self.bundle.previous
        try:
            found = bundles.read(place)
        except BundleError:
            found = None
            self.outcome.messages.append(
                f"{place} has the shares that older snapshots want, and cannot be read or is damaged: replace it by the "
                "file of that name of a node or of another operator's controller."
            )
        if found is not None and found.bundle.bundle_id == key_id:
            kept = found.bundle
        elif previous is not None and previous.keys.key_id == key_id:
            kept = replace(self.bundle, threshold=previous.threshold, shares=previous.shares)
        else:
            return  # this controller had no part in that rekey; those that had return it
        # The same text from every controller, whatever it knew of the root token when it put the file aside.
        self.outcome.retired = bundles.mark_revoked(_bare(kept), self.bundle.root_token.revoked_at)

    def _begin(self, decision: Decision) -> None:
        if decision.why:
            self.outcome.messages.append(decision.why)
        if decision.cancel:
            self.server.cancel()
            self.outcome.changed = True
        if decision.do == "begin":
            self._write(pending=Pending(self._attempt(), _now()))
        elif decision.do == "begin proof":
            # A set of other numbers than the server asks for might never be complete.
            first = "new" if self.pending.keys.numbers == self.bundle.keys.numbers else "old"
            self._write(pending=replace(self.pending, proof=self._attempt(), proving=self.pending.proving or first))
        elif decision.do == "switch":
            self._switch()
        elif decision.do == "nothing":
            if self.bundle.pending is not None:
                self._write(pending=None)
            self.outcome.messages.append("The keys are as the inventory wants them.")

    def _attempt(self) -> Ours:
        return self._ours(self._begun())

    def _begun(self) -> Attempt:
        encoded = {key.fingerprint: base64.b64encode(key.binary).decode() for key in self.keys.values()}
        return self.server.begin(self.wanted.holders, self.wanted.threshold, encoded)

    def _ours(self, begun: Attempt) -> Ours:
        return Ours(begun.nonce, self.wanted.threshold, self.wanted.holders)

    def _give(self, attempt: Attempt) -> None:
        box = ShareBox(self.bundle.keys, self.request.gnupg_homes)
        shares = box.open()
        with initialise.signals_held():  # the answer to the last share exists once
            given = self._given(self.server.give(attempt, shares), attempt.progress)
            if given.complete:
                self._write(pending=replace(self.pending, shares=self._dealt(self.pending.attempt, given)))
                return
        if given.wrong:
            raise CeremonyError(
                f"{self.leader.node.name} does not accept the key that the bundle's shares make, so nothing was dealt: the "
                "bundle is another cluster's, or from before a rekey; put this cluster's at vault_cluster_bundle_file."
            )
        self._missing(self.bundle.keys, box, attempt.required - given.progress, "The rekey")

    def _prove(self, attempt: Attempt) -> None:
        """Give shares of one set; when they are complete it shows whether that one is in force.

        A stranger's share has a set refused as well. So the sets take turns until one is accepted, and that one is not in
        force is only said where all of its shares were ours.
        """
        refused: set[str] = set()
        while True:  # others' shares are in the first proof alone: a set of ours is refused once, or waits for more
            proved = self.pending.proving
            keys = self.pending.keys if proved == "new" else self.bundle.keys
            box = ShareBox(keys, self.request.gnupg_homes)
            shares = box.open()
            with initialise.signals_held():
                given = self._given(self.server.give(attempt, shares), attempt.progress)
                if given.complete:
                    self._proved(proved, given)
                    return
            if not (given.wrong or given.disturbed):
                subject = f"To see whether the {proved} shares are in force, it"
                self._missing(keys, box, attempt.required - given.progress, subject)
                return
            refused |= {proved} if given.wrong else set()
            if refused == {"new", "old"}:
                raise CeremonyError(
                    f"{self.leader.node.name} accepts neither the old nor the new shares of the bundle: it is another "
                    "cluster's, or was rekeyed by somebody else. Keep every copy of the bundle, and restart no node that is "
                    "open."
                )
            attempt = self._prove_other(proved, given)

    def _prove_other(self, refused: str, given: Given) -> Attempt:
        """Begin a proof of the other set. A nonce of its own tells runs whose bundle is behind that it is another proof."""
        other = "old" if refused == "new" else "new"
        if given.wrong:
            told = f"The {refused} shares are not in force: the {other} ones are tried."
        else:
            told = (
                f"{self.leader.node.name} refused the {refused} shares that were given so far, and forgot them: they are "
                f"not in force, or one was not of this cluster. The {other} ones are tried, those of operators who ran "
                f"before too. If both are refused by turns, {self.bundle.threshold} shares of one keyboard "
                f"(vault_cluster_gnupg_homes) decide, and {AUDIT_LOG} tells who gave what."
            )
        self.outcome.messages.append(told)
        self.server.cancel()
        begun = self._begun()
        self._write(pending=replace(self.pending, proof=self._ours(begun), proving=other))
        return begun

    def _proved(self, proved: str, given: Given) -> None:
        proof = self.pending.proof
        if proved == "new" or proof is None:
            self.server.cancel()  # what the proof has dealt is not needed
            self._switch()
        elif wants(self.bundle, self.wanted):
            self._write(pending=Pending(proof, self.pending.started, self._dealt(proof, given)))
        else:
            self.server.cancel()
            self._write(pending=None)
            self.outcome.messages.append("The old shares are in force, and the keys are as the inventory wants them.")

    def _verify(self, attempt: Attempt) -> None:
        """Give new shares, all but the one that completes them; say in the bundle that that one may be given."""
        progress = self._verification(attempt)
        box, held = self._unverified()
        early = held[: max(self.pending.keys.threshold - 1 - progress, 0)]
        if early:
            progress = self._give_new(progress, early, box).progress
        if len(held) > len(early) and progress == self.pending.keys.threshold - 1 and not self.pending.closing:
            self._write(pending=replace(self.pending, closing=True))

    def _close(self, attempt: Attempt) -> None:
        progress = self._verification(attempt)
        box, held = self._unverified()
        keys = self.pending.keys
        if self.pending.closing and held and progress == keys.threshold - 1:
            given = self._give_new(progress, held[:1], box)
            progress = given.progress
        if self.bundle.pending is not None:
            everyone = ShareBox(keys, self.request.gnupg_homes)
            self._missing(keys, everyone, keys.threshold - progress, "To verify the new shares, it")

    def _verification(self, attempt: Attempt) -> int:
        """Return how many new shares the verification has; one that has others than the bundle tells of begins again."""
        progress, pending = self.server.verification(attempt), self.pending
        if (pending.verifying, len(pending.verified)) == (attempt.verifying, progress):
            return progress
        nonce = self.server.verify_afresh() if progress else attempt.verifying
        if progress or pending.verified:
            self.outcome.messages.append(
                "The verification had other shares than the bundle tells of: it begins again. An operator who verified "
                "before must run this again."
            )
        self._write(pending=replace(pending, verifying=nonce, verified=()))
        return 0

    def _unverified(self) -> tuple[ShareBox, list[Share]]:
        """Return the new shares at hand that the verification does not have."""
        keys = self.pending.keys
        left = tuple(share for share in keys.shares if share.index not in self.pending.verified)
        box = ShareBox(KeySet(keys.threshold, left), self.request.gnupg_homes)
        return box, box.wanted

    def _give_new(self, progress: int, shares: list[Share], box: ShareBox) -> Given:
        secrets = box.open()[: len(shares)]
        with initialise.signals_held():
            given = self._given(self.server.verify(self.pending.verifying, progress, secrets), progress)
            if given.complete:
                self._switch()
                return given
            verified = (*self.pending.verified, *(share.index for share in shares))
            self._write(pending=None if given.wrong else replace(self.pending, verified=verified))
        if given.wrong:
            self.server.cancel()
            raise CeremonyError(
                "The new shares do not make the key that the server dealt: they are given up, and the old ones are valid. "
                f"Run {PLAYBOOK} again, and look at the server that leads if this comes again."
            )
        return given

    def _given(self, given: Given, before: int) -> Given:
        if given.disturbed and (given.complete or self.pending.proof is None):
            again = "" if given.complete else " An operator who ran this before must run it again."
            self.outcome.messages.append(
                "The attempt held a share that is not of this cluster: it was thrown away with all others, and yours given "
                f"again.{again} Who gave what is in {AUDIT_LOG}."
            )
        self.outcome.changed = self.outcome.changed or given.disturbed or given.complete or given.progress != before
        return given

    def _dealt(self, ours: Ours, given: Given) -> tuple[Share, ...]:
        if len(given.messages) != len(ours.holders):
            self.server.cancel()
            raise CeremonyError(
                "The server dealt no message for each share: it was cancelled, and the old shares are valid."
            )
        return tuple(
            Share(index, holder.operator, holder.fingerprint, message)
            for index, (holder, message) in enumerate(zip(ours.holders, given.messages, strict=True), start=1)
        )

    def _switch(self) -> None:
        """Take the new keys up. The old ones are kept in a file of their own, and in the bundle for who may want them."""
        old, new = self.bundle, self.pending.keys
        previous = Previous(
            old.threshold, old.shares, _now(), self.leader.raft_index(), tuple(a.node.name for a in self.apis)
        )
        try:
            bundles.archive(self.path, old, old.keys)
        except OSError as error:
            raise BundleError(
                f"The new shares are in force and the old ones could not be kept beside {self.path} ({error.strerror}): "
                "make that directory writable and run this again, which goes on from here."
            ) from None
        self.outcome.retired = _bare(old)
        self._write(
            threshold=new.threshold,
            shares=new.shares,
            replaces=(*old.replaces, Retired(old.bundle_id, *old.keys.numbers)),
            pending=None,
            previous=previous,
        )
        self.outcome.messages.append(
            f"The new shares are in force: {new.threshold} of {len(new.shares)} unseal from now on."
        )
        seen, told, warned = proving.look(self.bundle, self.apis, clock=self.clock, sleep=self.sleep)
        self.outcome.messages += [*told, *warned]
        if seen != self.bundle:
            self._save(seen)

    def _missing(self, keys: KeySet, box: ShareBox, number: int, subject: str) -> None:
        others = [name for name in keys.operators if name not in box.operators]
        number_of = f"{number} more share{'s' if number > 1 else ''} of {keys.threshold}"
        sentence = f"{subject} needs {number_of}: {' or '.join(others) or 'nobody'} can supply it by running {PLAYBOOK}."
        if not box.operators:
            sentence += " No secret key at hand is a share-holder's: insert the smart card or set vault_cluster_gnupg_homes."
        self.outcome.messages.append(sentence)

    def _write(self, **changes: Any) -> None:  # noqa: ANN401 - fields of a Bundle
        self._save(replace(self.bundle, serial=self.bundle.serial + 1, **changes))

    def _save(self, bundle: Bundle) -> None:
        try:
            bundles.archive_abandoned(self.path, self.bundle, bundle)
            bundles.write(self.path, bundle.render())
        except OSError as error:
            raise BundleError(
                f"The unseal bundle {self.path} could not be written ({error.strerror}): make room and run {PLAYBOOK} "
                "again, which finds out what is in force. Until then keep all copies of the bundle."
            ) from None
        self.outcome.bundle, self.outcome.changed = bundle, True


def _bare(bundle: Bundle) -> Bundle:
    """Return its keys without what is told of a rekey; pure."""
    return replace(bundle, serial=0, replaces=(), pending=None, previous=None)


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
