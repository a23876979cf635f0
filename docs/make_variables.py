#!/usr/bin/env python3
"""Write docs/variables.md from the roles' argument specs and defaults, or check that it is fresh.

Both say what a variable is: the argument spec its type and meaning, the defaults file its value. Where the two disagree
the page would lie, so that is an error here. Usage: make_variables.py [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "variables.md"
INTRODUCTION = ROOT / "docs" / "variables.intro.md"  # by hand: what belongs to no role
EMPTY: tuple[object, ...] = ("", [], {}, None)  # what a variable that must be set holds in defaults/


class SpecError(Exception):
    """Argument specs and defaults of a role disagree; the message has a line for each disagreement."""


@dataclass(frozen=True)
class Row:
    """One line of a table: `name` as it is written in YAML, with [] for each list on the way."""

    name: str
    kind: str
    default: str
    description: str

    def __str__(self) -> str:
        return f"| `{self.name}` | {self.kind} | {self.default} | {self.description} |"


@dataclass(frozen=True)
class Role:
    """A role's entry points and defaults as they are in its YAML files."""

    name: str
    entry_points: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Mapping[str, Any]]:
        """The options of all entry points by name; those of `main` count where two have one."""
        points = sorted(self.entry_points.items(), key=lambda item: item[0] == "main")
        return {name: option for _, point in points for name, option in point.get("options", {}).items()}


def roles(root: Path) -> list[Role]:
    """Return every role below `root`, by name.

    Raises SpecError for a role that has no argument specs.
    """
    found = []
    for directory in sorted(path for path in (root / "roles").iterdir() if (path / "tasks").is_dir()):
        specs = directory / "meta" / "argument_specs.yml"
        if not specs.is_file():
            raise SpecError(f"{directory.name}: meta/argument_specs.yml is missing")
        found.append(Role(directory.name, _read(specs)["argument_specs"], _read(directory / "defaults" / "main.yml")))
    return found


def disagreements(role: Role) -> Iterator[str]:
    """Yield a sentence for each variable that the role's two files tell apart."""
    for name in sorted(role.defaults.keys() - role.options.keys()):
        yield f"{role.name}: {name} is in defaults/main.yml and in no argument spec"
    for name in sorted(role.options.keys() - role.defaults.keys()):
        if not role.options[name].get("required"):
            yield f"{role.name}: {name} is in meta/argument_specs.yml, not required, and has no default"
    for name in sorted(role.options.keys() & role.defaults.keys()):
        option, value = role.options[name], role.defaults[name]
        specified = option.get("default")
        if option.get("required"):
            if value not in EMPTY:
                yield f"{role.name}: {name} is required, and yet defaults/main.yml gives it {value!r}"
        elif not _is_template(value) and specified != value:
            yield f"{role.name}: {name} is {value!r} in defaults/main.yml and {specified!r} in the argument spec"


def page(all_roles: list[Role]) -> str:
    """Return docs/variables.md.

    Raises SpecError with every disagreement of every role.
    """
    wrong = [sentence for role in all_roles for sentence in disagreements(role)]
    if wrong:
        raise SpecError("\n".join(wrong))
    introduction = INTRODUCTION.read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+)`", introduction, flags=re.MULTILINE))
    return "\n".join([introduction, *(section(role, told) for role in all_roles)])


def section(role: Role, told: set[str]) -> str:
    """Return the part of the page that describes `role`, without the variables that the page has told of before."""
    main = role.entry_points["main"]
    lines = [f"## {role.name}", "", f"{_text(main['short_description'])}.", ""]
    if description := main.get("description"):
        lines += [_text(description), ""]
    if known := sorted(role.options.keys() & told):
        lines += [f"Reads from above: {', '.join(f'`{name}`' for name in known)}.", ""]
    lines += ["| Variable | Type | Default | Description |", "| --- | --- | --- | --- |"]
    for name in sorted(role.options.keys() - told):
        lines += map(str, rows(name, role.options[name], role.defaults.get(name)))
    others = {name: point for name, point in sorted(role.entry_points.items()) if name != "main"}
    if others:
        same = all(point.get("options") == main.get("options") for point in others.values())
        lines += ["", f"Other entry points{', which take the same variables' if same else ''}:", ""]
        lines += [f"- `{name}`: {_sentence(point)}" for name, point in others.items()]
    return "\n".join([*lines, ""])


def rows(name: str, option: Mapping[str, Any], default: object) -> Iterator[Row]:
    """Yield the option's own row and one for each option nested in it."""
    shown = "must be set" if option.get("required") else _code(default)
    kind = option.get("type", "str")
    if kind == "list":
        kind = f"list of {option.get('elements', 'str')}"
    description = _text(option.get("description", ""))
    if choices := option.get("choices"):
        description += f" One of {', '.join(_code(choice) for choice in choices)}."
    yield Row(name, kind, shown, description)
    below = f"{name}[]" if option.get("type") == "list" else name
    for inner, nested in option.get("options", {}).items():
        yield from rows(f"{below}.{inner}", nested, nested.get("default"))


def _sentence(point: Mapping[str, Any]) -> str:
    words = [f"{_text(point['short_description'])}."]
    if description := point.get("description"):
        words.append(_text(description))
    return " ".join(words)


def _text(words: str | list[str]) -> str:
    """Join paragraphs, and turn Ansible's markup into Markdown."""
    joined = " ".join([words] if isinstance(words, str) else words)
    plain = re.sub(r"\b[COVM]\(([^)]*)\)", r"`\1`", joined)
    return " ".join(plain.split()).replace("|", "\\|")


def _code(value: object) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`".replace("|", "\\|")


def _is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, dict):
        raise SpecError(f"{path}: not a mapping")
    return content


def main() -> int:
    """Write the page, or compare it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    check: bool = parser.parse_args().check
    try:
        wanted = page(roles(ROOT))
    except SpecError as error:
        print(error, file=sys.stderr)
        return 1
    fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted
    if check and not fresh:
        print("docs/variables.md is not what the roles' argument specs say: run `make docs`.", file=sys.stderr)
        return 1
    if not fresh:
        PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
