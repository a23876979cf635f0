from __future__ import annotations

import pytest
from ansible.module_utils.egi_secrets.api import SealStatus
from ansible.module_utils.egi_secrets.cluster import NodeState
from ansible.module_utils.egi_secrets.preflight import Operator, check_membership, check_shares
from hypothesis import given
from hypothesis import strategies as st


def operators(*shares: int) -> list[Operator]:
    return [Operator(f"o{i}", f"o{i}.asc", count) for i, count in enumerate(shares)]


def state(name: str, role: str, cluster_id: str = "") -> NodeState:
    if role == "unreachable":
        return NodeState(name, role, None, f"{name} cannot be reached.")
    initialized = role != "uninitialised"
    sealed = role in ("sealed", "uninitialised")
    return NodeState(name, role, SealStatus(initialized, sealed, 2, 3, 0, "", cluster_id, "2.7.2"))


@pytest.mark.parametrize(
    ("shares", "threshold", "sentence"),
    [
        ((), 1, "vault_cluster_operators is empty"),
        ((1, 1, 1), 4, "vault_cluster_threshold is 4 and vault_cluster_operators hold 3 shares"),
        ((1, 1, 1), 1, "any one share alone would unseal"),
        ((1, 1, 1), 0, "any one share alone would unseal"),
        ((2, 1), 2, "o0 alone holds 2 shares"),
        ((0, 1, 1), 2, "o0 has shares: 0"),
    ],
)
def test_insane_shares_are_refused(shares: tuple[int, ...], threshold: int, sentence: str) -> None:
    assert sentence in "\n".join(check_shares(operators(*shares), threshold))


@pytest.mark.parametrize(("shares", "threshold"), [((1,), 1), ((3,), 2), ((1, 1, 1), 2), ((2, 2, 1), 3)])
def test_sane_shares_pass(shares: tuple[int, ...], threshold: int) -> None:
    assert check_shares(operators(*shares), threshold) == []


def test_an_operator_named_twice_is_refused() -> None:
    twice = [Operator("alice", "a.asc", 1), Operator("alice", "b.asc", 1), Operator("bob", "c.asc", 1)]
    assert "names alice 2 times" in check_shares(twice, 2)[0]


@given(shares=st.lists(st.integers(-1, 4), max_size=5), threshold=st.integers(-1, 8))
def test_what_passes_can_be_unsealed_and_by_no_one_alone(shares: list[int], threshold: int) -> None:
    if check_shares(operators(*shares), threshold) == []:
        assert 1 <= threshold <= sum(shares)
        assert all(count >= 1 for count in shares)
        assert len(shares) == 1 or max(shares) < threshold


def test_a_member_that_is_down_stops_the_first_initialisation_only() -> None:
    failures, warnings = check_membership([state("n1", "uninitialised"), state("n2", "unreachable")])
    assert (len(failures), warnings) == (1, [])
    failures, warnings = check_membership([state("n1", "sealed"), state("n2", "unreachable")])
    assert (failures, len(warnings)) == ([], 1)


def test_two_clusters_are_told_apart_by_name() -> None:
    failures, _ = check_membership([state("n1", "active", "A"), state("n2", "active", "B"), state("n3", "standby", "A")])
    assert "of 2 clusters (n1 and n3 in A; n2 in B)" in failures[0]


def test_sealed_and_not_yet_joined_nodes_are_no_second_cluster() -> None:
    assert check_membership([state("n1", "active", "A"), state("n2", "sealed"), state("n3", "uninitialised")]) == ([], [])
