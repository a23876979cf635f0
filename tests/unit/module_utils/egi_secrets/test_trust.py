"""Another CA takes the place of the old one: in which order, and that no order locks anybody out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.egi_secrets.operate.trust import Party, Plan, Renewal, Served, decide, leaps
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = frozenset({"old"}), frozenset({"new"})
BOTH = OLD | NEW
NAMES = {"old": "CN=Old CA", "new": "CN=New CA"}
NODES = ("vault-iisas", "vault-infn")


def parties(trusts: frozenset[str], wanted: frozenset[str]) -> list[Party]:
    return [
        *(Party(node, "vault_server_tls_ca_file", trusts, wanted) for node in NODES),
        *(Party(f"the checker on {node}", "vault_cluster_ca_file", trusts, wanted) for node in NODES),
        Party("this controller", "vault_cluster_ca_file", wanted, wanted),
        Party("vm", "fedcloud_client_ca_file", trusts, wanted),
    ]


def served(by: frozenset[str]) -> list[Served]:
    return [Served(f"{node}:{port}", node, by) for node in NODES for port in (8200, 443)]


def renewals(by: frozenset[str], *nodes: str) -> list[Renewal]:
    return [Renewal(node, by) for node in nodes or NODES]


def plan(trusts: frozenset[str], wanted: frozenset[str], by: frozenset[str], new: list[Renewal] | None = None) -> Plan:
    return decide(parties(trusts, wanted), served(by), new or [], NAMES)


def test_where_all_is_as_it_should_be_nothing_is_done() -> None:
    found = plan(OLD, OLD, OLD)
    assert (found.phase, found.problems) == ("nothing", [])
    assert found.next == "Nothing is left to do."


def test_certificates_of_the_same_ca_are_one_step() -> None:
    found = plan(OLD, OLD, OLD, renewals(OLD))
    assert (found.phase, found.problems) == ("certificates", [])
    assert found.says == (
        "Renewal under the same CA: vault-iisas and vault-infn, in this order, get certificates of CN=Old CA, by a reload."
    )
    assert found.next == "Nothing is left to do."


def test_another_ca_takes_three_steps() -> None:
    first = plan(OLD, BOTH, OLD)
    assert (first.phase, first.problems) == ("trust", [])
    assert "will trust CN=New CA as well" in first.says
    assert "put certificates of the new CA into the inventory" in first.next

    second = plan(BOTH, BOTH, OLD, renewals(NEW))
    assert (second.phase, second.problems) == ("certificates", [])
    assert second.says.startswith("Step 2 of 3")
    assert second.next.startswith("No listener leads to CN=Old CA, which is still trusted")

    third = plan(BOTH, NEW, NEW)
    assert (third.phase, third.problems) == ("drop", [])
    assert "will trust CN=Old CA no more" in third.says
    assert third.next == "Nothing is left to do."


def test_certificates_that_come_with_their_ca_wait_for_the_next_run() -> None:
    found = plan(OLD, BOTH, OLD, renewals(NEW))
    assert (found.phase, found.problems) == ("trust", [])
    assert "it brings the new certificates of vault-iisas and vault-infn" in found.next


def test_whoever_is_new_is_brought_the_ca_that_is_served() -> None:
    late = [replace(party, trusts=frozenset()) if party.name == "vm" else party for party in parties(OLD, OLD)]
    found = decide(late, served(OLD), [], NAMES)
    assert found.says.startswith("Trust: vm will trust CN=Old CA as well.")
    assert found.next == "Nothing is left to do."


def test_one_run_does_one_thing_where_the_old_ca_may_be_dropped_as_well() -> None:
    found = plan(BOTH, NEW, NEW, renewals(NEW, "vault-infn"))
    assert (found.phase, found.problems) == ("certificates", [])
    assert found.next == "Run this again: the old CA is dropped."


@pytest.mark.parametrize("trusts", [OLD, BOTH])
def test_a_ca_that_listeners_lead_to_is_not_dropped(trusts: frozenset[str]) -> None:
    for new in ([], renewals(NEW)):
        found = plan(trusts, NEW, OLD, new)
        assert len(found.problems) == 3, "one of each variable"
        assert found.problems[0].startswith(
            "vault_server_tls_ca_file is without CN=Old CA, which vault-iisas:8200, vault-iisas:443, vault-infn:8200 and "
            "vault-infn:443 still lead to"
        )


def test_a_certificate_whose_ca_is_in_no_file_is_refused() -> None:
    (problem, *_) = plan(OLD, OLD, OLD, renewals(NEW)).problems
    assert (
        "vault_server_tls_ca_file is without CN=New CA, which the new certificates of vault-iisas and vault-infn" in problem
    )


def test_whoever_could_not_be_asked_holds_up_another_ca_and_no_renewal() -> None:
    silent = [replace(party, trusts=None) if party.name == "vm" else party for party in parties(BOTH, BOTH)]
    (problem,) = decide(silent, served(OLD), renewals(NEW), NAMES).problems
    assert problem.startswith("vm could not be asked whom it trusts, and vault-iisas and vault-infn would get")
    assert decide(silent, served(OLD), renewals(OLD), NAMES).problems == []
    assert decide(silent, served(OLD), [], NAMES).says.endswith("vm could not be asked, and must be brought to it later.")


def test_a_certificate_that_nobody_vouches_for_may_be_replaced() -> None:
    assert plan(OLD, OLD, frozenset(), renewals(OLD)).problems == []


def test_no_ca_is_dropped_while_nobody_knows_whose_a_listeners_certificate_is() -> None:
    strange = [*served(NEW), Served("vault-ifca:8200", "vault-ifca", frozenset())]
    found = decide(parties(BOTH, NEW), strange, [], NAMES).problems
    assert len(found) == 3, "one of each variable"
    assert found[0].startswith(
        "No CA that is known here vouches for vault-ifca:8200, and vault_server_tls_ca_file is without CN=Old CA"
    )
    assert decide(parties(OLD, BOTH), strange, [], NAMES).problems == []


@pytest.mark.parametrize(
    ("trusts", "wanted", "by", "new", "leap"),
    [
        (OLD, OLD, OLD, OLD, False),
        (OLD, BOTH, OLD, OLD, False),
        (BOTH, BOTH, OLD, NEW, False),
        (BOTH, NEW, NEW, NEW, False),
        (OLD, NEW, OLD, NEW, True),
        (OLD, BOTH, OLD, NEW, True),  # the others do not trust it yet
        (BOTH, NEW, OLD, NEW, True),
        (frozenset(), NEW, frozenset(), NEW, False),  # a bare host
        (OLD, OLD, frozenset(), OLD, False),
        (OLD, NEW, frozenset(), NEW, True),  # what it serves may be of the old one: nobody can tell
    ],
)
def test_site_yml_takes_no_leap(
    trusts: frozenset[str], wanted: frozenset[str], by: frozenset[str], new: frozenset[str], leap: bool
) -> None:
    assert leaps(Party("vault-infn", "", trusts, wanted), by, new) is leap


CAS = st.frozensets(st.sampled_from(["a", "b", "c"]))
SOME = st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2)


@given(
    trusts=st.lists(st.tuples(CAS, SOME), min_size=1, max_size=4),
    by=st.lists(SOME, min_size=1, max_size=3),
    new=st.lists(st.one_of(st.none(), SOME), min_size=3, max_size=3),
)
def test_whoever_accepts_what_is_served_does_so_after_every_step(
    trusts: list[tuple[frozenset[str], frozenset[str]]], by: list[frozenset[str]], new: list[frozenset[str] | None]
) -> None:
    """Cut off after any change of a step: parties change one by one, and nodes do."""
    people = [Party(str(place), str(place), now, wanted) for place, (now, wanted) in enumerate(trusts)]
    listeners = [Served(f"{place}:8200", str(place), each) for place, each in enumerate(by)]
    late = [Renewal(str(place), each) for place, each in enumerate(new) if each and place < len(by)]
    found = decide(people, listeners, late, {})
    if found.problems:
        return
    for party in people:
        for listener in listeners:
            after = next((each.authorities for each in late if each.node == listener.node), listener.authorities)
            if found.phase == "certificates":
                assert after & (party.trusts or frozenset())
            else:
                assert listener.authorities & party.wanted
