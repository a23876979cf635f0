"""What a run tells: its plan, its diff, and what it left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from .plan import Plan

_NOTHING = "It is declared no longer and"
_KEPT = {
    "mount": f"{_NOTHING} holds data",
    "auth": f"{_NOTHING} people or services log in there",
    "vo": f"{_NOTHING} nobody has access to its secrets any more, which are kept",
}


def plan_of(plan: Plan) -> list[dict[str, str]]:
    """Return each change as action and id, in order."""
    steps = [{"action": step.action, "id": str(step.ident)} for step in plan.steps]
    return steps + [{"action": "remove", "id": f"vo:{name}"} for name in plan.folders]


def diff_of(plan: Plan) -> dict[str, str]:
    """Return the fields that differ, before and after, as Ansible shows a diff."""
    before = {str(step.ident): dict(step.before) for step in plan.steps if step.action != "create"}
    after = {str(step.ident): dict(step.after) for step in plan.steps if step.action != "remove"}
    before |= {f"vo:{name}": {"secrets": "all below its folder"} for name in plan.folders}
    return {"before": _text(before), "after": _text(after), "before_header": "the server", "after_header": "the inventory"}


def sentences(plan: Plan) -> list[str]:
    """Say of everything that was kept why, and how it is removed."""
    return [
        f"{name} is kept. {_KEPT[name.partition(':')[0]]}; to remove it for good, name it in vault_config_remove."
        for name in plan.kept
        if not name.startswith("config:")
    ]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks: policies are read by people."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def _text(objects: Mapping[str, Any]) -> str:
    return yaml.dump(objects, Dumper=_Dumper, sort_keys=True, width=120) if objects else ""
