"""What ansible-doc tells of a module is what the module takes."""

from __future__ import annotations

import functools
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

ROOT = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))


class TakenError(Exception):
    """Ends a module where it has said what it takes."""


@functools.cache
def documented() -> dict[str, Any]:
    told = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "--type", "module", "--json", *MODULES],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def taken(module: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    specs: list[Mapping[str, Any]] = []

    class Noted:
        """Notes what a module takes, and goes no further."""

        def __init__(self, argument_spec: Mapping[str, Any], **_: object) -> None:
            specs.append(argument_spec)
            raise TakenError

    monkeypatch.setattr(basic, "AnsibleModule", Noted)
    with pytest.raises(TakenError):
        runpy.run_path(str(ROOT / f"plugins/modules/{module}.py"), run_name="__main__")
    return specs[0]


def differences(spec: Mapping[str, Any], docs: Mapping[str, Any], place: str = "") -> list[str]:
    found = [f"{place}{name} is in one of the two only" for name in spec.keys() ^ docs.keys()]
    for name in spec.keys() & docs.keys():
        given, told = spec[name], docs[name]
        found += [
            f"{place}{name}: {key} is {given.get(key, usual)!r} and documented as {told.get(key, usual)!r}"
            for key, usual in (
                ("type", "str"),
                ("required", False),
                ("default", None),
                ("elements", None),
                ("choices", None),
            )
            if given.get(key, usual) != told.get(key, usual)
        ]
        found += differences(given.get("options") or {}, told.get("suboptions") or {}, f"{place}{name}.")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_ansible_doc_tells_what_the_module_takes(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differences(taken(module, monkeypatch), documented()[module]["doc"].get("options", {})) == []
