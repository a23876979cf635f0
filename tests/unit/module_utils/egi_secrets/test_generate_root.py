"""Whose attempt is under way, which shares it is given, and what runs tell each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import cluster
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import CeremonyError, NodeError, RefusedError
from ansible.module_utils.egi_secrets.operate import root_grant, root_record, root_shares, root_status
from ansible.module_utils.egi_secrets.operate.root_attempt import Attempt, Share, Wanted, pursue, turn, why_afresh
from ansible.module_utils.egi_secrets.operate.root_grant import Outcome, Place, _swept, discard, given_up, grant, left_over
from ansible.module_utils.egi_secrets.operate.root_record import Record
from ansible.module_utils.egi_secrets.products import AUDIT_LOG
from hypothesis import given
from hypothesis import strategies as st

OURS, THEIRS = "A" * 40, "B" * 40
RECORD = Record("alice", OURS, "b" * 64, since=100.0, written=100.0)
ALICE, BOB, CAROL = Share(1, True, "share-1"), Share(2, False, "share-2"), Share(3, False, "share-3")
WANTED = Wanted("alice", OURS, "key")


@dataclass
class Server:
    """A server's attempts: what it does by itself, and what strangers do just before each request of ours."""

    threshold: int = 2
    nonce: str = ""
    fingerprint: str = ""
    has: list[str] = field(default_factory=list)
    count: int = 0
    strangers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def _answer(self, message: str = "") -> Attempt:
        return Attempt(bool(self.nonce), self.nonce, self.fingerprint, len(self.has), self.threshold, message)

    def _before(self, request: str) -> None:
        self.asked.append(request)
        deed = self.strangers.pop(0) if self.strangers else ""
        if deed == "replace":
            self.begin(THEIRS)
        elif deed == "share" and self.nonce:
            self.take("rubbish")

    def begin(self, fingerprint: str) -> None:
        self.count += 1
        self.nonce, self.fingerprint, self.has = f"nonce-{self.count}", fingerprint, []

    def take(self, key: str) -> bool:
        self.has.append(key)
        if len(self.has) < self.threshold:
            return True
        right = all(each.startswith("share-") for each in self.has)
        self.has = [] if not right else self.has
        return right

    def look(self) -> Attempt:
        self._before("look")
        return self._answer()

    def start(self, pgp_key: str) -> Attempt:
        self._before("start")
        if self.nonce:
            raise RefusedError("", 400, ["root generation already in progress"], "")
        self.begin(OURS)
        return self._answer()

    def cancel(self) -> None:
        self._before("cancel")
        self.nonce, self.has = "", []

    def submit(self, nonce: str, key: str) -> Attempt:
        self._before(f"submit {key}")
        if nonce != self.nonce:
            raise RefusedError("", 400, ["incorrect nonce supplied"], "")
        if not self.take(key):
            raise RefusedError("", 400, ["root generation aborted: invalid key"], "")
        return self._answer("ciphertext" if len(self.has) >= self.threshold else "")


def test_one_operator_after_the_other() -> None:
    server = Server()
    first = pursue(server, replace(WANTED, shares=(BOB,)))
    assert (first.given, first.attempt.message) == ((2,), "")
    second = pursue(server, replace(WANTED, nonce=first.attempt.nonce, given=first.given, shares=(ALICE,)))
    assert (second.given, second.attempt.message, second.messages) == ((2, 1), "ciphertext", [])


def test_a_strangers_attempt_is_cancelled_before_a_share_is_given() -> None:
    server = Server()
    server.begin(THEIRS)
    outcome = pursue(server, replace(WANTED, shares=(BOB,)))
    assert server.asked == ["look", "cancel", "start", "submit share-2"]
    assert "STRANGER" in outcome.messages[0]
    assert f"{AUDIT_LOG} tells from where it came" in outcome.messages[0]
    assert server.fingerprint == OURS


@given(st.lists(st.sampled_from(["", "replace", "share"]), max_size=40), st.booleans())
def test_whatever_strangers_do_no_attempt_of_theirs_has_a_share_of_ours(deeds: list[str], complete: bool) -> None:
    server = Server(strangers=list(deeds))
    shares = (ALICE, BOB) if complete else (BOB,)
    try:
        outcome = pursue(server, replace(WANTED, shares=shares))
    except NodeError as error:
        assert "somebody replaced or spoiled" in str(error) or "does not accept the key" in str(error)
    else:
        assert outcome.attempt.fingerprint == OURS
        assert bool(outcome.attempt.message) == complete
    if server.fingerprint == THEIRS:
        assert not [key for key in server.has if key.startswith("share-")]


def test_a_stranger_who_comes_each_time_is_told_of_and_bounded() -> None:
    server = Server(strangers=["replace"] * 100)
    with pytest.raises(NodeError, match="5 times in a row somebody replaced or spoiled our attempt") as told:
        pursue(server, replace(WANTED, shares=(ALICE, BOB)))
    assert f"Find in {AUDIT_LOG} from where" in str(told.value)
    assert not [request for request in server.asked if request.startswith("submit")] or server.fingerprint == THEIRS


def test_a_share_that_completes_is_the_recipients_alone() -> None:
    assert turn(2, [BOB, CAROL]) == [BOB]
    assert turn(1, [BOB, CAROL]) == []
    assert turn(2, [ALICE]) == []
    assert turn(1, [ALICE]) == [ALICE]
    assert turn(2, [BOB, ALICE, CAROL]) == [BOB, ALICE]
    assert turn(3, [ALICE, BOB]) == [BOB]


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=6))
def test_whatever_is_at_hand_the_last_share_is_the_recipients(left: int, own: list[bool]) -> None:
    shares = [Share(index, mine, f"share-{index}") for index, mine in enumerate(own, start=1)]
    now = turn(left, shares)
    assert len(now) <= left
    assert len(set(now)) == len(now)
    if len(now) == left:
        assert now[-1].own
    else:
        assert not any(share.own for share in now)


@pytest.mark.parametrize(
    ("seen", "nonce", "given_shares", "expected"),
    [
        (Attempt(False, "", "", 0, 2), "", [], ""),
        (Attempt(True, "n", OURS, 1, 2), "n", [2], None),
        (Attempt(False, "", "", 0, 2), "n", [2], "is gone"),
        (Attempt(True, "m", OURS, 0, 2), "n", [], "STRANGER"),
        (Attempt(True, "m", "", 0, 2), "", [], "no PGP key"),
        (Attempt(True, "n", THEIRS, 0, 2), "n", [], "not for alice's"),
        (Attempt(True, "n", OURS, 0, 2), "n", [2], "has 0 shares where our runs gave 1"),
    ],
)
def test_whose_attempt_it_is(seen: Attempt, nonce: str, given_shares: list[int], expected: str | None) -> None:
    told = why_afresh(seen, WANTED, nonce, given_shares)
    assert told == expected if not expected else expected in (told or "")


def test_an_earlier_attempt_of_ours_is_no_strangers() -> None:
    told = why_afresh(Attempt(True, "m", OURS, 1, 2), replace(WANTED, earlier=("l", "m")), "n", [2])
    assert told is not None
    assert "led before" in told


def test_the_attempts_of_our_runs_are_remembered() -> None:
    answer = {"nonce": "o", "given": [], "message": "", "now": 120.0}
    begun = root_shares.after(RECORD, answer)
    assert (begun.nonce, begun.earlier) == ("o", ())
    assert root_shares.after(begun, answer).earlier == ()
    assert root_shares.after(begun, {**answer, "nonce": "p"}).earlier == ("o",)


def test_a_record_of_an_earlier_release_is_read() -> None:
    content = json.loads(RECORD.render())
    for name in ("earlier", "digest", "unswept"):
        del content[name]
    assert root_record.parse(json.dumps(content)) == RECORD


def test_a_share_is_in_no_representation() -> None:
    assert "share-1" not in repr(ALICE)
    assert "share-1" not in repr(replace(WANTED, shares=(ALICE,)))


def test_a_record_comes_back_as_it_was_written_and_the_newest_counts() -> None:
    record = replace(RECORD, nonce="n", given=(2, 3))
    assert root_record.parse(record.render()) == record
    later = replace(record, written=200.0, given=(2, 3, 1))
    assert root_record.newest([later.render(), record.render(), "", "{}", "no json", "[]"]) == later
    assert root_record.newest([]) is None


@pytest.mark.parametrize("field_name", ["given", "since", "operator"])
def test_a_record_that_is_damaged_is_none(field_name: str) -> None:
    content = json.loads(RECORD.render())
    assert root_record.parse(json.dumps({key: value for key, value in content.items() if key != field_name})) is None


def test_what_a_killed_run_left_over() -> None:
    made = {"policies": ["root"], "path": "auth/token/root", "creation_time": 150, "meta": None}
    assert left_over(made, RECORD)
    assert not left_over({**made, "creation_time": 50}, RECORD)
    assert not left_over({**made, "path": "auth/token/create"}, RECORD)
    assert left_over({**made, "path": "auth/token/create-orphan", "meta": {"made_by": "generate-root"}}, RECORD)


BOB_WANTS = root_shares.Recipient("bob", SimpleNamespace(fingerprint=THEIRS))  # type: ignore[arg-type]
ALICE_WANTS = root_shares.Recipient("alice", SimpleNamespace(fingerprint=OURS))  # type: ignore[arg-type]


def goes_on(record: Record, whom: root_shares.Recipient, bundle_id: str = RECORD.bundle_id) -> Record:
    return root_shares.continued(record, whom, SimpleNamespace(bundle_id=bundle_id), 400.0)  # type: ignore[arg-type]


def test_who_goes_on_with_what_is_remembered() -> None:
    begun = replace(RECORD, nonce="n", given=(2,), earlier=("m",))
    assert goes_on(begun, ALICE_WANTS) == begun
    with pytest.raises(CeremonyError, match="An attempt for alice is under way"):
        goes_on(begun, BOB_WANTS)
    with pytest.raises(CeremonyError, match="alice has a root token until"):
        goes_on(replace(RECORD, accessor="a", expires=500.0), BOB_WANTS)


def test_after_a_rekey_the_attempt_is_still_known_as_ours() -> None:
    begun = replace(RECORD, nonce="n", given=(2,), earlier=("m",))
    on = goes_on(begun, ALICE_WANTS, bundle_id="c" * 64)
    assert (on.nonce, on.given, on.earlier, on.since) == ("", (), ("m", "n"), begun.since)


def test_a_token_that_its_operator_cannot_open_any_more_keeps_nobody_out() -> None:
    made = replace(RECORD, nonce="n", given=(2, 1), message="x")
    on = goes_on(made, BOB_WANTS)
    assert (on.operator, on.message, on.nonce, on.since) == ("bob", "", "", made.since)
    assert left_over({"path": "auth/token/root", "creation_time": made.since + 50}, on)
    assert goes_on(made, ALICE_WANTS) == made


def test_what_is_given_up_is_still_revoked_by_the_next_run() -> None:
    begun = replace(RECORD, nonce="n", given=(2,), earlier=("m",))
    left = given_up(begun, 300.0)
    assert left == replace(begun, nonce="", given=(), earlier=("m", "n"), written=300.0)
    assert given_up(left, 310.0) == left
    on = goes_on(left, BOB_WANTS)
    assert (on.operator, on.since, on.earlier) == ("bob", begun.since, ("m", "n"))


def test_what_was_not_looked_through_is_by_the_next_run() -> None:
    granted = replace(RECORD, accessor="a", expires=300.0, digest="d", unswept=True)
    on = goes_on(granted, BOB_WANTS)
    assert (on.since, on.unswept) == (RECORD.since, True)
    left = given_up(granted, 350.0)
    assert left == replace(RECORD, unswept=True, written=350.0)
    assert given_up(left, 360.0) == left
    assert goes_on(left, BOB_WANTS).since == RECORD.since


def test_what_was_looked_through_does_not_count_for_the_next_run() -> None:
    assert goes_on(replace(RECORD, accessor="a", expires=300.0), ALICE_WANTS).since == 400.0


def test_a_token_of_shares_that_is_given_up_is_remembered_where_not_all_were_looked_through() -> None:
    assert given_up(replace(RECORD, nonce="n", given=(2, 1), message="x", unswept=True), 300.0) == replace(
        RECORD, earlier=("n",), unswept=True, written=300.0
    )


def test_what_has_ended_is_forgotten() -> None:
    assert given_up(None, 300.0) is None
    assert given_up(replace(RECORD, nonce="n", message="x"), 300.0) is None
    assert given_up(replace(RECORD, earlier=("m",), accessor="a", expires=500.0), 300.0) is None


class Member:
    """The API of a cluster's one member, which leads when its health is asked for the n-th time; it knows one token."""

    def __init__(self, leads_from: int = 1) -> None:
        self.node = SimpleNamespace(name="n1")
        self.ca_file, self.timeout = "", 0.0
        self.policies: list[str] | None = ["root"]
        self.asked = 0
        self._leads_from = leads_from

    def health(self) -> Any:
        self.asked += 1
        return SimpleNamespace(role="active" if self.asked >= self._leads_from else "standby", second=400)

    def token_policies(self, _: Secret) -> list[str] | None:
        return self.policies

    def revoke_token(self, _: Secret) -> None:
        self.policies = None


def test_an_election_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    members: Any = [Member(leads_from=3)]
    assert discard(members, None, [], tmp_path / "root-token.asc") == Outcome(None, False)


def test_the_file_of_another_token_does_not_end_the_one_that_is_out(tmp_path: Path) -> None:
    file = tmp_path / "root-token.asc"
    file.write_text("an earlier token")
    record = replace(RECORD, accessor="a", expires=500.0, digest="0" * 64)
    members: Any = [Member()]
    with pytest.raises(CeremonyError, match=r"has another token in .*: let alice run this where it was made, or wait"):
        discard(members, record, [], file)


class Tokens:
    """A server with tokens, some of which end between the list and the look."""

    def __init__(self, ended: RefusedError) -> None:
        self.ended = ended
        self.revoked: list[str] = []

    def names(self, _: str) -> list[str]:
        return ["gone", "left", "users"]

    def each(self, names: list[str], call: Callable[[str], object]) -> list[object]:
        return [call(name) for name in names]

    def write(self, path: str, body: dict[str, str]) -> dict[str, object]:
        if path.endswith("revoke-accessor"):
            self.revoked.append(body["accessor"])
            return {}
        if body["accessor"] == "gone":
            raise self.ended
        policies = ["root"] if body["accessor"] == "left" else ["default"]
        return {
            "data": {"accessor": body["accessor"], "policies": policies, "path": "auth/token/root", "creation_time": 150}
        }


@pytest.mark.parametrize(("status", "reason"), [(400, "invalid accessor"), (403, "bad token"), (404, "no such token")])
def test_a_token_that_ends_meanwhile_is_passed_over(status: int, reason: str) -> None:
    server = Tokens(RefusedError("n1", status, [reason], "n1 refused."))
    told, swept = _swept(server, RECORD, set())  # type: ignore[arg-type]
    assert (server.revoked, swept) == (["left"], True)
    assert "left over is revoked" in told[0]


def test_what_could_not_be_looked_through_is_told_and_stops_nothing() -> None:
    server = Tokens(RefusedError("n1", 500, ["storage is gone"], "n1: storage is gone."))
    told, swept = _swept(server, RECORD, set())  # type: ignore[arg-type]
    assert not swept
    assert "Not all tokens could be looked through (n1: storage is gone)" in told[0]


class Acting:
    """A server at which the token of the shares acts, and which fails when all tokens are listed."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> Acting:
        return self

    def __exit__(self, *_: object) -> None: ...

    def act_with(self, _: Secret) -> None: ...

    def read(self, _: str) -> dict[str, str]:
        return {"accessor": "own"}

    def write(self, _: str, __: object) -> dict[str, dict[str, str]]:
        return {"auth": {"client_token": "s.made", "accessor": "made"}}

    def names(self, _: str) -> list[str]:
        raise RefusedError("n1", 503, ["sealed"], "n1: it is sealed.")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Record:
    """A record with a token that shares made, which opens without GnuPG, on a server that lists no tokens."""
    monkeypatch.setattr(root_grant, "Server", Acting)
    monkeypatch.setattr(root_grant, "_decrypted", lambda *_: Secret("s.shares"))
    monkeypatch.setattr(root_grant, "encrypt", lambda *_: "ciphertext")
    return replace(RECORD, nonce="n", given=(2, 1), message="bWVzc2FnZQ==")


def test_a_token_that_was_handed_over_does_not_hide_that_others_were_not_looked_through(
    made: Record, tmp_path: Path
) -> None:
    members: Any = [Member()]
    key: Any = None
    done = grant(members, made, key, [], Place(tmp_path / "root-token.asc", 600)).record
    assert done is not None
    assert (done.accessor, done.since, done.unswept) == ("made", made.since, True)


@pytest.mark.parametrize("unswept", [True, False])
def test_nor_does_a_run_that_was_killed_before_anything_was_handed_over(made: Record, tmp_path: Path, unswept: bool) -> None:
    members: Any = [Member()]
    members[0].policies = None  # the token of the shares was revoked
    key: Any = None
    left = grant(members, replace(made, unswept=unswept), key, [], Place(tmp_path / "root-token.asc", 600)).record
    assert (left is not None and (left.since, left.message) == (made.since, "")) is unswept


def test_discarding_does_not_hide_it_either(made: Record, tmp_path: Path) -> None:
    members: Any = [Member()]
    left = discard(members, made, [], tmp_path / "root-token.asc").record
    assert left is not None
    assert (left.since, left.unswept) == (made.since, True)


@pytest.mark.parametrize(
    ("record", "attempts", "expected"),
    [
        (None, [], []),
        (None, [{"started": True, "nonce": "m"}], ["no run of ours started"]),
        (replace(RECORD, nonce="n"), [{"started": True, "nonce": "n"}], ["An attempt at a root token for alice"]),
        (
            replace(RECORD, nonce="n"),
            [{"started": True, "nonce": "m"}],
            ["for alice is under way", "no run of ours started"],
        ),
        (replace(RECORD, nonce="n", earlier=("m",)), [{"started": True, "nonce": "m"}], ["for alice is under way"]),
        (replace(RECORD, message="x"), [], ["never ends by itself"]),
        (replace(RECORD, accessor="a", expires=500.0), [], ["alice has a root token until"]),
        (replace(RECORD, accessor="a", expires=300.0), [], []),
    ],
)
def test_status_tells_what_needs_doing(
    record: Record | None, attempts: list[dict[str, object]], expected: list[str]
) -> None:
    told = root_status.todo([record.render()] if record else [], attempts, 400.0)
    assert len(told) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, told, strict=True))
