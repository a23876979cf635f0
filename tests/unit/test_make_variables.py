"""docs/variables.md cannot be made from argument specs and defaults that contradict each other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_variables.py"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_variables", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_variables"] = module
    spec.loader.exec_module(module)
    return module


def told(maker: ModuleType, options: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Return what the script says of a role with these."""
    entry_points = {"main": {"short_description": "One outcome", "options": options}}
    return list(maker.disagreements(maker.Role("some", entry_points, defaults)))


def test_agreement_is_silent(maker: ModuleType) -> None:
    options = {"some_port": {"type": "int", "default": 1}, "some_name": {"required": True}, "some_key": {"required": True}}

    assert told(maker, options, {"some_port": 1, "some_name": ""}) == []


def test_a_default_without_a_spec_is_found(maker: ModuleType) -> None:
    assert told(maker, {}, {"some_port": 1}) == ["some: some_port is in defaults/main.yml and in no argument spec"]


def test_an_option_without_a_default_is_found(maker: ModuleType) -> None:
    assert told(maker, {"some_port": {"default": 1}}, {}) == [
        "some: some_port is in meta/argument_specs.yml, not required, and has no default"
    ]


def test_two_defaults_are_found(maker: ModuleType) -> None:
    assert told(maker, {"some_port": {"default": 1}}, {"some_port": 2}) == [
        "some: some_port is 2 in defaults/main.yml and 1 in the argument spec"
    ]


def test_a_default_of_a_required_variable_is_found(maker: ModuleType) -> None:
    assert told(maker, {"some_port": {"required": True}}, {"some_port": 2}) == [
        "some: some_port is required, and yet defaults/main.yml gives it 2"
    ]


def test_nested_options_have_rows_of_their_own(maker: ModuleType) -> None:
    inner = {"name": {"type": "str", "required": True}}
    option = {"type": "list", "elements": "dict", "options": inner, "description": "Who."}

    assert [row.name for row in maker.rows("some_people", option, [])] == ["some_people", "some_people[].name"]
