from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import host_files
from ansible.module_utils.egi_secrets.host_files import HostFileError, Wanted

ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


def wanted(path: Path, **entry: Any) -> Wanted:
    return host_files.wanted_from({"path": str(path), **ME, **entry})


def converge(*items: Wanted) -> list[str]:
    changes = host_files.plan(items)
    host_files.validate(changes)
    host_files.apply(changes)
    return [change.wanted.path for change in changes]


def test_a_tree_is_made_once_and_then_left_alone(tmp_path: Path) -> None:
    tree = [
        wanted(tmp_path / "etc", state="directory", mode="0750"),
        wanted(tmp_path / "etc/a", content="one\n", mode="0640"),
        wanted(tmp_path / "etc/current", state="link", target="a"),
        wanted(tmp_path / "etc/gone", state="absent"),
    ]

    assert len(converge(*tree)) == 3
    assert converge(*tree) == []
    assert (tmp_path / "etc/current").read_text() == "one\n"
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o750


@pytest.mark.parametrize("drift", ["content", "mode", "removed", "link"])
def test_each_kind_of_drift_is_found_and_mended(tmp_path: Path, drift: str) -> None:
    path = tmp_path / "file"
    item = wanted(path, content="right\n", mode="0640")
    converge(item)
    if drift == "content":
        path.write_text("wrong\n")
    elif drift == "mode":
        path.chmod(0o644)
    else:
        path.unlink()
    if drift == "link":
        (tmp_path / "elsewhere").write_text("kept\n")
        path.symlink_to(tmp_path / "elsewhere")

    assert converge(item) == [str(path)]
    assert (path.read_text(), stat.S_IMODE(path.lstat().st_mode)) == ("right\n", 0o640)
    if drift == "link":
        assert (tmp_path / "elsewhere").read_text() == "kept\n"


def test_one_refused_file_leaves_all_others_as_they_were(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text("old\n")
    items = [wanted(first, content="new\n"), wanted(tmp_path / "bad", content="x\n", validate=[["grep", "y", "%s"]])]

    with pytest.raises(HostFileError, match=r"bad: grep refuses"):
        converge(*items)

    assert first.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]


def test_every_checker_must_accept(tmp_path: Path) -> None:
    accepting, refusing = ["true"], ["grep", "y", "%s"]

    for checkers in ([accepting, refusing], [refusing, accepting]):
        with pytest.raises(HostFileError, match=r"bad: grep refuses"):
            converge(wanted(tmp_path / "bad", content="x\n", validate=checkers))


def test_a_checker_sees_the_new_content_under_the_files_own_name(tmp_path: Path) -> None:
    script = 'test "$(basename "$1")" = server.hcl && grep -q new "$1"'

    assert converge(wanted(tmp_path / "server.hcl", content="new\n", validate=[["sh", "-c", script, "sh", "%s"]]))


def test_a_missing_checker_is_told_and_not_taken_for_consent(tmp_path: Path) -> None:
    changes = host_files.plan([wanted(tmp_path / "file", content="x", validate=[["true"], ["/nowhere/checker", "%s"]])])

    assert host_files.validate(changes) == [str(tmp_path / "file")]


def test_a_failure_while_staging_leaves_no_temporary_file(tmp_path: Path) -> None:
    items = [wanted(tmp_path / "a", content="x"), wanted(tmp_path / "b", content="x", owner="nobody-of-that-name")]

    with pytest.raises(HostFileError, match="no user nobody-of-that-name"):
        host_files.apply(host_files.plan(items))

    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_in_no_diff_and_in_no_error(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("OLD-SECRET")
    talkative = ["sh", "-c", 'cat "$1"; exit 1', "sh", "%s"]
    changes = host_files.plan([wanted(path, secret_content="NEW-SECRET", validate=[talkative])])

    assert "SECRET" not in str(changes[0].diff)
    with pytest.raises(HostFileError) as refusal:
        host_files.validate(changes)
    assert "NEW-SECRET" not in str(refusal.value)


def test_the_content_of_another_file_is_taken_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "from").write_text("what it was started with")
    kept = wanted(tmp_path / "to", source=str(tmp_path / "from"), mode="0600")
    (change,) = host_files.plan([kept])
    assert "started" not in str(change.diff)
    assert converge(kept) == [str(tmp_path / "to")]
    assert (tmp_path / "to").read_text() == "what it was started with"
    assert converge(kept) == []
    with pytest.raises(FileNotFoundError):
        wanted(tmp_path / "to", source=str(tmp_path / "none"))


def test_something_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()

    with pytest.raises(HostFileError, match="is a directory where a file belongs"):
        host_files.plan([wanted(tmp_path / "file", content="x")])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make somebody else's link")
def test_a_link_that_is_not_roots_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "way").symlink_to("target")
    os.lchown(tmp_path / "way", 65534, 65534)

    with pytest.raises(HostFileError, match="link of uid 65534"):
        host_files.plan([wanted(tmp_path / "way/file", content="x")])


def test_a_link_of_roots_on_the_way_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "way").symlink_to("target")
    if os.geteuid() != 0:
        pytest.skip("needs root to make root's link")

    converge(wanted(tmp_path / "way/file", content="x"))

    assert (tmp_path / "target/file").read_text() == "x"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"path": "relative", "content": ""}, "absolute path"),
        ({"path": "/etc/../x", "content": ""}, "absolute path"),
        ({"path": "/x"}, "one of content, secret_content and source"),
        ({"path": "/x", "content": "", "secret_content": ""}, "one of content, secret_content and source"),
        ({"path": "/x", "state": "link"}, "takes a target"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(HostFileError, match=says):
        host_files.wanted_from(entry)


def test_check_mode_may_plan_files_below_directories_that_are_still_to_come(tmp_path: Path) -> None:
    items = [wanted(tmp_path / "new", state="directory"), wanted(tmp_path / "new/file", content="x")]

    assert len(host_files.plan(items)) == 2
    with pytest.raises(HostFileError, match="declare it before the file"):
        host_files.plan(items[1:])
