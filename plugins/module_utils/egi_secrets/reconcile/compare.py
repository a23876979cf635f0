"""Is what the server returns what was declared? It writes the same value in more than one way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ONE_ADDRESS = re.compile(r"/(32|128)$")

# What a server puts into fields that nobody set, other than nothing at all (OpenBao 2.7, Vault 1.14).
_UNSET = {
    "bind_secret_id": True,
    "bound_claims_type": "string",
    "callback_mode": ("client", ""),
    "interval": 1,
    "local_secret_ids": False,
    "namespace_in_state": True,
    "poll_interval": 5,
    "role_type": "oidc",
    "listing_visibility": "hidden",
    "token_type": ("default", "service", "default-service"),
    "type": "rate-limit",
}


def seconds(text: str) -> float | None:
    """Return a duration such as 90s, 1h30m or 2d in seconds, or None where it is none."""
    if text.isdecimal():
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def same(declared: object, live: object) -> bool:
    """Return whether the server's value says what was declared.

    Lists are sets here: in no field of ours does their order mean anything. Nothing, "", 0, false and [] are the same.
    """
    if is_unset(declared) and is_unset(live):
        return True
    if isinstance(declared, Mapping):
        return (
            isinstance(live, Mapping)
            and all(same(value, live.get(key)) for key, value in declared.items())
            and all(is_unset(live[key]) for key in live.keys() - declared.keys())
        )
    if _is_list(declared) or _is_list(live):
        return _as_set(declared) == _as_set(live)
    return _scalar(declared, live)


def differences(declared: Mapping[str, Any], live: Mapping[str, Any], *, exact: bool) -> dict[str, Any]:
    """Return what must be written to make `live` what was declared.

    Args:
        declared: the fields that were declared.
        live: all fields that the server returns.
        exact: also reset the fields that nobody declared and that hold something.

    Returns:
        Fields with the values that they should have; empty where nothing differs.
    """
    found = {key: value for key, value in declared.items() if not same(value, live.get(key))}
    if exact:
        found |= {key: empty_like(value) for key, value in live.items() if key not in declared and _is_set(key, value)}
    return found


def held(live: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are declared, and those that hold something which nobody set to it by default."""
    return {key: value for key, value in live.items() if key in declared or _is_set(key, value)}


def is_unset(value: object) -> bool:
    """Return whether a field holds nothing."""
    return value in (None, "", 0, False) or (isinstance(value, Sequence | Mapping) and not value)


def _is_default(key: str, value: object) -> bool:
    usual = _UNSET.get(key, ...)
    return value in usual if isinstance(usual, tuple) else value == usual


def _is_set(key: str, value: object) -> bool:
    """Whether somebody set a field: it holds something but what it holds by default, or what is on by default is off."""
    off = value is False and _UNSET.get(key) is True
    return off or not (is_unset(value) or _is_default(key, value))


def empty_like(value: object) -> object:
    """Return nothing, as a value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 0
    return type(value)() if isinstance(value, str | list | dict) else None


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _as_set(value: object) -> set[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, Sequence):
        value = [] if is_unset(value) else [value]
    return {_ONE_ADDRESS.sub("", str(each).strip()) for each in value if not is_unset(each)}


def _scalar(declared: object, live: object) -> bool:
    if isinstance(declared, bool) or isinstance(live, bool):
        return str(declared).lower() == str(live).lower()
    if isinstance(declared, str) and isinstance(live, str) and declared.strip() == live.strip():
        return True
    left, right = _number(declared), _number(live)
    return left is not None and left == right


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        return float(value)
    except ValueError:
        return seconds(value)
