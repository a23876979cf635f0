#!/usr/bin/env python3
"""Write docs/access.md from files/access-matrix.yml, or check that it is fresh. Usage: make_access_matrix.py [--check]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "molecule/shared"))

from matrix import read_matrix  # noqa: E402 - needs the path above

PAGE = ROOT / "docs/access.md"
INTRODUCTION = ROOT / "docs/access.intro.md"  # by hand
TABLE = ROOT / "files/access-matrix.yml"


def page() -> str:
    """Return the page: the introduction, and the tables."""
    return INTRODUCTION.read_text() + "\n" + read_matrix(TABLE).page()


def main() -> int:
    """Write the page, or with --check return 1 where it is not fresh."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where the page is not fresh")
    if not parser.parse_args().check:
        PAGE.write_text(page())
        return 0
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not what {TABLE.relative_to(ROOT)} says: run `make docs`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
