"""The invariants hold over random histories, and each of them notices a decision that is wrong.

A few hundred histories here; FAILOVER_HISTORIES=10000 plays that many (.ci/long-simulation).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from endpoint_failover.simulate import SITES, WHAT, Fault, default_settings, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.endpoint_failover import directed, mutants
from tests.unit.endpoint_failover.simulation import invariants
from tests.unit.endpoint_failover.simulation.invariants import BrokenError, Invariants, play

HISTORIES = int(os.environ.get("FAILOVER_HISTORIES", "300"))
CHUNKS = 8 if HISTORIES <= 1000 else HISTORIES // 250
# Seeds that are tried before a mutant counts as not noticed.
TRIES = 200
DURATION = 120.0


def play_seed(seed: int, only: str = "") -> Invariants:
    """Play the random history of a seed, in a world that loses packets and answers every other time."""
    rng = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    history = random_history(rng, DURATION)
    world = {
        "loss": rng.choice((0.0, 0.0, 0.02)),
        "answer_loss": rng.choice((0.0, 0.0, 0.05)),
        "lag": rng.choice((0.05, 0.05, 5.0)),  # BIND's own delay before it tells its secondary
    }
    return play(history, default_settings(rng.choice((1, 2))), seed, only=only, **world)


def play_directed(kind: Callable[[random.Random], directed.Directed], seed: int, only: str = "") -> Invariants:
    """Play a directed history."""
    rng = random.Random(seed + 1_000_000)  # noqa: S311  # a simulation, not a secret
    found = kind(rng)
    return play(found.history, default_settings(1), seed, most=found.most, only=only, **found.world)


@pytest.mark.parametrize("kind", directed.EVERY, ids=lambda kind: kind.__name__)
def test_the_invariants_hold_where_it_is_difficult(kind: Callable[[random.Random], directed.Directed]) -> None:
    for seed in range(max(10, HISTORIES // 50)):
        try:
            play_directed(kind, seed)
        except BrokenError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_invariants_hold_over_random_histories(chunk: int) -> None:
    for seed in range(chunk, HISTORIES, CHUNKS):
        try:
            play_seed(seed)
        except BrokenError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from None


sites = st.sampled_from(SITES)
pairs = st.sampled_from([f"{one}-{other}" for one in SITES for other in SITES if one != other])
# Where it is not a site that something happens to.
whos = {
    "link": pairs,
    "dns": st.sampled_from(("primary", "secondary")),
    "dyndns": st.just(""),
    "identity": st.one_of(st.just(""), sites),
}
amounts = {"hold": ("10", "40"), "clock": ("-3600", "30")}
faults = st.one_of(
    [
        st.tuples(st.just(what), whos.get(what, sites), st.sampled_from((*become, *amounts.get(what, ()))))
        for what, become in WHAT.items()
    ]
)
histories = st.lists(st.tuples(st.floats(1, 80), faults), max_size=8).map(
    lambda found: sorted((Fault(round(at, 2), *fault) for at, fault in found), key=lambda fault: fault.at)
)


@settings(max_examples=max(60, HISTORIES // 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, seed=st.integers(0, 1000), names=st.sampled_from((1, 2)))
def test_the_invariants_hold_over_histories_that_can_be_shrunk(history: list[Fault], seed: int, names: int) -> None:
    play(history, default_settings(names), seed)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_decision_is_noticed(mutant: mutants.Mutant) -> None:
    with mutant():
        for seed in range(TRIES):
            try:
                if mutant.history is None:
                    play_seed(seed, mutant.breaks)
                else:
                    play_directed(mutant.history, seed, mutant.breaks)
            except BrokenError:
                return
    pytest.fail(f"No history of {TRIES} breaks '{mutant.breaks}'.")


def test_each_invariant_has_a_mutant() -> None:
    told = {value for name, value in vars(invariants).items() if name.isupper() and isinstance(value, str)}

    assert told == {mutant.breaks for mutant in mutants.MUTANTS}


# --- what the simulation found, as shrunk ------------------------------------------------------------------------------


def test_the_lock_of_a_domain_is_waited_out_for_all_names_in_it() -> None:
    history = [
        Fault(1.0, "checker", "ifca", "killed"),
        Fault(1.0, "dns", "primary", "refuses updates"),
        Fault(1.0, "identity", "iisas", "revoked"),
        Fault(2.0, "server", "ifca", "dead"),
    ]
    play(history, default_settings(2), 0)


def test_what_was_refused_is_tried_again_when_nobody_is_on_the_alert_any_more() -> None:
    history = [
        Fault(61.6, "alone", "ifca", "yes"),
        Fault(65.2, "dyndns", "", "refuses"),
        Fault(80.0, "dyndns", "", "up"),
        Fault(111.8, "link", "iisas-ifca", "up"),
    ]
    play(history, default_settings(2), 30694)


# --- what naive checkers get wrong, told one by one: how many updates are sent, wherever the name was -------------------


def updates(*history: Fault, seed: int) -> int:
    return play(sorted(history, key=lambda fault: fault.at), default_settings(1), seed).updates


several = pytest.mark.parametrize("seed", range(8))


@several
@pytest.mark.parametrize("how", ["cut", "one-way"])
@pytest.mark.parametrize("pair", ["infn-ifca", "ifca-infn", "iisas-infn", "ifca-iisas"])
def test_two_sites_cut_from_each_other_that_both_see_the_third_do_not_fight(pair: str, how: str, seed: int) -> None:
    # Whoever does not lead is cut from the leader when it is one of the two, and serves nobody: that may be left once.
    assert updates(Fault(10, "link", pair, how), Fault(90, "link", pair, "up"), seed=seed) <= 1


@several
def test_an_election_moves_nothing(seed: int) -> None:
    assert updates(*(Fault(10, "server", site, "slow") for site in SITES), *ok(13), seed=seed) == 0


@several
def test_when_all_fail_nothing_moves(seed: int) -> None:
    assert updates(*(Fault(10, "server", site, "dead") for site in SITES), *ok(60), seed=seed) == 0


@several
@pytest.mark.parametrize("site", SITES)
def test_a_dead_checker_at_a_site_that_serves_moves_nothing(site: str, seed: int) -> None:
    assert updates(Fault(10, "checker", site, "killed"), Fault(60, "checker", site, "started"), seed=seed) == 0


@several
def test_without_any_checker_nothing_moves(seed: int) -> None:
    killed = [Fault(5, "checker", site, "killed") for site in SITES]
    assert updates(*killed, Fault(10, "server", "infn", "dead"), Fault(11, "server", "ifca", "dead"), seed=seed) == 0


@several
def test_a_site_that_dies_and_comes_back_is_left_once_at_most(seed: int) -> None:
    history = [Fault(10, "server", "infn", "dead"), Fault(60, "server", "infn", "ok")]
    assert updates(*history, seed=seed) <= 1


@several
def test_a_site_that_hangs_and_one_that_is_dark_are_left(seed: int) -> None:
    """Both candidates in turn, so one of them had the name: it is moved off and back."""
    history = [
        Fault(10, "server", "infn", "hung"),
        Fault(60, "server", "infn", "ok"),
        Fault(90, "site", "ifca", "dark"),
    ]
    assert updates(*history, seed=seed) in (1, 2)


def ok(at: float) -> list[Fault]:
    return [Fault(at, "server", site, "ok") for site in SITES]
