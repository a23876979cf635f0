#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Hold a site, so that no generic hostname is moved to it, or release it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import arguments
from ansible.module_utils.egi_secrets.errors import SecretsError
from ansible.module_utils.egi_secrets.operate import holds, session

DOCUMENTATION = r"""
---
module: vault_site_hold
short_description: Hold a site, so that no generic hostname is moved to it, or release it
description:
  - Writes or removes a hold in the cluster, where all failover checkers read it.
  - Refuses to touch another operator's hold, unless it is to be released. One's own is extended and never cut short.
  - Runs on the controller.
options:
  site: {description: "Name of the site. Empty only tells what is held.", type: str, required: true}
  state:
    description: Whether it is to be held, or what is held is only to be told.
    type: str
    choices: [held, released, told]
    default: held
  lasts: {description: "How long, such as 30m, 2h, 1d. Empty holds until it is released.", type: str, default: ""}
  by: {description: "Who holds it. Empty is the display name of the login.", type: str, default: ""}
  why: {description: What for., type: str, default: ""}
extends_documentation_fragment: [egi_secrets, egi_secrets.login]
"""

EXAMPLES = r"""
- name: Hold a site
  vault_site_hold:
    nodes: "{{ vault_nodes }}"
    ca_file: /etc/ssl/certs/ca-certificates.crt
    jwt: "{{ lookup('ansible.builtin.env', 'OIDC_ACCESS_TOKEN') }}"
    site: ifca
    lasts: 2h
    why: new disks
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
hold: {description: "The site's hold now: C(until), C(by), C(why). Null without one.", returned: always, type: dict}
holds: {description: All holds that last, by site., returned: always, type: dict}
leader: {description: The node that leads., returned: always, type: str}
now: {description: The cluster's clock in seconds since the epoch., returned: always, type: int}
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments.CONNECTION,
            **session.LOGIN,
            "site": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "released", "told"], "default": "held"},
            "lasts": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "why": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        result = hold(module.params, check_mode=module.check_mode)
    except SecretsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def hold(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run once, and return what the module returns."""
    lasts = holds.seconds(params["lasts"]) if params["lasts"] else 0
    node, now = session.leader_of(arguments.connection(params))
    site = params["site"]
    with session.as_operator(params, node) as server:
        before, after = None, None
        if params["state"] == "held":
            by = params["by"] or str((server.read("auth/token/lookup-self") or {}).get("display_name") or "")
            wanted = holds.Hold(now + lasts if lasts else 0, by, params["why"])
            before, after = holds.place(server, site, wanted, now, check_mode=check_mode)
        elif params["state"] == "released":
            before = holds.release(server, site, check_mode=check_mode)
        else:
            before = after = holds.read(server, site)[0] if site else None
        everyone = holds.everyone(server, now)
    return {
        "changed": before != after,
        "hold": asdict(after) if after else None,
        "holds": {each: asdict(lasting) for each, lasting in everyone.items()},
        "leader": node.name,
        "now": now,
        "diff": arguments.diff(asdict(before) if before else None, asdict(after) if after else None, f"hold on {site}"),
    }


if __name__ == "__main__":
    main()
