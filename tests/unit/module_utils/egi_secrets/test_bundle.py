from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets import bundle as bundles
from ansible.module_utils.egi_secrets.bundle import Bundle, RootToken, mark_revoked, parse, reconcile
from ansible.module_utils.egi_secrets.errors import BundleError
from ansible.module_utils.egi_secrets.keys import Share
from hypothesis import given
from hypothesis import strategies as st


def message(seed: str) -> str:
    return base64.b64encode(b"\x84" + seed.encode()).decode()


def make(seed: str = "a", *, threshold: int = 2, revoked_at: str | None = None) -> Bundle:
    shares = tuple(
        Share(index, name, f"{index:040X}", message(f"{seed}{index}"))
        for index, name in enumerate(("alice", "bob", "carol"), start=1)
    )
    token = RootToken("alice", f"{1:040X}", message(f"{seed}root"), revoked_at)
    return Bundle("test", "2026-11-22T23:00:00Z", threshold, shares, token)


def test_rendering_is_deterministic_and_parses_back() -> None:
    text = make().render()
    assert text == make().render()
    assert text.endswith("}\n")
    assert parse(text, "here") == make()


def test_id_covers_shares_and_threshold_and_not_the_revocation() -> None:
    assert make("a").bundle_id != make("b").bundle_id
    assert make(threshold=2).bundle_id != make(threshold=3).bundle_id
    assert make().bundle_id == make(revoked_at="2026-11-23T00:00:00Z").bundle_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 3}, "its format is 3"),
        ({"threshold": 4}, "does not match|threshold is 4 of 3"),
        ({"threshold": "2"}, "threshold is no int"),
        ({"threshold": True}, "threshold is no int"),
        ({"bundle_id": "0"}, "bundle_id does not match"),
        ({"surprise": 1}, "surprise"),
        ({"shares": [{}]}, "share 1 lacks"),
        ({"shares": [1]}, "share 1 is no object"),
        ({"root_token": None}, "root_token is no dict"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(change: dict[str, object], reason: str) -> None:
    text = json.dumps({**json.loads(make().render()), **change})
    with pytest.raises(BundleError, match=reason) as refused:
        parse(text, "on n1")
    assert "The unseal bundle on n1 is damaged" in str(refused.value)


@given(text=st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    with pytest.raises(BundleError):
        parse(text, "here")


@given(cut=st.integers(min_value=0, max_value=len(make().render()) - 3))
def test_a_truncated_bundle_is_never_taken_for_one(cut: int) -> None:
    with pytest.raises(BundleError):
        parse(make().render()[:cut], "here")


@given(times=st.lists(st.none() | st.sampled_from(["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]), min_size=1))
def test_copies_of_one_bundle_agree_and_a_revocation_is_never_forgotten(times: list[str | None]) -> None:
    copies = {f"n{i}": make(revoked_at=revoked_at) for i, revoked_at in enumerate(times)}
    kept = reconcile(copies)
    assert mark_revoked(kept, None) == make()
    assert kept.root_token.revoked_at == min((each for each in times if each), default=None)


@given(seeds=st.lists(st.sampled_from(["a", "b", "c"]), min_size=2).filter(lambda seeds: len(set(seeds)) > 1))
def test_copies_of_different_bundles_are_refused_and_named(seeds: list[str]) -> None:
    copies = {f"n{i}": make(seed) for i, seed in enumerate(seeds)}
    with pytest.raises(BundleError) as refused:
        reconcile(copies)
    assert all(place in str(refused.value) for place in copies)


def test_check_mode_takes_what_the_nodes_have_which_nobody_has_written(tmp_path: Path) -> None:
    params = {"bundle_file": str(tmp_path / "bundle.json"), "bundle": make().render()}
    assert arguments.bundle(params, check_mode=True) == make()
    with pytest.raises(BundleError, match=r"There is no unseal bundle .* playbooks/operate/unseal\.yml .* from the nodes"):
        arguments.bundle(params, check_mode=False)


def test_writing_replaces_atomically_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "made" / "bundle.json"
    bundles.write(path, "old\n")
    bundles.write(path, make().render())
    assert path.read_text() == make().render()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["bundle.json"]  # noqa: PTH208


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bundle.json"
    bundles.write(path, "old\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        bundles.write(path, "new\n")
    assert path.read_text() == "old\n"
    assert [file.name for file in tmp_path.iterdir()] == ["bundle.json"]


def test_a_directory_where_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(BundleError, match="chmod go-w"):
        bundles.prepare_directory(tmp_path / "bundle.json")


def test_a_missing_bundle_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="vault_cluster_bundle_file"):
        bundles.require(str(tmp_path / "bundle.json"))
