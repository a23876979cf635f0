#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Bring mounts, logins, policies, VOs and quotas to what is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import ReconcileError, SecretsError
from ansible.module_utils.egi_secrets.operate.session import leader_of
from ansible.module_utils.egi_secrets.reconcile import declare
from ansible.module_utils.egi_secrets.reconcile.acting import Credentials, RootGoneError, acting
from ansible.module_utils.egi_secrets.reconcile.apply import Outcome, Run
from ansible.module_utils.egi_secrets.reconcile.plan import NOTHING
from ansible.module_utils.egi_secrets.reconcile.proof import Proof
from ansible.module_utils.egi_secrets.reconcile.report import diff_of, plan_of, sentences
from ansible.module_utils.egi_secrets.reconcile.server import Server

DOCUMENTATION = r"""
---
module: vault_config
short_description: Bring mounts, logins, policies, VOs and quotas to what is declared
description:
  - Reads what the server is configured with, computes the difference to O(declared), and applies it in an order in which
    operators never lose their way in. Unchanged the second time.
  - What this module made and is declared no longer is removed, except what holds users' data or logins, which is only
    removed where O(remove) names it. What it did not make is left alone and listed. A ledger in the server tells the
    two apart.
  - Whatever changes how operators log in is tried with O(prove) before it stays.
  - Runs on the controller.
options:
  concurrency:
    description: How many requests are made side by side. What a run takes across a network is its requests times the round
      trip, divided by this.
    type: int
    default: 32
  token:
    description: Token to act with.
    type: str
    default: ""
  jwt:
    description: Access token to log in with, where O(token) is empty. The token got for it is revoked at the end.
    type: str
    default: ""
  login_path:
    description: Path of the auth method that takes O(jwt).
    type: str
    default: jwt
  login_role:
    description: Role to log in with.
    type: str
    default: ""
  bundle_file:
    description: The unseal bundle, whose root token is used while it is valid, where neither O(token) nor O(jwt) is given.
    type: path
    default: ""
  gnupg_homes:
    description: GnuPG homes that may decrypt it. An empty string is the operator's own.
    type: list
    elements: str
    default: [""]
  access_only:
    description: Make only what is marked C(access), which is what operators need to get in. Remove nothing.
    type: bool
    default: false
  declared:
    description: What should be.
    type: dict
    required: true
    suboptions:
      ledger_mount: {description: KV mount (version 2) for the ledger., type: str, default: operations}
      mounts:
        description: Secret engines.
        type: list
        elements: dict
        default: []
        suboptions:
          path: {description: Where it is mounted., type: str, required: true}
          type: {description: Its type., type: str, required: true}
          description: {description: For people to read., type: str, default: ""}
          options: {description: Its options., type: dict, default: {}}
          tune: {description: Its tuning., type: dict, default: {}}
          access: {description: Whether operators need it to get in., type: bool, default: false}
      auth:
        description: Auth methods.
        type: list
        elements: dict
        default: []
        suboptions:
          path: {description: Where it is mounted., type: str, required: true}
          type: {description: Its type., type: str, required: true}
          description: {description: For people to read., type: str, default: ""}
          tune: {description: Its tuning., type: dict, default: {}}
          settings: {description: "Written to C(auth/<path>/config).", type: dict, default: {}}
          secret_settings:
            description: The same, of fields that the server does not return.
            type: dict
            default: {}
          access: {description: Whether operators need it to get in., type: bool, default: false}
      policies:
        description: Policies.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Its name., type: str, required: true}
          file: {description: File in O(policy_dir)., type: str, required: true}
          variables: {description: What it is filled in with., type: dict, default: {}}
          access: {description: Whether operators need it to get in., type: bool, default: false}
      roles:
        description: Roles of auth methods.
        type: list
        elements: dict
        default: []
        suboptions:
          auth: {description: Path of the auth method., type: str, required: true}
          name: {description: Its name., type: str, required: true}
          settings: {description: Its fields. Those that are not named are reset., type: dict, required: true}
          access: {description: Whether operators need it to get in., type: bool, default: false}
      groups:
        description: External groups of the identity store, each with one alias.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Its name., type: str, required: true}
          policies: {description: What members may do., type: list, elements: str, required: true}
          auth: {description: Path of the auth method whose logins put people into it., type: str, required: true}
          alias: {description: The claim's value that does so., type: str, required: true}
      quotas:
        description: Rate limits.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Its name., type: str, required: true}
          settings: {description: Its fields., type: dict, required: true}
      vos:
        description: Virtual organisations.
        type: list
        elements: dict
        default: []
        suboptions:
          name: {description: Its name and that of its folder., type: str, required: true}
          entitlement: {description: What each member has., type: str, required: true}
          members: {description: What members may do., type: str, choices: [write, read], default: write}
          writers: {description: Entitlements of those who may write., type: list, elements: str, default: []}
      vo_template:
        description: What a VO becomes.
        type: dict
        suboptions:
          folder: {description: Below which VOs have their folders., type: str, required: true}
          cli_auth: {description: Auth method of the command line., type: str, required: true}
          web_auth: {description: Auth method of the web UI. Empty makes no groups., type: str, default: ""}
          claim: {description: Claim with the entitlements., type: str, required: true}
          read_policy: {description: Policy file of those who read., type: str, required: true}
          write_policy: {description: Policy file of those who write., type: str, required: true}
          role_policies: {description: What every login of a VO may do., type: list, elements: str, required: true}
          role_settings: {description: Fields that the roles of VOs share., type: dict, required: true}
  policy_dir:
    description: Folder with the policies.
    type: path
    required: true
  remove:
    description: What holds users' data or logins and may be removed for good, as C(mount:<path>), C(auth:<path>) or
      C(vo:<name>).
    type: list
    elements: str
    default: []
  prove:
    description: How operators log in.
    type: dict
    required: true
    suboptions:
      jwt: {description: "An operator's access token, or empty.", type: str, default: ""}
      login_path: {description: Path of the auth method., type: str, default: jwt}
      login_roles:
        description: Roles that must work. The last must be able to configure.
        type: list
        elements: str
        required: true
extends_documentation_fragment: [egi_secrets, egi_secrets.bundle]
"""

EXAMPLES = r"""
- name: Bring logins and policies to what is declared
  vault_config:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    login_role: configurator
    declared: "{{ declared }}"
    policy_dir: "{{ playbook_dir }}/../files/policies"
    prove:
      jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
      login_roles: [operator, configurator]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plan:
  description: Each change, in order.
  returned: always
  type: list
  elements: dict
  sample: [{action: update, id: "role:jwt/personal"}]
foreign: {description: What this module did not make and left alone., returned: always, type: list, elements: str}
kept: {description: "What is declared no longer and holds users' data or logins, with the remedy.", returned: always,
  type: list, elements: str}
notes: {description: What else an operator should know., returned: always, type: list, elements: str}
acted_as: {description: As whom., returned: always, type: str, sample: role configurator}
requests: {description: How many requests were made., returned: always, type: int}
"""

_TEXT = {"type": "str", "default": ""}
_NEEDED = {"type": "str", "required": True}
_DICT = {"type": "dict", "default": {}}
_ACCESS = {"access": {"type": "bool", "default": False}}
_NAMES = {"type": "list", "elements": "str"}


def _list_of(options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


_DECLARED = {
    "ledger_mount": {"type": "str", "default": "operations"},
    "mounts": _list_of({"path": _NEEDED, "type": _NEEDED, "description": _TEXT, "options": _DICT, "tune": _DICT, **_ACCESS}),
    "auth": _list_of(
        {
            "path": _NEEDED,
            "type": _NEEDED,
            "description": _TEXT,
            "tune": _DICT,
            "settings": _DICT,
            "secret_settings": {**_DICT, "no_log": True},
            **_ACCESS,
        }
    ),
    "policies": _list_of({"name": _NEEDED, "file": _NEEDED, "variables": _DICT, **_ACCESS}),
    "roles": _list_of({"auth": _NEEDED, "name": _NEEDED, "settings": {"type": "dict", "required": True}, **_ACCESS}),
    "groups": _list_of({"name": _NEEDED, "policies": {**_NAMES, "required": True}, "auth": _NEEDED, "alias": _NEEDED}),
    "quotas": _list_of({"name": _NEEDED, "settings": {"type": "dict", "required": True}}),
    "vos": _list_of(
        {
            "name": _NEEDED,
            "entitlement": _NEEDED,
            "members": {"type": "str", "choices": ["write", "read"], "default": "write"},
            "writers": {**_NAMES, "default": []},
        }
    ),
    "vo_template": {
        "type": "dict",
        "options": {
            "folder": _NEEDED,
            "cli_auth": _NEEDED,
            "web_auth": _TEXT,
            "claim": _NEEDED,
            "read_policy": _NEEDED,
            "write_policy": _NEEDED,
            "role_policies": {**_NAMES, "required": True},
            "role_settings": {"type": "dict", "required": True},
        },
    },
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **arguments.GNUPG_HOMES,
            **arguments.BUNDLE,
            "bundle_file": {"type": "path", "default": ""},
            "concurrency": {"type": "int", "default": 32},
            "token": {"type": "str", "default": "", "no_log": True},
            "jwt": {"type": "str", "default": "", "no_log": True},
            "login_path": {"type": "str", "default": "jwt"},
            "login_role": _TEXT,
            "access_only": {"type": "bool", "default": False},
            "declared": {"type": "dict", "required": True, "options": _DECLARED},
            "policy_dir": {"type": "path", "required": True},
            "remove": {**_NAMES, "default": []},
            "prove": {
                "type": "dict",
                "required": True,
                "options": {
                    "jwt": {"type": "str", "default": "", "no_log": True},
                    "login_path": {"type": "str", "default": "jwt"},
                    "login_roles": {**_NAMES, "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        result = reconcile(module.params, check_mode=module.check_mode, diff=module._diff)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def reconcile(params: dict[str, Any], *, check_mode: bool, diff: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    declaration = declare.read(params["declared"], Path(params["policy_dir"]), params["remove"])
    if params["concurrency"] < 1:
        raise ReconcileError(f"concurrency is {params['concurrency']}: give 1 or more.")
    token, jwt = params["token"].strip(), params["jwt"].strip()
    credentials = Credentials(
        Secret(token),
        Secret(jwt),
        params["login_path"],
        params["login_role"],
        arguments.bundle(params, check_mode=check_mode) if params["bundle_file"] and not (token or jwt) else None,
        params["gnupg_homes"],
    )
    prove = params["prove"]
    proof = Proof(Secret(prove["jwt"].strip()), prove["login_path"], prove["login_roles"])
    try:
        with (
            Server(
                leader_of(arguments.connection(params))[0], params["ca_file"], params["timeout"], params["concurrency"]
            ) as server,
            acting(server, credentials) as name,
        ):
            outcome = Run(server, declaration, proof, access_only=params["access_only"]).run(check_mode=check_mode)
    except RootGoneError as error:  # nothing to hand over: what comes next acts as an operator, and has the bundle say so
        outcome, name = Outcome(NOTHING, changed=False, notes=[str(error)]), "nobody"
    return {
        "changed": outcome.changed,
        "plan": plan_of(outcome.plan),
        "foreign": [str(ident) for ident in outcome.plan.foreign],
        "kept": sentences(outcome.plan),
        "notes": outcome.notes,
        "acted_as": name,
        "requests": server.requests,
        "diff": diff_of(outcome.plan) if diff else {},
    }


if __name__ == "__main__":
    main()
