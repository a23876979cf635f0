from __future__ import annotations

import signal
import threading

import pytest
from ansible.module_utils.egi_secrets.api import SealStatus
from ansible.module_utils.egi_secrets.bundle import Bundle, RootToken
from ansible.module_utils.egi_secrets.cluster import NodeState
from ansible.module_utils.egi_secrets.errors import BundleError, CeremonyError
from ansible.module_utils.egi_secrets.initialise import (
    Plan,
    compare_with_inventory,
    deal,
    decide,
    holders,
    signals_held,
)
from ansible.module_utils.egi_secrets.keys import Share
from ansible.module_utils.egi_secrets.pgp import PublicKey
from ansible.module_utils.egi_secrets.preflight import Operator

KEYS = {name: PublicKey(name.upper(), name, b"\x99", None) for name in ("alice", "bob")}
PLAN = Plan("test", [Operator("alice", "a", 2), Operator("bob", "b", 1)], 3, "bob")
MADE = deal(["gQ==", "gg==", "gw=="], "hA==", PLAN, KEYS, "2026-11-22T23:00:00Z")
OTHER = deal(["hQ==", "hg==", "hw=="], "iA==", PLAN, KEYS, "2026-11-21T23:00:00Z")


def node(name: str, role: str, *, threshold: int = 3, shares: int = 3) -> NodeState:
    if role == "unreachable":
        return NodeState(name, role, None, f"{name} cannot be reached.")
    if role == "uninitialised":
        return NodeState(name, role, SealStatus(False, True, 0, 0, 0, "", "", "2.7.2"))
    return NodeState(name, role, SealStatus(True, role == "sealed", threshold, shares, 0, "", "", "2.7.2"))


NEW = [node("n1", "uninitialised"), node("n2", "uninitialised")]
OLD = [node("n1", "sealed"), node("n2", "uninitialised")]


def test_shares_are_dealt_in_the_order_of_the_operators() -> None:
    assert holders(PLAN.operators) == ["alice", "alice", "bob"]
    assert MADE.shares == (
        Share(1, "alice", "ALICE", "gQ=="),
        Share(2, "alice", "ALICE", "gg=="),
        Share(3, "bob", "BOB", "gw=="),
    )
    assert MADE.root_token == RootToken("bob", "BOB", "hA==", None)


def test_new_nodes_without_a_bundle_are_initialised() -> None:
    assert decide(NEW, {}, "/b") is None


def test_an_initialised_cluster_keeps_its_bundle() -> None:
    assert decide(OLD, {"n1": MADE, "the controller": MADE}, "/b") == MADE


@pytest.mark.parametrize(
    ("states", "copies", "sentence"),
    [
        (NEW, {"n2": MADE}, "No node is initialised, and there is an unseal bundle on n2"),
        (OLD, {}, "n1 is initialised and neither the controller"),
        ([*OLD, node("n3", "unreachable")], {}, "n3 could not, and may have it"),
        ([*NEW, node("n3", "unreachable")], {}, "Every member must be up"),
        ([node("n1", "sealed", threshold=2, shares=5)], {"n1": MADE}, "n1 is unsealed by 2 of 5 shares"),
    ],
)
def test_what_would_lose_or_mix_up_keys_is_refused(
    states: list[NodeState], copies: dict[str, Bundle], sentence: str
) -> None:
    with pytest.raises(CeremonyError, match=sentence):
        decide(states, copies, "/b")


def test_differing_copies_are_refused() -> None:
    with pytest.raises(BundleError, match=r"n1: test of 2026-11-22.*n2: test of 2026-11-21"):
        decide(OLD, {"n1": MADE, "n2": OTHER}, "/b")


def test_an_inventory_that_moved_on_is_told_to_rekey() -> None:
    assert compare_with_inventory(MADE, PLAN) == []
    moved = Plan("test", [Operator("alice", "a", 1), Operator("carol", "c", 1)], 2, "alice")
    (warning,) = compare_with_inventory(MADE, moved)
    assert "wants 2 of 2 shares (alice 1, carol 1), and the cluster's keys are 3 of 3 shares (alice 2, bob 1)" in warning


def test_a_signal_waits_until_the_bundle_is_written() -> None:
    happened: list[str] = []
    previous = signal.signal(signal.SIGTERM, lambda *_: happened.append("signal"))
    try:
        with signals_held():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # a test runner has other threads, a module none
            happened.append("written")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert happened == ["written", "signal"]
