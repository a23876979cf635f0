from __future__ import annotations

from collections.abc import Sequence
from subprocess import CompletedProcess

import pytest
from ansible.module_utils.egi_secrets import nft

TABLE = nft.Table("inet", "peers")


class Recorder:
    def __init__(self, returncode: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.answer = (returncode, stdout, stderr)
        self.calls: list[tuple[list[str], str]] = []

    def __call__(self, command: Sequence[str], text: str) -> CompletedProcess[str]:
        self.calls.append((list(command), text))
        return CompletedProcess(list(command), *self.answer)


def test_a_table_is_swapped_in_one_transaction() -> None:
    runner = Recorder()

    nft.load(TABLE, "table inet peers { }\n", runner)

    assert runner.calls == [
        (["nft", "-f", "-"], "table inet peers\ndelete table inet peers\ntable inet peers { }\n"),
    ]


def test_a_table_that_is_not_there_reads_as_empty() -> None:
    assert nft.live(TABLE, Recorder(1, stderr="Error: No such file or directory\n")) == ""


def test_another_failure_is_not_taken_for_an_absent_table() -> None:
    with pytest.raises(nft.NftError, match="Operation not permitted"):
        nft.live(TABLE, Recorder(1, stderr="Operation not permitted"))


def test_the_wanted_definition_is_loaded_in_a_namespace_of_its_own() -> None:
    runner = Recorder(stdout="as the kernel prints it")

    assert nft.normalised(TABLE, "definition", runner) == "as the kernel prints it"
    assert runner.calls[0][0][:2] == ["unshare", "--net"]


@pytest.mark.parametrize("name", ["peers; flush ruleset", "", "Ünicode", "a" * 40])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(nft.NftError, match="no table name"):
        nft.Table("inet", name)
