"""A new pair is tried and taken back, and the run is cut off anywhere: the pair that is served is never lost."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets import host_files, way_back
from ansible.module_utils.egi_secrets.host_files import Wanted
from ansible.module_utils.egi_secrets.way_back import NoWayBackError, Pair

from tests.integration.servers import Authority

ME, MINE = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
Content = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Content]:
    """Certificates of one name, each with its key."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    return [(crt.read_bytes(), key.read_bytes()) for crt, key in (authority.issue("node.test") for _ in range(3))]


@pytest.fixture
def disk(tmp_path: Path) -> Pair:
    (tmp_path / "tls").mkdir()
    return way_back.pair(tmp_path / "tls/server.crt")


@pytest.fixture
def kept(tmp_path: Path, disk: Pair) -> Pair:
    return way_back.pair(disk.certificate, tmp_path / "kept")


def put(where: Pair, content: Content) -> str:
    """Write a pair, and return its sha256."""
    where.directory.mkdir(exist_ok=True)
    where.certificate.write_bytes(content[0])
    where.key.write_bytes(content[1])
    assert where.leaf is not None
    return where.leaf


def holds(where: Pair) -> Content:
    return where.certificate.read_bytes(), where.key.read_bytes()


def make(wanted: Sequence[Wanted], steps: int | None = None) -> None:
    """Write it, or so many paths of it: what a run does that is cut off. No key is in what --diff shows of it."""
    for item in wanted[:steps]:
        changes = host_files.plan([item])
        assert "PRIVATE KEY" not in str([each.diff for each in changes])
        host_files.apply(changes)


def keep(disk: Pair, kept: Pair, served: str) -> list[Wanted]:
    return way_back.keep(disk, kept, served, owner=ME, group=MINE)


def back(disk: Pair, kept: Pair) -> list[Wanted]:
    return way_back.back(disk, kept, owner=ME, group=MINE, key_group=MINE)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_way_back_that_is_cut_off_is_gone_by_the_next_run(
    disk: Pair, kept: Pair, pairs: list[Content], steps: int
) -> None:
    old, new, _ = pairs
    served = put(disk, old)
    make(keep(disk, kept, served))
    put(disk, new)
    make(back(disk, kept), steps)

    make(keep(disk, kept, served))
    put(disk, new)
    make(back(disk, kept))
    assert holds(disk) == old
    assert host_files.plan(back(disk, kept)) == []


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_copy_that_is_cut_off_is_made_again(disk: Pair, kept: Pair, pairs: list[Content], steps: int) -> None:
    old, _, ancient = pairs
    put(kept, ancient)
    served = put(disk, old)
    make(keep(disk, kept, served), steps)

    make(keep(disk, kept, served))
    assert holds(kept) == old


def test_a_new_certificate_that_was_written_without_its_key_is_not_kept(
    disk: Pair, kept: Pair, pairs: list[Content]
) -> None:
    old, new, _ = pairs
    served = put(disk, old)
    make(keep(disk, kept, served))
    disk.certificate.write_bytes(new[0])
    assert keep(disk, kept, served) == []
    assert holds(kept) == old


def test_a_way_back_that_is_cut_off_where_the_new_one_was_served_goes_on(
    disk: Pair, kept: Pair, pairs: list[Content]
) -> None:
    old, new, _ = pairs
    put(kept, old)
    served = put(disk, new)
    make(back(disk, kept), 1)
    assert keep(disk, kept, served) == []
    make(back(disk, kept))
    assert holds(disk) == old


def test_what_a_finished_run_left_is_no_way_back_of_the_next(disk: Pair, kept: Pair, pairs: list[Content]) -> None:
    """It was cut off before it removed the copy."""
    ancient, served, new = pairs
    put(kept, ancient)
    make(keep(disk, kept, put(disk, served)))
    assert holds(kept) == served

    put(kept, ancient)
    sha256 = put(disk, served)
    put(disk, new)  # by hand: what is served lies nowhere any more
    make(keep(disk, kept, sha256))
    with pytest.raises(NoWayBackError, match="nothing was put back"):
        back(disk, kept)


def test_where_nobody_knows_what_is_served_what_was_kept_stays(disk: Pair, kept: Pair, pairs: list[Content]) -> None:
    put(kept, pairs[0])
    put(disk, pairs[1])
    assert keep(disk, kept, "") == []
    assert kept.leaf
