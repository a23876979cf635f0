"""Policies: templates that are filled in, and read as the server would read them before it is given them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from ..errors import DeclarationError

CAPABILITIES = {"create", "read", "update", "patch", "delete", "list", "scan", "sudo", "deny"}
FIELDS = {
    "capabilities", "allowed_parameters", "denied_parameters", "required_parameters", "min_wrapping_ttl", "max_wrapping_ttl",
    "comment", "expiration", "pagination_limit", "list_scan_response_keys_filter_path", "response_keys_filter_path",
}  # fmt: skip
UNKNOWN_ACCESSOR = "(known after apply)"


def accessor_variable(path: str) -> str:
    """Return the variable that holds the accessor of the auth method at `path`."""
    return re.sub(r"[^A-Za-z0-9]", "_", path) + "_accessor"


def fill_in(name: str, template: str, variables: Mapping[str, str], accessors: Mapping[str, str]) -> str:
    """Return the text of a policy.

    Args:
        name: the policy's name, for messages.
        template: text with `${variable}`; `{{identity…}}` is the server's to fill in.
        variables: those that the inventory gives; each must be used.
        accessors: those of the auth methods, by `accessor_variable`.

    Raises:
        DeclarationError: a variable that is not given, or given and not used.
    """
    text = Template(template)
    if not text.is_valid():
        raise DeclarationError(f"Policy {name} has a lone $: write ${{name}} for a variable and $$ for a dollar sign.")
    used = set(text.get_identifiers())
    unknown = sorted(used - variables.keys() - accessors.keys())
    if unknown:
        raise DeclarationError(
            f"Policy {name} uses ${{{unknown[0]}}}, which nobody gives it: give it in `variables`; auth methods give "
            f"{', '.join(sorted(accessors)) or 'none'}."
        )
    unused = sorted(variables.keys() - used)
    if unused:
        raise DeclarationError(f"Policy {name} is given {unused[0]} and does not use it: a slip of the pen in one of them.")
    return text.substitute({**accessors, **variables})


def read_template(directory: Path, name: str, file: str) -> str:
    """Return a policy's template.

    Raises:
        DeclarationError: it is outside the folder, or cannot be read.
    """
    path = directory / file
    if path.resolve().parent != directory.resolve():
        raise DeclarationError(f"Policy {name} has the file {file!r}: give the name of a file in {directory}.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DeclarationError(f"Policy {name}: {path} cannot be read ({reason}).") from None


def problems(name: str, text: str) -> list[str]:
    """Say what is wrong with a policy's text, a sentence each; the server must never be the first to find it.

    Args:
        name: the policy's name.
        text: with its variables filled in.
    """
    import hcl2  # noqa: PLC0415 - slow to load, and only a policy that is to be written needs it

    # The server's own templates are no HCL expressions: to HCL they are text in a string.
    try:
        content = hcl2.loads(text.rstrip() + "\n")
    except Exception as error:  # the library raises what its parser raises
        line = getattr(error, "line", 0)
        place = f" at line {line}" if line else ""
        return [f"Policy {name} is no HCL{place}: mend its file."]
    return list(_of_content(name, content))


def _of_content(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    strange = sorted(key for key in content if key not in ("path", "name") and not key.startswith("__"))
    if strange:
        yield f"Policy {name} holds {strange[0]!r}: a policy is made of path blocks."
    for block in content.get("path", []):
        for quoted, rules in block.items():
            if quoted.startswith("__"):
                continue
            path = quoted.strip('"')
            yield from _of_rules(name, path, rules)


def _of_rules(name: str, path: str, rules: Mapping[str, Any]) -> Iterator[str]:
    given = {key.strip('"'): value for key, value in rules.items() if not key.startswith("__")}
    strange = sorted(given.keys() - FIELDS)
    if strange:
        yield f"Policy {name}, path {path!r}: {strange[0]!r} is no field of a path; known are {', '.join(sorted(FIELDS))}."
    capabilities = [str(each).strip('"') for each in given.get("capabilities", [])]
    if not capabilities:
        yield f"Policy {name}, path {path!r} gives no capabilities."
    wrong = sorted(set(capabilities) - CAPABILITIES)
    if wrong:
        yield f"Policy {name}, path {path!r}: {wrong[0]!r} is no capability; known are {', '.join(sorted(CAPABILITIES))}."
    if "*" in path.rstrip("*") or path.endswith("**"):
        yield f"Policy {name}, path {path!r}: * stands at the end only; use + for one part in the middle."
