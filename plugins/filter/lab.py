"""Filters that only the lab needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def secrets_of(names: Iterable[str], pattern: str) -> dict[str, str]:
    """Return what the files of a lab hold, one for each name; empty where the lab has not been made yet.

    Args:
        names: of what is secret.
        pattern: path of each file, with %s for the name.
    """
    files = {str(name): Path(pattern % name) for name in names}
    return {name: file.read_text(encoding="ascii").strip() if file.is_file() else "" for name, file in files.items()}


class FilterModule:
    """Filters of the lab."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"secrets_of": secrets_of}
