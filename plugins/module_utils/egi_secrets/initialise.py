"""Initialise the cluster once, and keep its bundle in one piece ever after.

The answer of sys/init exists only once. So: everything that could fail for a silly reason is tried before the request;
between the request and the bundle on disk no signal but SIGKILL is taken; and where the answer was lost all the same,
the next run recognises it (a cluster that is initialised while nobody has a bundle) and says how to start over.
"""

from __future__ import annotations

import base64
import datetime
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import bundle as bundles
from . import proving
from .api import Api
from .bundle import Bundle, RootToken
from .cluster import NodeState, observe_nodes
from .errors import BundleError, BundleNotWrittenError, CeremonyError, NodeError, PgpError, RefusedError, UnreachableError
from .keys import Share
from .pgp import PublicKey, load_public_key
from .preflight import Operator, check_membership, check_shares

CONTROLLER = "the controller"


@dataclass(frozen=True)
class Plan:
    """What the inventory wants of the keys.

    Args:
        cluster_name: name for people, kept in the bundle.
        operators: the share-holders, in the order in which shares are dealt.
        threshold: shares needed to unseal.
        root_token_operator: whose key the first root token is encrypted to.
    """

    cluster_name: str
    operators: list[Operator]
    threshold: int
    root_token_operator: str


@dataclass
class Outcome:
    """What happened.

    Args:
        changed: whether the cluster or the controller's bundle file was (in check mode: would be) changed.
        bundle: the bundle; None in check mode where there is none yet.
        before: summary of the controller's bundle before, for the diff; None where it had none.
        after: the same after.
        messages: sentences for the operator.
        warnings: what the inventory and the bundle disagree on.
    """

    changed: bool
    bundle: Bundle | None
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    messages: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def decide(
    states: list[NodeState], copies: Mapping[str, Bundle], bundle_file: str, unasked: Collection[str] = ()
) -> Bundle | None:
    """Decide between initialising (None) and keeping the bundle that is returned; pure.

    Args:
        states: of all nodes.
        copies: place → bundle found there, on the controller and the nodes.
        bundle_file: where the controller's belongs, for messages.
        unasked: names of nodes whose copy could not be asked for, if they have one.

    Raises:
        CeremonyError: going on would lose or mix up keys.
        BundleError: the copies differ.
    """
    initialised = [state.name for state in states if state.initialized]
    unasked = sorted({*unasked, *(state.name for state in states if state.role == "unreachable")})
    failures, _ = check_membership(states)
    if failures:
        raise CeremonyError(" ".join(failures))
    if initialised and copies:
        kept = bundles.reconcile(copies)
        _refuse_foreign(states, kept, bundle_file)
        return kept
    if initialised:
        if unasked:
            raise CeremonyError(
                f"{_listed(initialised)} {_is(initialised)} initialised and no unseal bundle was found, neither on the "
                f"controller ({bundle_file}) nor on the nodes that could be asked. {_listed(unasked)} could not, and may "
                "have it: reach every member by SSH and run this again, before anything else is done."
            )
        raise CeremonyError(
            f"{_listed(initialised)} {_is(initialised)} initialised and neither the controller ({bundle_file}) nor any "
            f"node has the unseal bundle: the answer of sys/init was lost, or the bundle was. If this cluster "
            "has never been unsealed, nothing was stored in it: stop its server, empty its Raft directory and start "
            f"it, on {_listed(initialised)}, then run this again. Otherwise restore {bundle_file} from another "
            "operator's controller or a backup: without it no one can ever unseal."
        )
    if unasked and not copies:
        raise CeremonyError(
            f"{_listed(unasked)} could not be asked for an unseal bundle and may have one: reach every member by SSH "
            "(without --limit) before the cluster is initialised."
        )
    if copies:
        places = _listed(list(copies))
        raise CeremonyError(
            f"No node is initialised, and there is an unseal bundle on {places}: it belongs to another cluster, or to "
            "this one before its nodes were emptied. If you are about to restore a snapshot, keep it. If that cluster "
            "is really gone, move the bundle aside (do not delete it) and run this again."
        )
    return None


def _refuse_foreign(states: list[NodeState], kept: Bundle, bundle_file: str) -> None:
    for state in states:
        if state.status and state.initialized and state.status.threshold:
            wants = (state.status.threshold, state.status.shares)
            # One that is open tells the numbers that it was opened by; one that is sealed those that it wants now.
            able = {keys.numbers for keys in kept.candidates(state.name)} if state.sealed else kept.known_numbers()
            if wants not in able:
                raise CeremonyError(
                    f"{state.name} is unsealed by {wants[0]} of {wants[1]} shares and the unseal bundle has "
                    f"{kept.threshold} of {len(kept.shares)}: it is not this cluster's, or from before a rekey; find "
                    f"this cluster's bundle on another node or controller and put it at {bundle_file}."
                )


def compare_with_inventory(kept: Bundle, plan: Plan) -> list[str]:
    """Return what bundle and inventory disagree on, with the remedy; pure."""
    held = {name: sum(share.operator == name for share in kept.shares) for name in kept.operators}
    wanted = {operator.name: operator.shares for operator in plan.operators}
    if kept.pending is not None:
        return proving.todo(kept)
    if (held, kept.threshold) == (wanted, plan.threshold):
        return []
    return [
        f"The inventory wants {plan.threshold} of {_dealt(wanted)}, and the cluster's keys are {kept.threshold} of "
        f"{_dealt(held)}: playbooks/operate/rekey.yml deals them anew, or correct "
        "vault_cluster_operators and vault_cluster_threshold."
    ]


def deal(answer_shares: list[str], answer_root: str, plan: Plan, keys: Mapping[str, PublicKey], created: str) -> Bundle:
    """Return the bundle of an answer of sys/init whose shares are in the order of `holders`; pure."""
    shares = tuple(
        Share(index, holder, keys[holder].fingerprint, message)
        for index, (holder, message) in enumerate(zip(holders(plan.operators), answer_shares, strict=True), start=1)
    )
    root_operator = plan.root_token_operator
    root_token = RootToken(root_operator, keys[root_operator].fingerprint, answer_root, revoked_at=None)
    return Bundle(plan.cluster_name, created, plan.threshold, shares, root_token)


def holders(operators: list[Operator]) -> list[str]:
    """Return for each share, in order, the name of the operator who holds it; pure."""
    return [operator.name for operator in operators for _ in range(operator.shares)]


def run(apis: list[Api], plan: Plan, bundle_file: str, node_bundles: Mapping[str, str], *, check_mode: bool) -> Outcome:
    """Initialise the cluster where that is right, and make the controller's bundle what it must be.

    Args:
        apis: all members of the inventory; the first one is initialised, the others join it.
        plan: who is to hold what.
        bundle_file: the controller's copy.
        node_bundles: node → text of its copy, empty where it has none.
        check_mode: decide, and change nothing.

    Returns:
        What was done.

    Raises:
        CeremonyError: refused, or the bundle could not be written (BundleNotWrittenError carries it then).
        BundleError: copies differ or are damaged, or the controller's directory is not fit.
        NodeError: the node refused or did not answer.
        PgpError: a key is not fit.
    """
    path = Path(bundle_file).expanduser()
    own = bundles.read(path)
    copies = {} if own is None else {f"{CONTROLLER} ({path})": own.bundle}
    for node, text in node_bundles.items():
        if text.strip():
            copies[node] = bundles.parse(text, f"on {node}")
    states = observe_nodes(apis)
    rescued = [] if copies else _rescue(path, states)
    if rescued:
        copies[f"{CONTROLLER} ({rescued[0][0]})"] = rescued[0][1]
    # A host that SSH did not reach, or that --limit left out, is in no copy; where no copies were gathered, none is missing.
    unasked = [state.name for state in states if state.name not in node_bundles] if node_bundles else []
    kept = decide(states, copies, str(path), unasked)
    before = own.bundle.summary() if own else None
    if kept is not None:
        messages = [f"The unseal bundle was taken from an interrupted write, {rescued[0][0]}."] if rescued else []
        kept, proven, warned = proving.look(kept, apis)
        text = kept.render()
        changed = own is None or own.text != text or not own.private
        if changed and not check_mode:
            bundles.prepare_directory(path)
            if own is not None and own.bundle.bundle_id != kept.bundle_id:
                _archive(path, own.bundle)
            if own is not None:
                _archive_abandoned(path, own.bundle, kept)
            _write(path, text)
        warnings = [*compare_with_inventory(kept, plan), *warned]
        return Outcome(changed, kept, before, kept.summary(), [*messages, *proven], warnings)
    keys = load_keys(plan)
    if check_mode:
        after: dict[str, object] = {
            "threshold": plan.threshold,
            "shares": [f"{i}: {name} {keys[name].fingerprint}" for i, name in enumerate(holders(plan.operators), start=1)],
            "root_token": f"{plan.root_token_operator} {keys[plan.root_token_operator].fingerprint}",
        }
        return Outcome(True, None, None, after, [f"{apis[0].node.name} would be initialised."])
    made = _initialise(apis[0], plan, keys, path)
    return Outcome(True, made, None, made.summary(), [f"{apis[0].node.name} was initialised."])


def _initialise(api: Api, plan: Plan, keys: Mapping[str, PublicKey], path: Path) -> Bundle:
    encoded = {name: base64.b64encode(key.binary).decode() for name, key in keys.items()}
    share_keys = [encoded[name] for name in holders(plan.operators)]
    bundles.prepare_directory(path)
    with signals_held():
        try:
            answer = api.initialise(share_keys, plan.threshold, encoded[plan.root_token_operator])
        except UnreachableError as error:
            raise NodeError(
                api.node.name,
                f"{error} It was asked to initialise: run this again, which tells whether it did, and what to do then.",
            ) from None
        except RefusedError as error:
            raise NodeError(
                api.node.name,
                f"{error} If it is initialised already, another controller is doing so right now: run this again when that "
                "run has ended, its bundle is then taken from the nodes.",
            ) from None
        created = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
        made = deal(answer.shares, answer.root_token, plan, keys, created)
        _write(path, made.render())
    return made


def _write(path: Path, text: str) -> None:
    try:
        bundles.write(path, text)
    except OSError as error:
        raise BundleNotWrittenError(
            text,
            f"The unseal bundle could not be written to {path} ({error.strerror}): this run returns it as `bundle`, "
            "which is ciphertext; save that text there with mode 0600 now, it may be the only copy.",
        ) from None


def _archive(path: Path, replaced: Bundle) -> None:
    try:
        bundles.archive(path, replaced, replaced.keys)
    except OSError as error:
        raise BundleError(
            f"The keys that a rekey replaced could not be kept beside {path} ({error.strerror}): they open older snapshots; "
            "make its directory writable and run again."
        ) from None


def _archive_abandoned(path: Path, own: Bundle, kept: Bundle) -> None:
    try:
        bundles.archive_abandoned(path, own, kept)
    except OSError as error:
        raise BundleError(
            f"The keys that a rekey gave up could not be kept beside {path} ({error.strerror}): make its directory writable "
            "and run again."
        ) from None


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back the signals by which an operator or a closing terminal ends a program; they arrive afterwards.

    Blocking works because no other thread of this process is alive meanwhile (`api.in_parallel` ends its own).
    """
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def load_keys(plan: Plan) -> dict[str, PublicKey]:
    """Return every operator's public key, fit to deal shares to.

    Raises:
        CeremonyError: the plan deals shares that make no sense.
        PgpError: a key is not fit.
    """
    failures = check_shares(plan.operators, plan.threshold)
    if plan.root_token_operator not in [operator.name for operator in plan.operators]:
        failures.append(
            f"vault_cluster_root_token_operator is {plan.root_token_operator!r}, who is not in "
            "vault_cluster_operators: name one of the share-holders."
        )
    if failures:
        raise CeremonyError(" ".join(failures))
    now = datetime.datetime.now(datetime.UTC)
    keys = {}
    for operator in plan.operators:
        try:
            keys[operator.name] = load_public_key(operator.pgp_key_file, now)
        except PgpError as error:
            raise PgpError(
                f"vault_cluster_operators: {operator.name}'s pgp_key_file {operator.pgp_key_file} {error}."
            ) from None
    return keys


def _rescue(path: Path, states: list[NodeState]) -> list[tuple[Path, Bundle]]:
    """Find the bundle of a run that was killed between writing it and giving it its name.

    A complete one proves itself by its bundle_id; it counts only while a cluster is initialised that nobody has a
    bundle of.
    """
    if not any(state.initialized for state in states):
        return []
    found = []
    for file in bundles.interrupted_writes(path):
        try:
            read = bundles.read(file)
        except BundleError:
            continue
        if read is not None:
            found.append((file, read.bundle))
    return found if len({bundle.bundle_id for _, bundle in found}) == 1 else []


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _dealt(shares: Mapping[str, int]) -> str:
    return f"{sum(shares.values())} shares ({', '.join(f'{name} {count}' for name, count in shares.items())})"
