"""The plan: carried out it leaves nothing to do, and it never touches what is not this project's to touch."""

from __future__ import annotations

from collections.abc import Iterable

from ansible.module_utils.egi_secrets.reconcile import plan as plans
from ansible.module_utils.egi_secrets.reconcile.ledger import VOS, Ledger, hash_of, matches
from ansible.module_utils.egi_secrets.reconcile.live import Live
from ansible.module_utils.egi_secrets.reconcile.objects import KEPT_KINDS, KINDS, Ident, Wanted
from ansible.module_utils.egi_secrets.reconcile.plan import Plan
from ansible.module_utils.egi_secrets.reconcile.proof import CANDIDATE_AUTH
from hypothesis import given
from hypothesis import strategies as st

KINDS_OF_CONTENT = ("mount", "auth", "policy", "role", "group", "quota")
idents = st.builds(Ident, st.sampled_from(KINDS_OF_CONTENT), st.sampled_from(["a", "b", "c", "jwt/a", "jwt/b"]))
contents = st.dictionaries(st.sampled_from(["ttl", "policies", "rate"]), st.sampled_from([1, 2, "x", "y"]), max_size=2)
configurations = st.dictionaries(idents, contents, max_size=8)


def live_of(configuration: dict[Ident, dict[str, object]]) -> Live:
    return Live(content=dict(configuration), present=set(configuration))


def ledger_of(made: Iterable[Ident]) -> Ledger:
    ledger = Ledger()
    for ident in made:
        ledger.made[ident.kind].add(ident.name)
    return ledger


def carried_out(plan: Plan, live: Live) -> Live:
    after = Live(dict(live.content), set(live.present))
    for step in plan.steps:
        if step.wanted:
            after.content[step.ident] = {**after.content.get(step.ident, {}), **step.wanted.content}
            after.present.add(step.ident)
        else:
            after.content.pop(step.ident, None)
            after.present.discard(step.ident)
    return after


def make(wanted: dict[Ident, dict[str, object]], live: Live, ledger: Ledger, **more: object) -> Plan:
    objects = [Wanted(ident, content) for ident, content in wanted.items()]
    return plans.make(objects, live, ledger, vos=(), remove=more.get("remove", ()))  # type: ignore[arg-type]


@given(configurations, configurations, st.sets(idents))
def test_carried_out_it_leaves_nothing_to_do(
    wanted: dict[Ident, dict[str, object]], there: dict[Ident, dict[str, object]], made: set[Ident]
) -> None:
    live, ledger = live_of(there), ledger_of(made)
    plan = make(wanted, live, ledger)
    after = carried_out(plan, live)
    removed = [step.ident for step in plan.steps if step.action == "remove"]
    kept = plans.made_after([Wanted(ident, {}) for ident in wanted], ledger, (), removed)
    assert not make(wanted, after, Ledger(kept)).changes


@given(configurations, configurations, st.sets(idents))
def test_what_it_removes_is_ours_and_holds_no_users_data(
    wanted: dict[Ident, dict[str, object]], there: dict[Ident, dict[str, object]], made: set[Ident]
) -> None:
    plan = make(wanted, live_of(there), ledger_of(made))
    for step in plan.steps:
        if step.action == "remove":
            assert step.ident in made
            assert step.ident.kind not in KEPT_KINDS
            assert step.ident not in wanted
    assert not set(plan.foreign) & (made | wanted.keys())
    assert {ident for ident in there if ident not in wanted} == set(plan.foreign) | {
        step.ident for step in plan.steps if step.action == "remove"
    } | {ident for ident in there if str(ident) in plan.kept}


@given(configurations, configurations, st.sets(idents))
def test_what_others_name_is_made_first_and_removed_last(
    wanted: dict[Ident, dict[str, object]], there: dict[Ident, dict[str, object]], made: set[Ident]
) -> None:
    steps = make(wanted, live_of(there), ledger_of(made)).steps
    written = [KINDS.index(step.ident.kind) for step in steps if step.action != "remove"]
    removed = [KINDS.index(step.ident.kind) for step in steps if step.action == "remove"]
    assert written == sorted(written)
    assert removed == sorted(removed, reverse=True)
    assert [step.action == "remove" for step in steps] == sorted(step.action == "remove" for step in steps)


def test_what_operators_need_is_written_before_the_rest_of_its_kind() -> None:
    wanted = [Wanted(Ident("policy", "a"), {}), Wanted(Ident("policy", "z"), {}, access=True)]
    plan = plans.make(wanted, Live(), Ledger(), vos=(), remove=())
    assert [step.ident.name for step in plan.steps] == ["z", "a"]


def test_what_holds_users_data_goes_only_by_name() -> None:
    there: dict[Ident, dict[str, object]] = {Ident("mount", "old"): {}, Ident("auth", "old"): {}}
    ledger = ledger_of(there)
    assert make({}, live_of(there), ledger).kept == ["auth:old", "mount:old"]
    named = make({}, live_of(there), ledger, remove=("mount:old",))
    assert [str(step.ident) for step in named.steps] == ["mount:old"]


def test_roles_go_with_their_auth_method() -> None:
    there: dict[Ident, dict[str, object]] = {Ident("auth", "old"): {}, Ident("role", "old/a"): {}}
    plan = make({}, live_of(there), ledger_of([Ident("auth", "old")]), remove=("auth:old",))
    assert [str(step.ident) for step in plan.steps] == ["auth:old"]
    assert plan.foreign == []


def test_a_vo_that_is_declared_no_longer_keeps_its_secrets_until_it_is_named() -> None:
    ledger = Ledger()
    ledger.made[VOS] = {"vo.one", "vo.two"}
    assert plans.make([], Live(), ledger, vos=["vo.one"], remove=()).kept == ["vo:vo.two"]
    assert plans.make([], Live(), ledger, vos=["vo.one"], remove=["vo:vo.two"]).folders == ["vo.two"]


def test_what_a_killed_run_rehearsed_is_cleared_away_and_somebody_elses_is_not() -> None:
    there: dict[Ident, dict[str, object]] = {
        Ident("auth", f"jwt{CANDIDATE_AUTH}"): {},
        Ident("policy", "operator.candidate"): {},
    }
    assert {step.ident for step in make({}, live_of(there), ledger_of(there)).steps} == set(there)
    assert make({}, live_of(there), Ledger()).foreign == sorted(there)


def test_what_is_neither_there_nor_declared_is_forgotten() -> None:
    made = ledger_of([Ident("policy", "gone"), Ident("policy", "there"), Ident("policy", "wanted")]).made
    there: dict[Ident, dict[str, object]] = {Ident("policy", "there"): {}}
    known = plans.still_there(made, [Wanted(Ident("policy", "wanted"), {})], live_of(there))
    assert known["policy"] == {"there", "wanted"}


def test_the_built_in_policy_default_is_never_removed_and_never_foreign() -> None:
    there: dict[Ident, dict[str, object]] = {Ident("policy", "default"): {"policy": "x"}}
    plan = make({}, live_of(there), ledger_of(there))
    assert not plan.changes
    assert plan.foreign == []


def test_a_part_removes_nothing() -> None:
    there: dict[Ident, dict[str, object]] = {Ident("policy", "old"): {}}
    plan = plans.make([], live_of(there), ledger_of(there), vos=(), remove=(), partial=True)
    assert not plan.changes


def test_a_secret_is_known_by_its_hash() -> None:
    hashed = hash_of("correct horse")
    assert matches("correct horse", hashed)
    assert not matches("battery staple", hashed)
    assert not matches("correct horse", "")
    assert not matches("correct horse", "garbage")
    assert hash_of("correct horse") != hashed
