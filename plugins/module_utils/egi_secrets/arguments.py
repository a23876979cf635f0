"""The arguments that the vault_cluster_* modules share, and how they become typed values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import bundle as bundles
from .api import Api, Node, connect
from .bundle import Bundle
from .preflight import Operator

Spec = dict[str, dict[str, Any]]

CONNECTION: Spec = {
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "connect_address": {"type": "str", "default": ""},
        },
    },
    "ca_file": {"type": "path", "required": True},
    "timeout": {"type": "float", "default": 5.0},
}

OPERATORS: Spec = {
    "operators": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "pgp_key_file": {"type": "path", "required": True},
            "shares": {"type": "int", "default": 1},
        },
    },
    "threshold": {"type": "int", "required": True},
}

BUNDLE_FILE: Spec = {"bundle_file": {"type": "path", "required": True}}

BUNDLE: Spec = {**BUNDLE_FILE, "bundle": {"type": "str", "default": ""}}

GNUPG_HOMES: Spec = {"gnupg_homes": {"type": "list", "elements": "str", "default": [""]}}


def connection(params: Mapping[str, Any]) -> list[Api]:
    """Return an `Api` for each of the module's `nodes`; nothing is sent yet.

    Raises:
        SecretsError: a node is misdescribed or the CA file is unreadable.
    """
    nodes = [Node(node["name"], node["url"], node["connect_address"]) for node in params["nodes"]]
    return connect(nodes, params["ca_file"], params["timeout"])


def operators(params: Mapping[str, Any]) -> list[Operator]:
    """Return the module's `operators`."""
    return [Operator(each["name"], each["pgp_key_file"], each["shares"]) for each in params["operators"]]


def bundle(params: Mapping[str, Any], *, check_mode: bool) -> Bundle:
    """Return the unseal bundle of the module's `BUNDLE`: in check mode nobody has written what the nodes have to its file.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    found = str(params.get("bundle") or "") if check_mode else ""
    return bundles.parse(found, "that the nodes have") if found else bundles.require(params["bundle_file"])


def diff(before: object, after: object, header: str) -> dict[str, str]:
    """Return a diff as Ansible shows it, of two values that JSON can hold; None: there is nothing."""

    def text(value: object) -> str:
        return "" if value is None else json.dumps(value, indent=2, sort_keys=True) + "\n"

    return {"before": text(before), "after": text(after), "before_header": header, "after_header": header}
