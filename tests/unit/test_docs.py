"""What the pages point to exists: files, headings, playbooks, make targets, variables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
PAGES = [ROOT / name for name in TRACKED if (ROOT / name).is_file()]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dangling(page: Path) -> list[str]:
    """Return the page's links to files or headings that do not exist."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    assert dangling(page) == []


def test_every_runbook_playbook_has_its_page() -> None:
    playbooks = {path.stem for path in (ROOT / "playbooks" / "operate").glob("*.yml")}
    index = (ROOT / "docs" / "runbooks" / "index.md").read_text()

    assert {name for name in playbooks if f"]({name}.md)" not in index} == set()


def test_every_playbook_that_is_named_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"playbooks/[\w/-]+\.yml", page.read_text())}

    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:`|    )make ([a-z-]+)", page.read_text())}

    assert named - targets == set()


def test_every_variable_that_is_named_exists() -> None:
    known = (ROOT / "docs" / "variables.md").read_text()
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs") or page.parent == ROOT]
    named = {name for page in pages for name in re.findall(r"`(vault_\w+)`", page.read_text())}
    roles_and_modules = {path.stem for folder in ("roles", "plugins/modules") for path in (ROOT / folder).iterdir()}

    assert {name for name in named - roles_and_modules if f"`{name}`" not in known} == set()
