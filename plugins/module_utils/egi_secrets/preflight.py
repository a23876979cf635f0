"""Everything that must hold before a cluster is initialised, and what is worth saying about one that is.

All failures are collected, so that one run tells all there is to mend. Once the cluster is initialised, a member that
is down, a clock or a key that has aged are warnings: refusing to go on would keep the other members sealed.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .api import Api, in_parallel
from .clock import Judgement, Offset, judge, narrow, observe
from .cluster import NodeState, observe_nodes
from .errors import PgpError, SecretsError
from .pgp import PublicKey, load_public_key

# Pause between two looks at the clocks, and the number of looks: enough to know an offset to about the pause.
_CLOCK_PAUSE = 0.11
_CLOCK_LOOKS = 14


@dataclass(frozen=True)
class Operator:
    """A share-holder: name, the file with their public PGP key, and the number of shares they hold."""

    name: str
    pgp_key_file: str
    shares: int


@dataclass
class Report:
    """What preflight found.

    Args:
        initialized: whether any node is initialised.
        states: of all nodes, in order.
        keys: operator → public key, of those whose key is fit.
        failures: sentences; nothing may be initialised or unsealed while there are any.
        warnings: sentences.
    """

    initialized: bool
    states: list[NodeState]
    keys: dict[str, PublicKey] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_shares(operators: list[Operator], threshold: int) -> list[str]:
    """Return what is wrong with who holds how many shares; pure.

    Args:
        operators: the share-holders.
        threshold: shares needed to unseal.
    """
    if not operators:
        return ["vault_cluster_operators is empty: name at least one share-holder (better three) with a PGP key."]
    failures = []
    names = [operator.name for operator in operators]
    failures += [
        f"vault_cluster_operators names {name} {names.count(name)} times: list each operator once and give them more "
        "`shares` instead."
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    failures += [
        f"vault_cluster_operators: {operator.name} has shares: {operator.shares}: give each operator at least 1."
        for operator in operators
        if operator.shares < 1
    ]
    total = sum(max(operator.shares, 0) for operator in operators)
    if threshold > total:
        failures.append(
            f"vault_cluster_threshold is {threshold} and vault_cluster_operators hold {total} shares in all: no one "
            "could ever unseal; lower the threshold or add shares."
        )
    elif threshold < 1 or (threshold == 1 and total > 1):
        failures.append(
            f"vault_cluster_threshold is {threshold} of {total} shares: any one share alone would unseal; set it to 2 "
            "or more."
        )
    elif len(operators) > 1:
        failures += [
            f"vault_cluster_operators: {operator.name} alone holds {operator.shares} shares and "
            f"vault_cluster_threshold is {threshold}: one person could unseal and make root tokens alone; give "
            f"{operator.name} fewer shares or raise the threshold."
            for operator in operators
            if operator.shares >= threshold
        ]
    return failures


def check_membership(states: list[NodeState]) -> tuple[list[str], list[str]]:
    """Return failures and warnings about which nodes are up and which cluster they are of; pure.

    A sealed node does not tell its cluster id, so two clusters are recognised among unsealed nodes only.
    """
    failures: list[str] = []
    warnings: list[str] = []
    down = [state for state in states if state.role == "unreachable"]
    initialised = any(state.initialized for state in states)
    for state in down:
        if initialised:
            warnings.append(f"{state.problem} The other members are seen to without it.")
        else:
            failures.append(
                f"{state.problem} Every member must be up before a cluster is initialised: this one might hold its data."
            )
    members: dict[str, list[str]] = {}
    for state in states:
        if state.cluster_id:
            members.setdefault(state.cluster_id, []).append(state.name)
    if len(members) > 1:
        listed = "; ".join(f"{' and '.join(names)} in {cluster_id}" for cluster_id, names in members.items())
        failures.append(
            f"The nodes of group `vault` are of {len(members)} clusters ({listed}): leave in the group the members of "
            "one, or stop the stray node, empty its Raft directory and start it, so that it joins."
        )
    return failures, warnings


def check_keys(
    operators: list[Operator], min_days: float, now: datetime.datetime
) -> tuple[dict[str, PublicKey], list[str], list[str]]:
    """Judge every operator's public key, each in a throw-away keyring, at the same time.

    Args:
        operators: the share-holders.
        min_days: days that a key must stay valid.
        now: the time to judge at, aware.

    Returns:
        The keys that can be encrypted to, sentences about keys that cannot or soon cannot, and sentences about faults
        that no rekey mends: secret key material, one key for two operators.
    """
    keys: dict[str, PublicKey] = {}
    unfit: list[str] = []
    wrong: list[str] = []
    results = in_parallel(operators, lambda operator: load_public_key(operator.pgp_key_file, now))
    for operator, result in zip(operators, results, strict=True):
        subject = f"vault_cluster_operators: {operator.name}'s pgp_key_file {operator.pgp_key_file}"
        if isinstance(result, PgpError):
            (wrong if "SECRET key" in str(result) else unfit).append(f"{subject} {result}.")
        elif isinstance(result, SecretsError):
            raise result
        else:
            keys[operator.name] = result
            left = result.days_left(now)
            if left is not None and left < min_days:
                unfit.append(
                    f"{subject} holds a key that expires in {left:.0f} days, on {result.expires:%Y-%m-%d}, and "
                    f"vault_cluster_key_min_days is {min_days:g}: have {operator.name} extend it (gpg "
                    "--quick-set-expire, the encryption subkey too) and export it again."
                )
    holders: dict[str, list[str]] = {}
    for name, key in keys.items():
        holders.setdefault(key.fingerprint, []).append(name)
    wrong += [
        f"vault_cluster_operators: {' and '.join(names)} have the same key {fingerprint}: whoever holds it holds all "
        "their shares; give each operator a key of their own."
        for fingerprint, names in holders.items()
        if len(names) > 1
    ]
    return keys, unfit, wrong


def measure_clocks(
    apis: list[Api],
    limit: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Judgement, dict[str, Offset]]:
    """Ask all nodes for their time, again and again, until it is decided whether they are within `limit`.

    Args:
        apis: the nodes that answer.
        limit: largest difference between two clocks, s.
        now: the controller's clock, s.
        sleep: how to wait, s.

    Returns:
        The judgement, and for each node what is known of its offset. Undecided is possible only where the true
        difference is within about a tenth of a second of `limit`, or the network is slower than that.
    """
    offsets: dict[str, Offset] = {}

    def look(api: Api) -> Offset:
        sent = now()
        health = api.health()
        return observe(sent, now(), health.second)

    for number in range(_CLOCK_LOOKS):
        if number:
            sleep(_CLOCK_PAUSE)
        for api, seen in zip(apis, in_parallel(apis, look), strict=True):
            if isinstance(seen, Offset):
                offsets[api.node.name] = narrow(offsets.get(api.node.name), seen)
        judgement = judge(offsets, limit)
        if judgement.verdict != "undecided":
            break
    return judgement, offsets


def clock_sentence(judgement: Judgement, limit: float) -> str:
    """Return what is wrong with the clocks, empty when nothing is. Undecided counts by its best guess; pure."""
    if judgement.verdict == "within" or (judgement.verdict == "undecided" and judgement.apart <= limit):
        return ""
    return (
        f"The clock of {judgement.ahead} is {judgement.apart:.1f} s ahead of that of {judgement.behind} and "
        f"vault_cluster_max_clock_offset is {limit:g}: start time synchronisation on both (timedatectl set-ntp true)."
    )


def run(
    apis: list[Api],
    operators: list[Operator],
    threshold: int,
    *,
    key_min_days: float,
    max_clock_offset: float,
) -> Report:
    """Look at nodes, clocks, shares and keys; change nothing.

    Args:
        apis: all members of the inventory.
        operators: the share-holders.
        threshold: shares needed to unseal.
        key_min_days: days that a key must stay valid.
        max_clock_offset: largest difference between two members' clocks, s.

    Returns:
        The report; it has failures when something must be mended first.
    """
    states = observe_nodes(apis)
    initialised = any(state.initialized for state in states)
    report = Report(initialized=initialised, states=states)
    report.failures += check_shares(operators, threshold)
    failures, warnings = check_membership(states)
    report.failures += failures
    report.warnings += warnings
    ageing = report.warnings if initialised else report.failures
    up = [api for api, state in zip(apis, states, strict=True) if state.role != "unreachable"]
    if up:
        judgement, _ = measure_clocks(up, max_clock_offset)
        sentence = clock_sentence(judgement, max_clock_offset)
        if sentence:
            ageing.append(sentence)
    now = datetime.datetime.now(datetime.UTC)
    report.keys, unfit, wrong = check_keys(operators, key_min_days, now)
    report.failures += wrong
    remedy = " A new key takes effect with a rekey (playbooks/operate/rekey.yml)." if initialised else ""
    ageing += [sentence + remedy for sentence in unfit]
    return report
