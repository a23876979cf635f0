"""Which shares are sent, and what is made of the answers: against a model of sys/unseal, not of our own rules."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import unseal
from ansible.module_utils.egi_secrets.api import Health, Node, SealStatus, Secret
from ansible.module_utils.egi_secrets.bundle import Bundle, RootToken
from ansible.module_utils.egi_secrets.cluster import NodeState
from ansible.module_utils.egi_secrets.errors import PgpError, RefusedError
from ansible.module_utils.egi_secrets.keys import KeySet, Previous, Share
from ansible.module_utils.egi_secrets.pgp import Keyrings
from ansible.module_utils.egi_secrets.unseal import NodeReport, ShareBox, SubmitResult, submit
from hypothesis import given
from hypothesis import strategies as st


@dataclass
class Server:
    """sys/unseal as OpenBao 2.7.2 answers it: dedupes, completes at the threshold, forgets all when that fails."""

    key: set[str]
    threshold: int
    received: list[str] = field(default_factory=list)
    sealed: bool = True
    requests: list[str] = field(default_factory=list)

    def status(self) -> SealStatus:
        return SealStatus(True, self.sealed, self.threshold, len(self.key), len(self.received), "", "", "2.7.2")

    def submit_share(self, share: Secret, timeout: float) -> SealStatus:
        assert timeout > 0
        self.requests.append(share.reveal())
        if not self.sealed:
            return self.status()
        if share.reveal() not in self.received:
            self.received.append(share.reveal())
        if len(self.received) >= self.threshold:
            complete, self.received = set(self.received), []
            if not complete <= self.key:
                reasons = ["unable to retrieve stored keys: invalid key: cipher: message authentication failed"]
                raise RefusedError("n1", 400, reasons, "n1 would not take a share.")
            self.sealed = False
        return self.status()

    def reset_unseal(self) -> SealStatus:
        self.requests.append("reset")
        self.received = []
        return self.status()


def run(server: Server, *ours: str) -> SubmitResult:
    return submit(server, [Secret(share) for share in ours], server.status(), lambda: None)  # type: ignore[arg-type]


KEY = {"a", "b", "c", "d"}


@given(
    threshold=st.integers(2, 4),
    ours=st.lists(st.sampled_from(sorted(KEY)), unique=True, min_size=1),
    there=st.lists(st.sampled_from([*sorted(KEY), "x", "y"]), unique=True, max_size=3),
)
def test_good_shares_always_get_as_far_as_they_go(threshold: int, ours: list[str], there: list[str]) -> None:
    server = Server(KEY, threshold, received=there[: threshold - 1])
    before = set(server.received)
    result = run(server, *ours)
    assert not result.wrong
    together = before | set(ours)
    if len(together) < threshold:  # too few, and nothing has shown whether a stranger's share is among them
        assert (server.sealed, set(server.received)) == (True, together)
    elif len(ours) >= threshold or (before <= KEY):
        assert not server.sealed
    else:  # a stranger's share spoilt the attempt, and ours alone are too few
        assert result.afresh or not server.sealed
        assert not server.sealed or set(server.received) <= set(ours)
    assert len(server.requests) <= 2 * len(ours) + 2


@given(threshold=st.integers(2, 3), there=st.lists(st.sampled_from(["a", "x"]), unique=True, max_size=1))
def test_another_clusters_shares_are_found_wrong_and_leave_nothing_behind(threshold: int, there: list[str]) -> None:
    server = Server(KEY, threshold, received=there)
    result = run(server, "p", "q", "r")
    assert result.wrong
    assert (server.sealed, server.received) == (True, [])


def test_shares_that_are_not_needed_are_not_sent() -> None:
    server = Server(KEY, 2)
    run(server, "a", "b", "c")
    assert server.requests == ["a", "b"]


def test_a_share_sent_again_moves_nothing() -> None:
    server = Server(KEY, 2, received=["a"])
    before = NodeState("n1", "sealed", server.status())
    run(server, "a")
    assert not NodeReport(before, NodeState("n1", "sealed", server.status()), 2).changed


def test_the_join_is_prepared_before_the_completing_share_only() -> None:
    server = Server(KEY, 3)
    moments: list[int] = []
    submit(
        server,  # type: ignore[arg-type]
        [Secret(share) for share in "abc"],
        server.status(),
        lambda: moments.append(len(server.requests)),
    )
    assert moments == [2]


def test_a_refusal_for_another_reason_is_passed_on() -> None:
    class Broken(Server):
        def submit_share(self, share: Secret, timeout: float) -> SealStatus:
            raise RefusedError("n1", 503, ["storage is gone"], "n1 would not take a share: storage is gone.")

    with pytest.raises(RefusedError, match="storage is gone"):
        run(Broken(KEY, 2), "a")


def test_a_secret_does_not_show_itself() -> None:
    assert "hush" not in f"{Secret('hush')} {Secret('hush')!r} {[Secret('hush')]}"


class Keyring:
    """Which operators' keys are at hand, which of their cards are elsewhere, and what was decrypted."""

    def __init__(self, *operators: str, elsewhere: tuple[str, ...] = ()) -> None:
        self.homes = {f"FPR-{name}": "" for name in operators}
        self.elsewhere = elsewhere
        self.decrypted: list[str] = []

    def decrypt(self, message: bytes, fingerprint: str, what: str) -> Secret:
        if fingerprint.removeprefix("FPR-") in self.elsewhere:
            raise PgpError(f"gpg could not decrypt {what}: insert the smart card.")
        self.decrypted.append(fingerprint)
        return Secret(f"{message.decode()}{fingerprint}")


def box_of(keyring: Keyring) -> ShareBox:
    shares = tuple(Share(i, name, f"FPR-{name}", "") for i, name in enumerate(("alice", "bob", "carol"), start=1))
    bundle = Bundle("test", "2026-11-22T23:00:00Z", 2, shares, RootToken("alice", "FPR-alice", "gQ==", None))
    box = ShareBox(bundle.keys, [""])
    box._keyrings = keyring  # type: ignore[assignment]
    return box


def test_no_more_shares_are_decrypted_than_are_needed_and_each_once() -> None:
    keyring = Keyring("alice", "bob", "carol")
    box = box_of(keyring)
    assert (box.count, box.operators) == (2, ["alice", "bob", "carol"])
    box.open()
    box.open()
    assert keyring.decrypted == ["FPR-alice", "FPR-bob"]


def test_shares_of_other_operators_are_left_alone() -> None:
    keyring = Keyring("carol", "stranger")
    assert [share.reveal() for share in box_of(keyring).open()] == ["FPR-carol"]


def test_a_share_that_gpg_does_not_open_is_told_of_and_another_stands_in() -> None:
    box = box_of(Keyring("alice", "bob", "carol", elsewhere=("alice",)))
    assert [share.reveal() for share in box.open_what_opens()] == ["FPR-bob", "FPR-carol"]
    assert box.open_what_opens() == box.open_what_opens()
    assert box.unopened == ["gpg could not decrypt share 1 of alice: insert the smart card."]
    with pytest.raises(PgpError, match="share 1 of alice"):
        box.open()


class Member(Server):
    """A sealed member as a run asks it, alone: it never leads."""

    def __init__(self, name: str, keys: KeySet) -> None:
        shares = {base64.b64decode(share.message).decode() + share.fingerprint for share in keys.shares}
        super().__init__(shares, keys.threshold)
        self.node = Node(name, f"https://{name}:8200")
        self.nonces = iter(range(1000))
        self.nonce = ""

    def status(self) -> SealStatus:
        return replace(super().status(), nonce=self.nonce if self.received else "")

    def submit_share(self, share: Secret, timeout: float) -> SealStatus:
        if not self.received:
            self.nonce = f"{next(self.nonces):x}"
        return super().submit_share(share, timeout)

    def health(self) -> Health:
        return Health("sealed" if self.sealed else "standby", 0, "")

    def seal_status(self) -> SealStatus:
        return self.status()


def set_of(mark: str, *operators: str) -> KeySet:
    message = base64.b64encode(mark.encode()).decode()
    return KeySet(2, tuple(Share(i, name, f"FPR-{name}", message) for i, name in enumerate(operators, start=1)))


OLD, NEW = set_of("old ", "alice1", "bob1", "carol"), set_of("new ", "alice2", "bob2", "carol")


def unsealed_by(monkeypatch: pytest.MonkeyPatch, members: list[Member], keyring: Keyring) -> unseal.Outcome:
    """A run with a bundle whose last rekey n3 has not been seen to have."""
    previous = Previous(OLD.threshold, OLD.shares, "2026-11-22T23:00:00Z", 7, ("n3",))
    root = RootToken("alice", "FPR-alice", "gQ==", None)
    bundle = Bundle("test", "2026-11-22T23:00:00Z", 2, NEW.shares, root, serial=1, previous=previous)
    monkeypatch.setattr(Keyrings, "open", lambda _: keyring)
    apis: list[Any] = list(members)
    return unseal.run(apis, bundle, [""], waits=unseal.Waits(0, 0, 0), check_mode=False)


def test_who_replaced_a_card_in_the_rekey_opens_what_wants_the_new_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old card is gone, and its stub is still in the keyring."""
    members = [Member("n1", NEW), Member("n2", NEW), Member("n3", NEW)]
    alice = unsealed_by(monkeypatch, members, Keyring("alice1", "alice2", elsewhere=("alice1",)))
    assert [member.received for member in members] == [["new FPR-alice2"]] * 3
    assert "share 1 of alice1" in alice.messages[0]
    unsealed_by(monkeypatch, members, Keyring("bob1", "bob2", elsewhere=("bob1",)))
    assert [member.sealed for member in members] == [False] * 3


def test_who_has_no_old_share_leaves_an_attempt_with_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member("n3", OLD)]
    unsealed_by(monkeypatch, members, Keyring("alice1"))
    assert members[0].received == ["old FPR-alice1"]
    told = unsealed_by(monkeypatch, members, Keyring("bob2")).messages
    assert members[0].received == ["old FPR-alice1"]
    assert "bob1 or carol can supply it" in told[-1] or "alice1 or bob1 or carol can supply it" in told[-1]
    unsealed_by(monkeypatch, members, Keyring("carol"))
    assert not members[0].sealed


def test_a_threshold_of_new_shares_at_one_keyboard_opens_whatever_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [Member("n3", NEW)]
    unsealed_by(monkeypatch, members, Keyring("alice1"))
    unsealed_by(monkeypatch, members, Keyring("alice2", "bob2"))
    assert not members[0].sealed


def test_without_any_share_that_opens_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PgpError, match="insert the smart card"):
        unsealed_by(monkeypatch, [Member("n1", NEW)], Keyring("alice2", elsewhere=("alice2",)))
