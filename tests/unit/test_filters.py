"""Filters that shape what hosts say: what is missing there must not be taken for all being well."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def filters(name: str) -> ModuleType:
    """Load a file of filters as Ansible does, by its path."""
    spec = importlib.util.spec_from_file_location(f"{name}_filters", REPOSITORY / f"plugins/filter/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("names", "told"), [([{"name": "vault.example"}], True), ([], False), (None, False)])
def test_checkers_are_expected_where_the_inventory_has_names(names: object, told: bool) -> None:
    host = {"vault_node_id": "vault-infn", "site_name": "infn", "endpoint_failover_names": names}
    status = filters("cluster").service_status([host])
    assert any("No checker made a check" in todo.what for todo in status.todo) is told
