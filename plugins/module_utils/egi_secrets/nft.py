"""Keep one nftables table of ours what it should be, and no other.

What the kernel prints is never what one wrote: sets are sorted, names become numbers, defaults appear. So the wanted
definition is loaded into a network namespace made for the purpose and thrown away, and the two prints are compared.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Runner = Callable[[Sequence[str], str], "subprocess.CompletedProcess[str]"]

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,30}")
_SECONDS = 30
# Both commands must run in the same namespace, and `list` in one batch with the definition shows the state before it.
_LOAD_AND_LIST = 'nft -f - && nft --stateless list table "$1" "$2"'


class NftError(Exception):
    """nft refused; its own words are in the message."""


@dataclass(frozen=True)
class Table:
    """The name of a table in the live ruleset."""

    family: str
    name: str

    def __post_init__(self) -> None:
        if not (_IDENTIFIER.fullmatch(self.family) and _IDENTIFIER.fullmatch(self.name)):
            msg = f"{self.family} {self.name} is no table name: use small letters, digits and underscores."
            raise NftError(msg)


def run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run `command` with `text` as its standard input and return what came of it."""
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{command[0]} could not run: {error}"
        raise NftError(msg) from error


def replacing(table: Table, definition: str) -> str:
    """Return a script that swaps `table` for `definition` in one transaction, whether it existed or not."""
    name = f"{table.family} {table.name}"
    return f"table {name}\ndelete table {name}\n{definition}"


def live(table: Table, runner: Runner = run) -> str:
    """Return `table` as the kernel prints it, or nothing where there is none.

    Raises NftError where nft fails for another reason than that.
    """
    done = runner(["nft", "--stateless", "list", "table", table.family, table.name], "")
    if done.returncode == 0:
        return done.stdout
    if "No such file or directory" in done.stderr:
        return ""
    msg = f"nft cannot list table {table.family} {table.name}: {done.stderr.strip()}"
    raise NftError(msg)


def normalised(table: Table, definition: str, runner: Runner = run) -> str:
    """Return `definition` as the kernel would print it.

    Raises NftError where nft does not accept it or where it defines no such table.
    """
    command = ["unshare", "--net", "sh", "-c", _LOAD_AND_LIST, "sh", table.family, table.name]
    done = runner(command, replacing(table, definition))
    if done.returncode != 0:
        msg = f"nft refuses the definition of table {table.family} {table.name}: {done.stderr.strip()}"
        raise NftError(msg)
    return done.stdout


def load(table: Table, definition: str, runner: Runner = run) -> None:
    """Put `definition` in the place of `table` in one transaction.

    Raises NftError; the table is then what it was.
    """
    done = runner(["nft", "-f", "-"], replacing(table, definition))
    if done.returncode != 0:
        msg = f"nft does not load table {table.family} {table.name}: {done.stderr.strip()}"
        raise NftError(msg)
