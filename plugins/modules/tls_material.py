#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Refuse TLS files that would not do, before anything is changed."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import tls

DOCUMENTATION = r"""
---
module: tls_material
short_description: Refuse TLS files that would not do
description:
  - Runs on the controller. Reads a certificate and a CA file, takes the key's text, and returns a sentence for each
    thing that is wrong.
  - It does not fail for what it finds, because a task that carries a key is hidden, and its reason would be as well.
options:
  members:
    description: Whose TLS files to judge.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: "Of the member, for messages.", type: str, required: true}
      certificate_file: {description: "PEM, the server's own certificate first.", type: str, required: true}
      ca_file: {description: "PEM, the CAs that clients trust.", type: str, required: true}
      key_file: {description: Where the key comes from; for messages., type: str, required: true}
      names: {description: DNS names that the certificate must cover., type: list, elements: str, required: true}
  keys:
    description:
      - The members' keys in the same order, since the files may be encrypted with ansible-vault.
      - Empty where they could not be read; the module then says which, and why.
    type: list
    elements: str
    required: true
  warn_days: {description: Warn when less than this many days are left., type: int, default: 30}
attributes:
  check_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Judge the TLS files
  tls_material:
    members:
      - name: vault-infn
        certificate_file: "{{ vault_server_tls_certificate_file }}"
        key_file: "{{ vault_server_tls_key_file }}"
        ca_file: "{{ vault_server_tls_ca_file }}"
        names: [vault.example.org]
    keys: "{{ query('ansible.builtin.file', vault_server_tls_key_file, errors='ignore') }}"
  delegate_to: localhost
  register: judged
  no_log: true

- name: Refuse TLS files that would not do
  ansible.builtin.assert:
    that: judged.problems | length == 0
    fail_msg: "{{ judged.problems | join(' ') }}"
"""

RETURN = r"""
problems:
  description: A sentence with its remedy for each thing that is wrong.
  returned: always
  type: list
  elements: str
certificates:
  description:
    - "Of each member the certificate's C(sha256), C(serial), C(issuer), C(not_before), C(not_after) and C(days_left), and
      from the CA file C(trust) (sha256, subject and not_before of all that it holds) and C(authorities) (sha256 of those
      that vouch for the certificate). Null where it cannot be read."
  returned: always
  type: dict
"""

MEMBER = {
    "name": {"type": "str", "required": True},
    "certificate_file": {"type": "str", "required": True},
    "ca_file": {"type": "str", "required": True},
    "key_file": {"type": "str", "required": True, "no_log": False},
    "names": {"type": "list", "elements": "str", "required": True},
}
ARGUMENTS = {
    "members": {"type": "list", "elements": "dict", "required": True, "options": MEMBER},
    "keys": {"type": "list", "elements": "str", "required": True, "no_log": True},
    "warn_days": {"type": "int", "default": 30},
}


def read(variable: str, path: str) -> tls.Pem:
    try:
        return tls.Pem(variable, path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return tls.Pem(variable, path, None, getattr(error, "strerror", None) or "it is not text")


def key_from(text: str, path: str) -> tls.Pem:
    """Take the key's text as Ansible read it; where it could not read all keys, find out whether it was this one."""
    if text:
        return tls.Pem("vault_server_tls_key_file", path, text)
    tried = read("vault_server_tls_key_file", path)
    if tried.text and not tried.text.startswith("$ANSIBLE_VAULT"):
        return tried
    return tls.Pem(tried.variable, path, None, tried.reason or "it is empty, or ansible-vault did not decrypt it")


def told(verdict: tls.Verdict, now: dt.datetime) -> dict[str, object] | None:
    if verdict.certificate is None:
        return None
    trust = [{**asdict(each), "not_before": each.not_before.isoformat()} for each in verdict.trust]
    return {**verdict.certificate.told(now.timestamp()), "trust": trust, "authorities": list(verdict.authorities)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    problems, certificates, now = [], {}, dt.datetime.now(dt.UTC)
    members, keys = module.params["members"], module.params["keys"]
    for member, key in zip(members, keys if len(keys) == len(members) else [""] * len(members), strict=True):
        verdict = tls.judge(
            certificate=read("vault_server_tls_certificate_file", member["certificate_file"]),
            key=key_from(key, member["key_file"]),
            ca=read("vault_server_tls_ca_file", member["ca_file"]),
            names=member["names"],
            now=now,
            warn_days=module.params["warn_days"],
        )
        for sentence in verdict.warnings:
            module.warn(f"{member['name']}: {sentence}")
        problems += [f"{member['name']}: {sentence}" for sentence in verdict.problems]
        certificates[member["name"]] = told(verdict, now)
    module.exit_json(changed=False, problems=problems, certificates=certificates)


if __name__ == "__main__":
    main()
