"""The access matrix as files/access-matrix.yml declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CAPABILITIES = {"kv": "crudl", "api": "ruld"}


class MatrixError(Exception):
    """The table contradicts itself; the message says where."""


@dataclass(frozen=True)
class Row:
    """A kind of path, and who may do what there.

    Attributes:
        what: the row's name.
        kind: `kv`, keys below a folder, or `api`, one path.
        path: where; {person} stands for a person's subject.
        allowed: capabilities by persona; whoever is missing has none.
        body: what is posted to an `api` path.
        untried: capabilities that do harm where they are used.
        only: capabilities that the path knows, where it does not know all.
        refused_body: whether it is the body that is refused, not the path.
        unauthenticated: whether the server asks for no token there, so that no token says what it may do.
        version: of the KV mount.
    """

    what: str
    kind: str
    path: str
    allowed: Mapping[str, str]
    body: Any = None
    untried: str = ""
    only: str = ""
    refused_body: bool = False
    unauthenticated: bool = False
    version: int = 1

    @property
    def tries(self) -> str:
        """The capabilities that are tried, in the order in which they can be."""
        if self.refused_body:
            return "u"
        if self.kind == "api" and self.path.endswith("/") and not self.only:
            return "rl"  # the server takes no other method there, whoever asks
        return self.only or CAPABILITIES[self.kind]

    @property
    def content(self) -> dict[str, Any]:
        """What is put into a key."""
        return {"data": {"matrix": "1"}} if self.version > 1 else {"matrix": "1"}

    def may(self, persona: str) -> str:
        """Return what a persona may do here."""
        return self.allowed.get(persona, "")

    def key(self, subjects: Mapping[str, str], name: str) -> str:
        """Return a key of that name below the row's folder."""
        return self.path.format(**subjects) + name

    def list_place(self, subjects: Mapping[str, str]) -> str:
        """Return what is listed: the folder; of a KV mount of version 2, by its metadata."""
        return self.path.format(**subjects).replace("/data/", "/metadata/", 1 if self.version > 1 else 0)

    def place(self, subjects: Mapping[str, str]) -> str:
        """Return the path that the server is asked about."""
        return self.key(subjects, "matrix") if self.kind == "kv" else self.path.format(**subjects)


@dataclass(frozen=True)
class Matrix:
    """Personas with a description of each, and the rows."""

    personas: Mapping[str, str]
    rows: list[Row]

    def page(self) -> str:
        """Return the tables of docs/access.md."""
        lines = ["| Persona | Who that is |", "| --- | --- |"]
        lines += [f"| {name} | {who} |" for name, who in self.personas.items()]
        lines += ["", "| What | Path | " + " | ".join(self.personas) + " |", "| --- | --- |" + " --- |" * len(self.personas)]
        for row in self.rows:
            cells = " | ".join(row.may(persona) or "·" for persona in self.personas)
            lines.append(f"| {row.what} | `{row.path}` | {cells} |")
        return "\n".join(lines) + "\n"


def read_matrix(path: Path) -> Matrix:
    """Read the table.

    Args:
        path: the YAML file.

    Returns:
        The matrix, with groups of personas (`name*`) replaced by their members.

    Raises:
        MatrixError: a persona, group or capability that does not exist.
    """
    table = yaml.safe_load(path.read_text())
    personas, groups = table["personas"], table["groups"]
    rows = []
    for entry in table["rows"]:
        allowed: dict[str, str] = {}
        for who, capabilities in entry.pop("may").items():
            members = groups.get(who.removesuffix("*")) if who.endswith("*") else [who]
            if not members or set(members) - set(personas):
                raise MatrixError(f"Row {entry['what']!r} names {who!r}, which is neither a persona nor a group (name*).")
            if set(capabilities) - set(CAPABILITIES[entry["kind"]]):
                raise MatrixError(f"Row {entry['what']!r} gives {who!r} {capabilities!r}; a row of its kind knows "
                                  f"{CAPABILITIES[entry['kind']]!r} only.")  # fmt: skip
            allowed |= dict.fromkeys(members, capabilities)
        rows.append(Row(allowed=allowed, **entry))
    return Matrix(personas, rows)
