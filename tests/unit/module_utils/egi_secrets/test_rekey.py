"""A rekey by operators in turn, cut off anywhere, against a model of the server: no history loses the keys, all converge."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.egi_secrets import bundle as bundles
from ansible.module_utils.egi_secrets import initialise, proving, unseal
from ansible.module_utils.egi_secrets.api import Node, SealStatus, Secret
from ansible.module_utils.egi_secrets.bundle import Bundle, RootToken
from ansible.module_utils.egi_secrets.errors import CeremonyError, RefusedError
from ansible.module_utils.egi_secrets.keys import Holder, KeySet, Ours, Pending, Previous, Share
from ansible.module_utils.egi_secrets.operate import rekey, session
from ansible.module_utils.egi_secrets.operate.rekey_plan import Wanted, decide, foreign
from ansible.module_utils.egi_secrets.operate.rekey_server import Attempt
from ansible.module_utils.egi_secrets.pgp import PublicKey
from ansible.module_utils.egi_secrets.preflight import Operator
from ansible.module_utils.egi_secrets.products import AUDIT_LOG, OPENBAO
from hypothesis import given, settings
from hypothesis import strategies as st

ROLE = Path(__file__).parents[4] / "roles" / "vault_cluster" / "tasks"
NODES = ("n1", "n2", "n3")
PEOPLE = ("alice", "bob", "carol")
STEPS: tuple[rekey.Step, ...] = ("begin", "give", "verify", "close")


class CutError(Exception):
    """The controller loses its power."""


@dataclass
class Rotation:
    """An attempt in the memory of a node."""

    nonce: str
    threshold: int
    fingerprints: list[str]
    given: set[str] = field(default_factory=set)
    verifying: str = ""
    dealt: str = ""
    verified: list[str] = field(default_factory=list)

    def answer(self, required: int) -> dict[str, Any]:
        return {
            "started": True,
            "nonce": self.nonce,
            "t": self.threshold,
            "n": len(self.fingerprints),
            "pgp_fingerprints": [each.lower() for each in self.fingerprints],
            "progress": len(self.given),
            "required": required,
            "verification_required": True,
            "verification_nonce": self.verifying,
        }


@dataclass
class World:
    """Three nodes, the keys that are really in force, and controllers that may die.

    A node keeps its attempt when another leads, and goes on with it when it leads again, as OpenBao 2.7.2 does.
    """

    controllers: dict[str, Path]
    copies: dict[str, str] = field(default_factory=dict)
    retired: dict[str, dict[str, str]] = field(default_factory=lambda: {node: {} for node in NODES})
    leader: str = "n1"
    truth: str = "k0"
    numbers: tuple[int, int] = (2, 3)
    made: int = 0
    fuse: int = -1
    attempts: dict[str, Rotation] = field(default_factory=dict)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer as the active node does; the power may go before a request, or before its answer arrives."""
        if self.fuse == 0:
            raise CutError
        answer = self._answer(method, path.rpartition("/")[2], body or {})
        self.fuse -= 1
        if self.fuse == 0:
            raise CutError
        return {"data": answer}

    def _answer(self, method: str, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        rotation = self.attempts.get(self.leader)
        if what == "init" and method == "POST":
            assert rotation is None, "rotation already in progress"
            keys = [base64.b64decode(key).decode() for key in body["pgp_keys"]]
            rotation = self.attempts[self.leader] = Rotation(self.name("a"), body["secret_threshold"], keys)
            return rotation.answer(self.numbers[0])
        if what == "init" and method == "DELETE":
            # As HashiCorp Vault from 1.20 on; OpenBao cancels whatever it is given.
            assert rotation is None or body.get("nonce") == rotation.nonce, "invalid nonce"
            self.attempts.pop(self.leader, None)
            return {}
        if what == "init":
            return rotation.answer(self.numbers[0]) if rotation else {"started": False}
        assert rotation is not None
        if method == "DELETE":
            rotation.verified, rotation.verifying = [], self.name("v")
        if method in ("GET", "DELETE"):
            return {"progress": len(rotation.verified), "nonce": rotation.verifying}
        return self._update(rotation, body) if what == "update" else self._verify(rotation, body)

    def _update(self, rotation: Rotation, body: Mapping[str, Any]) -> dict[str, Any]:
        assert (body["nonce"], rotation.verifying) == (rotation.nonce, "")
        refuse_twice(body["key"], rotation.given)
        rotation.given.add(body["key"])
        if len(rotation.given) < self.numbers[0]:
            return rotation.answer(self.numbers[0])
        given, rotation.given = rotation.given, set()
        if {each.partition(":")[0] for each in given} != {self.truth}:
            raise RefusedError("n", 400, ["cipher: message authentication failed"], "no")
        rotation.dealt, rotation.verifying = self.name("k"), self.name("v")
        messages = [message(rotation.dealt, index) for index, _ in enumerate(rotation.fingerprints, start=1)]
        return {"complete": True, "keys_base64": messages}

    def _verify(self, rotation: Rotation, body: Mapping[str, Any]) -> dict[str, Any]:
        assert body["nonce"] == rotation.verifying
        rotation.verified.append(body["key"])  # even one that it has
        if len(rotation.verified) < rotation.threshold:
            return {"progress": len(rotation.verified), "nonce": rotation.verifying}
        given, rotation.verified = rotation.verified, []
        if {each.partition(":")[0] for each in given} != {rotation.dealt} or len(set(given)) < len(given):
            rotation.verifying = self.name("v")
            raise RefusedError("n", 400, ["rotation verification failed; incorrect key shares supplied"], "no")
        self.truth, self.numbers = rotation.dealt, (rotation.threshold, len(rotation.fingerprints))
        del self.attempts[self.leader]
        return {"complete": True}

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{kind}{self.made}"

    def newest(self) -> Bundle:
        return bundles.reconcile({node: bundles.parse(text, node) for node, text in self.copies.items()})

    def run(
        self,
        controller: str,
        people: tuple[str, ...],
        threshold: int,
        *,
        fuse: int = -1,
        reached: int = -1,
        anew: bool = False,
        steps: tuple[rekey.Step, ...] = STEPS,
    ) -> list[str]:
        """Run the playbook; what an operator would see.

        Args:
            controller: whose.
            people: whose keyrings are at hand.
            threshold: what the inventory wants.
            fuse: after how many requests the power goes; negative: never.
            reached: how many files of nodes a step changes before it goes; negative: all.
            anew: whether new shares are dealt even where nothing is to change.
            steps: as far as it comes.
        """
        path = self.controllers[controller]
        own = bundles.read(path)
        found = {node: bundles.parse(text, node) for node, text in self.copies.items()}
        bundle, _, _ = proving.look(bundles.reconcile(found | ({"own": own.bundle} if own else {})), self.apis())
        bundles.write(path, bundle.render())
        self.keep("", bundle.render(), -1)
        operators = [Operator(name, "", 1) for name in PEOPLE]
        request = rekey.Request(operators, threshold, 90, str(path), list(people), anew)
        told = []
        self.fuse = fuse
        for step in steps:
            with using(self):
                outcome = rekey.run({}, OPENBAO, self.apis(), request, step, check_mode=False)
            told += outcome.messages
            self.keep(outcome.retired.render() if outcome.retired else "", path.read_text(), reached)
        return told

    def keep(self, retired: str, text: str, reached: int) -> None:
        """Write as rekey-step.yml does: what was replaced on every node, and then the bundle."""
        stale = [self.retired[node] for node in NODES if retired and self.retired[node].get(key_id(retired)) != retired]
        for place in stale[: reached if reached >= 0 else None]:
            place[key_id(retired)] = retired
        left = reached - len(stale) if reached >= 0 else len(NODES)
        behind = [node for node in NODES if self.copies[node] != text]
        self.copies |= dict.fromkeys(behind[: max(left, 0)], text)
        if left < len(behind):
            raise CutError

    def apis(self) -> list[Any]:
        return [Api(self, Node(name, f"https://{name}:8200")) for name in NODES]


@dataclass
class Api:
    """A node that is open and has all that the leader has."""

    world: World
    node: Node

    def seal_status(self) -> SealStatus:
        return SealStatus(True, False, *self.world.numbers, 0, "", "", "2.7.2")

    def raft_index(self) -> int:
        return self.world.made


class Rings:
    """Keyrings of people who are at hand."""

    def __init__(self, people: list[str]) -> None:
        self.homes = {name.upper(): name for name in people}

    @classmethod
    def open(cls, homes: list[str]) -> Rings:
        return cls(homes)

    def decrypt(self, ciphertext: bytes, fingerprint: str, _what: str) -> Secret:
        assert fingerprint in self.homes
        return Secret(ciphertext[1:].decode())


def message(key: str, index: int) -> str:
    return base64.b64encode(b"\x84" + f"{key}:{index}".encode()).decode()


def refuse_twice(share: str, given: set[str]) -> None:
    if share in given:
        raise RefusedError("n", 400, ["given key has already been provided during this rotation"], "twice")


@contextmanager
def using(world: World) -> Iterator[None]:
    """Have the project's code talk to the model."""

    @contextmanager
    def as_operator(_params: object, node: Node) -> Iterator[Any]:
        class Server:
            def __init__(self) -> None:
                self.node = node

            def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
                return world.request(method, path, body)

        yield Server()

    keys = {name: PublicKey(name.upper(), name, name.upper().encode(), None) for name in PEOPLE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "leader_of", lambda _: (Node(world.leader, f"https://{world.leader}:8200"), 0))
        patch.setattr(session, "as_operator", as_operator)
        patch.setattr(initialise, "load_keys", lambda _: keys)
        patch.setattr(rekey, "check_keys", lambda *_: (keys, [], []))
        patch.setattr(unseal, "Keyrings", Rings)
        yield


def first_bundle() -> Bundle:
    shares = tuple(Share(i, name, name.upper(), message("k0", i)) for i, name in enumerate(PEOPLE, start=1))
    token = RootToken("alice", "ALICE", message("root", 1), None)
    return Bundle("test", "2026-11-22T23:00:00Z", 2, shares, token)


def key_id(text: str) -> str:
    return bundles.parse(text, "here").bundle_id


def key_of(keys: KeySet) -> str:
    return base64.b64decode(keys.shares[0].message)[1:].decode().partition(":")[0]


events = st.fixed_dictionaries(
    {
        "controller": st.sampled_from(["a", "b"]),
        "people": st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True).map(tuple),
        "threshold": st.sampled_from([2, 3, 3, 3]),
        "fuse": st.one_of(st.just(-1), st.integers(1, 14)),  # a whole run makes a dozen requests
        "reached": st.sampled_from([-1, -1, -1, -1, 0, 1, 2, 3, 4, 5]),
        "then": st.sampled_from(["", "", "another leads", "a stranger begins", "the controller is lost"]),
    }
)


def world_in(place: Path) -> World:
    controllers = {name: place / name / "unseal-bundle.json" for name in ("a", "b", "c")}
    return World(controllers, dict.fromkeys(NODES, first_bundle().render()))


def assert_safe(world: World) -> None:
    """Whatever was lost with a controller: the nodes' copies alone have the keys that a node may want."""
    assert world.truth in {key_of(keys) for keys in world.newest().candidates("n1")}


def assert_converges(world: World, threshold: int = 3, *, in_turn: bool = False) -> None:
    """Operators at another controller, who have what the nodes have, bring it to its end, together or in turn."""
    told: list[str] = []
    for people in [(person,) for person in PEOPLE] * 6 if in_turn else [PEOPLE] * 6:
        told = world.run("c", people, threshold)
        if any("as the inventory wants" in each for each in told):
            break
    else:
        raise AssertionError(told)
    final = world.newest()
    assert (key_of(final.keys), final.threshold, world.numbers) == (world.truth, threshold, (threshold, 3))
    assert (final.pending, final.previous) == (None, None)
    assert world.leader not in world.attempts
    assert set(world.copies.values()) == {final.render()}


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("threshold", [2, 3])
def test_cut_off_at_any_request_another_controller_goes_on(tmp_path: Path, threshold: int, moves: bool) -> None:
    """The power goes while the answer to a request is on its way; the numbers may be the same before and after."""
    cut = 0
    for fuse in range(1, 20):
        world = world_in(tmp_path / str(fuse))
        try:
            world.run("a", PEOPLE, threshold, fuse=fuse, anew=True)
        except CutError:
            cut += 1
        world.fuse = -1
        assert_safe(world)
        if moves:
            world.leader = "n2"
        assert_converges(world, threshold)
    assert cut > 10


@pytest.mark.parametrize("then", ["the same controller", "another one", "another one, by the same numbers"])
@pytest.mark.parametrize("reached", range(6))
def test_what_was_replaced_comes_to_every_node_wherever_a_run_was_cut_off(tmp_path: Path, reached: int, then: str) -> None:
    """After the new keys are in force, before or while their bundle and the old one are kept on the nodes."""
    world = world_in(tmp_path)
    old, threshold = first_bundle(), 2 if "numbers" in then else 3
    world.run("a", PEOPLE, threshold, anew=True, steps=STEPS[:3])
    with pytest.raises(CutError):
        world.run("a", PEOPLE, threshold, reached=reached)
    for text, retired in zip(world.copies.values(), world.retired.values(), strict=True):
        assert old.bundle_id in retired or key_id(text) == old.bundle_id
    controller = "a" if then == "the same controller" else "b"
    world.run(controller, PEOPLE, threshold)
    assert [set(retired) for retired in world.retired.values()] == [{old.bundle_id}] * 3
    kept = [dict(retired) for retired in world.retired.values()]
    world.run(controller, ("alice",), threshold)
    assert [dict(retired) for retired in world.retired.values()] == kept


def test_what_was_replaced_is_returned_by_who_has_it(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.run("a", PEOPLE, 3)
    kept = dict(world.retired["n1"])
    revoked = bundles.mark_revoked(world.newest(), "2026-11-24T00:00:00Z")
    world.copies, world.retired = dict.fromkeys(NODES, revoked.render()), {node: {} for node in NODES}
    world.run("b", ("alice",), 3)
    assert world.retired["n1"] == {}
    world.run("a", ("alice",), 3)
    assert list(world.retired["n1"]) == list(kept)
    assert '"revoked_at": "2026-11-24' in world.retired["n1"][OLD.bundle_id]

    (place,) = world.controllers["a"].parent.glob("*.retired-*")
    place.write_text("{")
    world.retired = {node: {} for node in NODES}
    told = world.run("a", ("alice",), 3)
    assert any(f"{place} has the shares that older snapshots want" in each for each in told)
    previous = Previous(2, OLD.shares, "2026-11-23T00:00:00Z", 10**6, ("n3",))
    world.copies = dict.fromkeys(NODES, replace(revoked, serial=revoked.serial + 1, previous=previous).render())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "PATIENCE", 0.0)
        world.run("a", ("alice",), 3)
    assert list(world.retired["n3"]) == [OLD.bundle_id]


def test_the_role_goes_a_step_as_the_model_does() -> None:
    kinds = ("ansible.builtin.import_tasks", "vault_cluster_rekey", "host_files")
    tasks = yaml.safe_load((ROLE / "rekey-step.yml").read_text())
    done = [(kind, task[kind]) for task in tasks for kind in kinds if kind in task]
    assert [what if kind == kinds[0] else kind for kind, what in done] == [
        "renew-lock.yml",
        "vault_cluster_rekey",
        "host_files",
        "keep-bundle.yml",
    ]


@settings(max_examples=60)
@given(history=st.lists(events, max_size=8), in_turn=st.booleans())
def test_no_history_loses_the_keys_and_every_one_converges(history: list[dict[str, Any]], in_turn: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        world = world_in(Path(place))
        for event in history:
            then = event["then"]
            with suppress(CutError):
                world.run(
                    event["controller"], event["people"], event["threshold"], fuse=event["fuse"], reached=event["reached"]
                )
            world.fuse = -1
            assert_safe(world)
            if then == "another leads":
                world.leader = NODES[(NODES.index(world.leader) + 1) % 3]
            elif then == "a stranger begins" and world.leader not in world.attempts:
                world.attempts[world.leader] = Rotation(world.name("a"), 1, [])
            elif then == "the controller is lost":
                world.controllers[event["controller"]].unlink(missing_ok=True)
        assert_converges(world, in_turn=in_turn)


def world_in_doubt(place: Path, threshold: int, *, arrived: bool) -> World:
    """The last share of the verification arrived, or did not; nobody knows, and another node leads."""
    world = world_in(place)
    if threshold == 3:
        world.run("a", PEOPLE, 3)
    world.run("a", PEOPLE, threshold, anew=True, steps=STEPS[:3])
    pending = world.newest().pending
    assert pending
    assert pending.closing
    if arrived:
        (rotation,) = world.attempts.values()
        world.truth = rotation.dealt
    world.leader = "n2"
    return world


@pytest.mark.parametrize("stranger", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("threshold", [2, 3])
def test_one_share_at_a_time_settles_which_keys_are_in_force(
    tmp_path: Path, threshold: int, arrived: bool, stranger: int | None
) -> None:
    """A stranger's share costs a round of each set at most: the one that it spoils, and the other one's."""
    world = world_in_doubt(tmp_path, threshold, arrived=arrived)
    old, told, runs = world.newest().bundle_id, list[str](), 0
    world.run("a", (), threshold)
    while (pending := world.newest().pending) and pending.closing:
        assert runs < (2 if stranger is None else 4) * threshold, told
        if runs == stranger and pending.proof:
            with suppress(RefusedError):
                world.request("POST", "sys/rotate/root/update", {"key": "stranger:1", "nonce": pending.proof.nonce})
        told += world.run("abc"[runs % 3], (PEOPLE[runs % 3],), threshold)
        runs += 1
        assert_safe(world)
    assert (world.newest().bundle_id != old) == arrived
    assert not any("must run it again" in each for each in told)
    assert any("refused the new shares" in each for each in told) == (not arrived or stranger in range(threshold - 1))
    assert_converges(world, threshold)


@pytest.mark.parametrize("arrived", [False, True])
def test_a_threshold_of_one_keyboard_decides_whatever_a_stranger_gave(tmp_path: Path, arrived: bool) -> None:
    world = world_in_doubt(tmp_path, 2, arrived=arrived)
    world.run("a", (), 2)
    pending = world.newest().pending
    assert pending
    assert pending.proof
    world.request("POST", "sys/rotate/root/update", {"key": "stranger:1", "nonce": pending.proof.nonce})
    told = world.run("b", ("alice", "bob"), 2)
    assert ("The new shares are not in force: the old ones are tried." in told) != arrived
    assert any("held a share that is not of this cluster" in each for each in told) == arrived
    assert_converges(world, 2)


def test_keys_that_are_neither_are_told_by_a_threshold_of_one_keyboard(tmp_path: Path) -> None:
    world = world_in_doubt(tmp_path, 2, arrived=False)
    world.truth = "k9"
    for person in (*PEOPLE, *PEOPLE):
        world.run("a", (person,), 2)
    before = world.newest()
    with pytest.raises(CeremonyError, match="accepts neither the old nor the new"):
        world.run("a", PEOPLE, 2)
    assert world.newest().keys == before.keys
    assert world.newest().pending


def closing_on_two_controllers(place: Path) -> World:
    """A run at b sees that nobody there has the last share, and dies; one at a gives it, and its answer is lost."""
    world = world_in(place)
    world.run("a", PEOPLE, 2, anew=True, steps=STEPS[:3])
    pending = world.newest().pending
    assert pending
    verified = PEOPLE[pending.verified[0] - 1]
    with suppress(CutError):
        world.run("b", (verified,), 2, reached=0)
    for fuse in range(1, 12):
        if world.truth == "k0":
            with suppress(CutError):
                world.run("a", PEOPLE, 2, fuse=fuse)
            world.fuse = -1
    assert world.truth != "k0"
    return world


def test_what_one_controller_gave_up_hoping_for_another_may_have_done(tmp_path: Path) -> None:
    world = closing_on_two_controllers(tmp_path)
    assert_safe(world)
    with suppress(CutError):
        world.run("b", ("alice",), 2)
    assert_safe(world)
    assert_converges(world, 2)


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("in_turn", [False, True])
def test_old_numbers_prove_nothing(tmp_path: Path, arrived: bool, in_turn: bool) -> None:
    """The server takes up its numbers last of all: it may die between the keys and those. They are asked for by shares."""
    world = world_in(tmp_path)
    world.run("a", PEOPLE, 3, steps=STEPS[:3])
    if arrived:
        (rotation,) = world.attempts.values()
        world.truth = rotation.dealt
    world.leader = "n2"
    for people in [(person,) for person in PEOPLE] * 3 if in_turn else [PEOPLE] * 2:
        with suppress(CeremonyError):
            world.run("b", people, 3)
        assert_safe(world)
    if not arrived:
        assert_converges(world)


def test_a_rekey_that_is_given_up_in_doubt_ends_with_the_keys_in_force(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.run("a", PEOPLE, 3, steps=STEPS[:3])
    abandoned = world.newest().pending
    world.leader = "n2"
    told = world.run("b", PEOPLE, 2)
    assert "The old shares are in force, and the keys are as the inventory wants them." in told
    final = world.newest()
    assert (final.bundle_id, final.pending) == (OLD.bundle_id, None)
    assert not world.attempts.get("n2")
    assert abandoned
    (kept,) = world.controllers["b"].parent.glob("*.abandoned-*")
    assert bundles.parse(kept.read_text(), "here").keys == abandoned.keys
    world.run("a", ("alice",), 2)
    bundles.archive_abandoned(world.controllers["a"], replace(OLD, pending=abandoned), final)
    assert len(list(world.controllers["a"].parent.glob("*.abandoned-*"))) == 1


def test_keys_that_came_into_force_are_not_called_abandoned(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world.run("a", PEOPLE, 3)
    assert not list(tmp_path.rglob("*.abandoned-*"))


# --- single decisions ---------------------------------------------------------------------------------------------------

OLD = first_bundle()
HOLDERS = OLD.keys.holders
OURS = Ours("a1", 2, HOLDERS)
ATTEMPT = Attempt("a1", 2, ("ALICE", "BOB", "CAROL"), 0, 2, True, "")
DEALT = tuple(Share(i, name, name.upper(), message("k1", i)) for i, name in enumerate(PEOPLE, start=1))
SAME = Wanted(2, HOLDERS)


def begun(**changes: Any) -> Bundle:
    return replace(OLD, serial=1, pending=replace(Pending(OURS, "2026-11-23T00:00:00Z"), **changes))


@pytest.mark.parametrize(
    ("bundle", "wanted", "attempt", "do", "cancel"),
    [
        (OLD, SAME, None, "nothing", False),
        (OLD, SAME, ATTEMPT, "nothing", True),
        (OLD, replace(SAME, anew=True), None, "begin", False),
        (OLD, Wanted(3, HOLDERS), None, "begin", False),
        (OLD, Wanted(2, HOLDERS[:2]), None, "begin", False),
        (OLD, Wanted(2, (*HOLDERS[:2], Holder("carol", "NEW KEY"))), None, "begin", False),
        # Going on with what another began anew.
        (begun(), SAME, ATTEMPT, "give", False),
        (begun(), SAME, None, "begin", False),
        (begun(), SAME, replace(ATTEMPT, nonce="a2"), "begin", True),
        (begun(), SAME, replace(ATTEMPT, fingerprints=("EVE", "BOB", "CAROL")), "begin", True),
        (begun(), SAME, replace(ATTEMPT, verified=False), "begin", True),
        (begun(), SAME, replace(ATTEMPT, verifying="v1"), "begin", True),
        (begun(), Wanted(3, HOLDERS), ATTEMPT, "begin", True),
        (begun(shares=DEALT), SAME, replace(ATTEMPT, verifying="v1"), "verify", False),
        (begun(shares=DEALT), SAME, None, "begin", False),
        (begun(shares=DEALT, closing=True), SAME, replace(ATTEMPT, verifying="v1"), "verify", False),
        (begun(shares=DEALT, closing=True), SAME, None, "begin proof", False),
        (begun(shares=DEALT, closing=True, proof=Ours("a9", 2, HOLDERS), proving="new"), SAME,
         replace(ATTEMPT, nonce="a9"), "prove", False),
    ],
)  # fmt: skip
def test_what_is_next(bundle: Bundle, wanted: Wanted, attempt: Attempt | None, do: str, cancel: bool) -> None:
    decision = decide(bundle, wanted, attempt, (2, 3))
    assert (decision.do, decision.cancel) == (do, cancel)


def test_where_a_strangers_attempt_may_show_is_told() -> None:
    assert f"find out in {AUDIT_LOG} who began it" in foreign(ATTEMPT)


def test_new_numbers_tell_which_keys_are_in_force_and_old_ones_do_not() -> None:
    closing = replace(OLD, serial=3, pending=Pending(Ours("a1", 3, HOLDERS), "2026-11-23T00:00:00Z", DEALT, closing=True))
    assert decide(closing, Wanted(3, HOLDERS), None, (3, 3)).do == "switch"
    assert decide(closing, Wanted(3, HOLDERS), None, (2, 3)).do == "begin proof"


def test_every_stage_of_a_rekey_is_kept_in_the_bundle() -> None:
    proof = Ours("a9", 2, HOLDERS)
    previous = Previous(2, OLD.shares, "2026-11-23T00:00:00Z", 40, ("n3",))
    for bundle in (
        begun(),
        begun(shares=DEALT),
        begun(shares=DEALT, closing=True),
        begun(shares=DEALT, closing=True, proof=proof, proving="old"),
        replace(OLD, serial=4, previous=previous),
    ):
        assert bundles.parse(bundle.render(), "here") == bundle
        assert "messages" not in bundle.summary()


@pytest.mark.parametrize(("applied", "left"), [({}, ("n2", "n3")), ({"n2": 39}, ("n2", "n3")), ({"n2": 40}, ("n3",))])
def test_a_node_is_proven_once_it_has_applied_what_changed_the_keys(applied: dict[str, int], left: tuple[str, ...]) -> None:
    bundle = replace(OLD, serial=4, previous=Previous(2, DEALT, "2026-11-23T00:00:00Z", 40, ("n2", "n3")))
    seen = proving.proven(bundle, applied, ["n1", "n2", "n3"])
    assert seen.previous is not None
    assert seen.previous.unproven == left
    assert seen.candidates("n3") == [KeySet(2, DEALT), OLD.keys]
    assert seen.candidates("n1") == [OLD.keys]
    assert proving.proven(bundle, {"n2": 41}, ["n1", "n2"]).previous is None


@dataclass
class Follower:
    """A node that tells these indexes, one at each question and the last for ever; proving.SEALED: it is sealed."""

    node: Node
    indexes: list[int]

    def seal_status(self) -> SealStatus:
        return SealStatus(True, self.indexes[0] == proving.SEALED, 2, 3, 0, "", "", "2.7.2")

    def raft_index(self) -> int:
        return self.indexes.pop(0) if len(self.indexes) > 1 else self.indexes[0]


@pytest.mark.parametrize(
    ("indexes", "settled", "waited"),
    [([39, 39, 40], True, 0.4), ([40], True, 0.0), ([39], False, proving.PATIENCE), ([proving.SEALED], False, 0.0)],
)
def test_a_node_that_is_open_is_given_a_moment_to_catch_up(indexes: list[int], settled: bool, waited: float) -> None:
    bundle = replace(OLD, serial=4, previous=Previous(2, DEALT, "2026-11-23T00:00:00Z", 40, ("n2", "n3")))
    apis: Any = [Follower(Node("n3", "https://n3:8200"), indexes), Follower(Node("n2", "https://n2:8200"), [proving.SEALED])]
    slept: list[float] = []
    now, _, _ = proving.look(bundle, apis, clock=lambda: sum(slept), sleep=slept.append)
    assert now.previous
    assert now.previous.unproven == (("n2",) if settled else ("n2", "n3"))
    assert sum(slept) == pytest.approx(waited, abs=0.3)


def test_a_rekey_is_refused_while_a_node_may_want_older_keys() -> None:
    bundle = replace(OLD, serial=4, previous=Previous(2, DEALT, "2026-11-23T00:00:00Z", 40, ("n3",)))
    request = rekey.Request([], 3, 90, "", [], anew=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CeremonyError, match="n3 may still want"):
        patch.setattr(rekey, "check_keys", lambda *_: ({}, [], []))
        rekey._refuse_unfit(request, bundle)
