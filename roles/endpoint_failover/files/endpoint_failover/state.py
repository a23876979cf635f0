"""What is remembered from one run to the next: one JSON file, all or nothing.

It is not forced to the disk: after a power cut an old memory, or none, only costs a few checks, and a check every second
that waits for the disk would cost more. Times are those of this boot's monotonic clock, so that setting the clock changes
nothing; after a reboot they mean nothing, and the memory is begun afresh but for the holds.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Container, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from .cluster import write_private
from .cycle import Memory
from .model import Answer
from .settings import Settings

T = TypeVar("T")

VERSION = 1
FILE = "memory.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class State:
    """The memory and its file.

    Args:
        directory: of the checker's user.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / FILE
        self.boot = boot_id()
        self.problem = ""
        """Why the file could not be read or written the last time; empty where it could."""
        self.warning = ""
        """What was found amiss when it was read; to be told once."""

    def load(self) -> tuple[Memory, dict[str, tuple[Answer, ...]]]:
        """Return the memory, and what each DNS server last said of each name; both afresh where they are not to be had."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise ValueError(f"it is of version {content['version']}")
            memory: Memory = decode(Memory, content["memory"])
            answers: dict[str, tuple[Answer, ...]] = decode(dict[str, tuple[Answer, ...]], content["answers"])
            if content["boot"] != self.boot:
                return Memory(holds=memory.holds), {}
        except FileNotFoundError:
            return Memory(), {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.warning = f"The memory {self.file} cannot be read ({error}), and is begun afresh."
            return Memory(), {}
        return memory, answers

    def save(self, memory: Memory, answers: Mapping[str, tuple[Answer, ...]]) -> None:
        """Write both. Where the disk is full or read-only the run goes on without, and `problem` says why."""
        content = {"version": VERSION, "boot": self.boot, "memory": encode(memory), "answers": encode(answers)}
        try:
            write_private(self.file, json.dumps(content))
        except OSError as error:
            self.problem = error.strerror or type(error).__name__
        else:
            self.problem = ""


def fitted(memory: Memory, settings: Settings) -> Memory:
    """Return a memory without what the settings no longer name: a site that was replaced is no observer any more."""
    sites, names = settings.sites, {name.name for name in settings.names}
    return replace(
        memory,
        scores={name: _of(scores, sites) for name, scores in _of(memory.scores, names).items()},
        outcomes={name: _of(outcomes, sites) for name, outcomes in _of(memory.outcomes, names).items()},
        checked=_of(memory.checked, sites),
        views=_of(memory.views, settings.others),
        holds=_of(memory.holds, sites),
        leases=_of(memory.leases, names),
        names={name: each for name, each in _of(memory.names, names).items() if each.target in ("", *sites)},
        places=_of(memory.places, names),
        last=_of(memory.last, names),
    )


def _of(kept: Mapping[str, T], known: Container[str]) -> dict[str, T]:
    return {key: value for key, value in kept.items() if key in known}


def boot_id() -> str:
    """Return what tells this boot from others."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def encode(value: Any) -> Any:  # noqa: ANN401  # anything of which the memory is made
    """Return a value as JSON holds it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: encode(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(each) for each in value]
    return value.value if isinstance(value, Enum) else value


def decode(kind: Any, value: Any) -> Any:  # noqa: ANN401, PLR0911  # one for each
    """Return a value of the given type from what `encode` made of it.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = next(each for each in arguments if each is not type(None))
        return None if value is None else decode(inner, value)
    if origin is tuple:
        return tuple(decode(arguments[0], each) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: decode(arguments[1], each) for key, each in value.items()}
    made: Any = origin or kind
    if is_dataclass(made):
        return _made(made, arguments, value)
    if made is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(made, type) and issubclass(made, Enum):
        return made(value)
    if not isinstance(value, made) or (made is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {made.__name__}")
    return value


def _made(kind: Any, arguments: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401
    """Return a dataclass, possibly a generic one, from its fields."""
    known = dict(zip(getattr(kind, "__parameters__", ()), arguments, strict=False))
    hints = typing.get_type_hints(kind)
    return kind(**{each.name: decode(_filled(hints[each.name], known), value[each.name]) for each in fields(kind)})


def _filled(hint: Any, known: Mapping[Any, Any]) -> Any:  # noqa: ANN401
    """Return a type hint with type variables replaced."""
    if isinstance(hint, TypeVar):
        return known[hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_filled(each, known) for each in typing.get_args(hint)]
        return typing.Union[tuple(parts)]  # noqa: UP007  # built at run time
    return hint
