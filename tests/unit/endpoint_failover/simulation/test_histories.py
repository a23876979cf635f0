"""The invariants hold over random histories, and each of them notices a decision that is wrong.

A few hundred histories here; FAILOVER_HISTORIES=10000 plays that many (.ci/long-simulation).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from endpoint_failover.settings import Rules
from endpoint_failover.simulate import Fault, default_settings, random_history
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.endpoint_failover import directed, mutants
from tests.unit.endpoint_failover.simulation.invariants import BrokenError, Invariants, play

HISTORIES = int(os.environ.get("FAILOVER_HISTORIES", "160"))
CHUNKS = 8 if HISTORIES <= 1000 else HISTORIES // 250
# Seeds that are tried before a mutant counts as not noticed.
TRIES = 400
DURATION = 120.0


def play_seed(seed: int) -> Invariants:
    """Play the random history of a seed, in a world that loses packets and answers every other time."""
    rng = random.Random(seed)  # noqa: S311  # a simulation, not a secret
    history = random_history(rng, DURATION)
    losses = {"loss": rng.choice((0.0, 0.0, 0.02)), "answer_loss": rng.choice((0.0, 0.0, 0.05))}
    return play(history, default_settings(rng.choice((1, 2))), seed, **losses)


def play_directed(kind: Callable[[random.Random], directed.Directed], seed: int) -> Invariants:
    """Play a directed history."""
    rng = random.Random(seed + 1_000_000)  # noqa: S311  # a simulation, not a secret
    found = kind(rng)
    return play(found.history, default_settings(1), seed, most=found.most, **found.world)


@pytest.mark.parametrize("kind", directed.EVERY, ids=lambda kind: kind.__name__)
def test_the_invariants_hold_where_it_is_difficult(kind: Callable[[random.Random], directed.Directed]) -> None:
    for seed in range(max(25, HISTORIES // 20)):
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


sites = st.sampled_from(("iisas", "infn", "ifca"))
pairs = st.sampled_from(("iisas-infn", "infn-ifca", "iisas-ifca", "infn-iisas", "ifca-infn", "ifca-iisas"))
faults = st.one_of(
    st.tuples(st.just("server"), sites, st.sampled_from(("ok", "dead", "hung", "sealed", "stalled", "slow"))),
    st.tuples(st.just("power"), sites, st.sampled_from(("on", "off"))),
    st.tuples(st.just("certificate"), sites, st.sampled_from(("valid", "expired"))),
    st.tuples(st.just("link"), pairs, st.sampled_from(("up", "cut", "one-way"))),
    st.tuples(st.just("alone"), sites, st.sampled_from(("no", "yes"))),
    st.tuples(st.just("checker"), sites, st.sampled_from(("started", "killed", "started without memory"))),
    st.tuples(st.just("dns"), st.sampled_from(("primary", "secondary")), st.sampled_from(("up", "down"))),
    st.tuples(st.just("dyndns"), st.just(""), st.sampled_from(("up", "down"))),
    st.tuples(st.just("hold"), sites, st.sampled_from(("0", "10", "40", "released"))),
    st.tuples(st.just("identity"), st.just(""), st.sampled_from(("valid", "revoked"))),
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
                    play_seed(seed)
                else:
                    play_directed(mutant.history, seed)
            except BrokenError as broken:
                if broken.invariant == mutant.breaks:
                    return
    pytest.fail(f"No history of {TRIES} breaks '{mutant.breaks}'.")


def test_each_invariant_has_a_mutant() -> None:
    named = {mutant.breaks for mutant in mutants.MUTANTS}

    assert named == {getattr(mutants, name) for name in dir(mutants) if name.isupper() and name not in {"MUTANTS", "NEVER"}}


# --- what naive checkers get wrong, told one by one --------------------------------------------------------------------


def moves_of(history: list[Fault], *, names: int = 1, seed: int = 1) -> int:
    return play(history, default_settings(names), seed).moves


def test_two_sites_cut_from_each_other_while_both_see_the_third_do_not_fight() -> None:
    for seed in range(20):
        assert moves_of([Fault(10, "link", "infn-ifca", "cut"), Fault(70, "link", "infn-ifca", "up")], seed=seed) <= 1


def test_an_election_moves_nothing() -> None:
    for seed in range(20):
        # Whoever leads: each in turn dies for a moment that is too short to be its own fault, long enough for an election.
        history = [Fault(10, "server", "iisas", "dead"), Fault(11, "server", "iisas", "ok")]
        assert moves_of(history, seed=seed) == 0


def test_a_dead_checker_moves_nothing() -> None:
    for site in ("iisas", "infn", "ifca"):
        assert moves_of([Fault(10, "checker", site, "killed")]) == 0


def test_all_down_moves_nothing() -> None:
    history = [Fault(10, "server", site, "dead") for site in ("iisas", "infn", "ifca")]
    assert moves_of(history) == 0


def test_a_site_that_dies_is_left_once() -> None:
    for seed in range(10):
        assert moves_of([Fault(10, "server", "infn", "dead"), Fault(10, "server", "infn", "dead")], seed=seed) <= 1


def test_intervals_that_do_not_fit_together_are_refused() -> None:
    assert Rules().problems() == []
    assert Rules(fall=1, view_ttl=1.0, dns_timeout=9.0).problems()
