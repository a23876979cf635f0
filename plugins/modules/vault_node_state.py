#!/usr/bin/python
# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""Read what a node really is, on the node."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.egi_secrets import node_state

DOCUMENTATION = r"""
---
module: vault_node_state
short_description: Read what a node of the secrets service really is
description:
  - Tells what the server's process runs, whether a restart or reload is pending and why, what the server says of itself
    through its Unix socket, and how its TLS files, audit files, filesystems and limits stand.
  - Reads only, needs no token, and does the same in check mode.
options:
  unit: {description: The server's systemd unit., type: str, required: true}
  other_units: {description: Further units whose state to tell., type: list, elements: str, default: []}
  install_dir: {description: Where versions lie side by side., type: path, required: true}
  binary: {description: Name of the server's binary., type: str, required: true}
  version: {description: The version that the inventory asks for., type: str, required: true}
  user: {description: The server's user., type: str, required: true}
  started_dir: {description: Where the unit keeps copies of what the process started from., type: path, required: true}
  started_files: {description: "Files that count only from a start on.", type: list, elements: path, required: true}
  socket: {description: The server's Unix socket., type: path, required: true}
  name: {description: DNS name that the listeners' certificate must carry., type: str, required: true}
  ports: {description: Ports of the TLS listeners., type: list, elements: int, default: [8200]}
  listen_address: {description: Address that they bind., type: str, default: "[::]"}
  cluster_port: {description: "Port at which the other members reach it, on the same address.", type: int, default: 8201}
  certificate: {description: Certificate file on the host., type: path, required: true}
  ca: {description: CA file on the host., type: path, required: true}
  audit_files: {description: Audit files to look at., type: list, elements: path, default: []}
  filesystems: {description: Paths whose filesystems to look at., type: list, elements: path, default: []}
  tls_files: {description: Files whose checksum and permissions to look at., type: list, elements: path, default: []}
  way_back: {description: Where what it ran before is kept while it is restarted., type: path}
  raft_log: {description: "Where its store of Raft's log is, C(raft/raft.db) in its data directory.", type: path}
  firewall_table: {description: Name of our nftables table., type: str}
  firewall_definition: {description: What the table should be., type: str}
  commands: {description: Programs that must be on the host., type: list, elements: str, default: []}
attributes:
  check_mode: {support: full}
author: EGI Cloud secret management
"""

EXAMPLES = r"""
- name: Look at the node
  vault_node_state: "{{ __vault_server_look }}"
  register: state
"""

RETURN = r"""
state:
  description:
    - C(time) seconds since the epoch; C(units) by name; C(running); C(starts_at_boot);
      C(process) with pid, exe, exe_deleted, command, started,
      uid, memory_kb, swapped_kb, core_limit, open_files_limit, swap_max; C(versions) with installed, current, running;
      C(binary) with sha256, uid, gid, mode; C(account) with home, shell, locked;
      C(missing_commands); C(restart_pending) and C(reload_pending), lists of reasons; C(started_known), whether there are
      copies of the files that the process was started with; C(way_back), whether what it ran before is kept;
      C(remembers), whether its disk holds a log of Raft;
      C(ports) by port, who listens there, with pid and command;
      C(server) with health, seal, leader, autopilot, applied_index; C(tls) with file, served, error, trust (the CA file's
      certificates), authorities (sha256 of those of them that vouch for what is served) and listeners, of each its port,
      certificate (sha256, serial, issuer, subject, not_before, not_after, days_left), status and errors; C(audit) and
      C(filesystems) by path; C(host_swap); C(tls_files) with sha256, owner, group, mode, in the order that was asked;
      C(firewall_sound), whether the live table is the wanted one.
    - What cannot be known is null, C(autopilot) on a node that is not active among it.
  returned: success
  type: dict
"""

ARGUMENTS: dict[str, dict[str, object]] = {
    "unit": {"type": "str", "required": True},
    "other_units": {"type": "list", "elements": "str", "default": []},
    "install_dir": {"type": "path", "required": True},
    "binary": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "user": {"type": "str", "required": True},
    "started_dir": {"type": "path", "required": True},
    "started_files": {"type": "list", "elements": "path", "required": True},
    "socket": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "ports": {"type": "list", "elements": "int", "default": [8200]},
    "listen_address": {"type": "str", "default": "[::]"},
    "cluster_port": {"type": "int", "default": 8201},
    "certificate": {"type": "path", "required": True},
    "ca": {"type": "path", "required": True},
    "audit_files": {"type": "list", "elements": "path", "default": []},
    "filesystems": {"type": "list", "elements": "path", "default": []},
    "commands": {"type": "list", "elements": "str", "default": []},
    "tls_files": {"type": "list", "elements": "path", "default": []},
    "way_back": {"type": "path"},
    "raft_log": {"type": "path"},
    "firewall_table": {"type": "str"},
    "firewall_definition": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_together=[["firewall_table", "firewall_definition"]],
        supports_check_mode=True,
    )
    given = module.params
    node = node_state.Node(
        unit=given["unit"],
        other_units=tuple(given["other_units"]),
        install_dir=Path(given["install_dir"]),
        binary=given["binary"],
        version=given["version"],
        user=given["user"],
        started_dir=Path(given["started_dir"]),
        started_files=tuple(map(Path, given["started_files"])),
        socket=Path(given["socket"]),
        name=given["name"],
        ports=tuple(given["ports"]),
        listen_address=given["listen_address"],
        cluster_port=given["cluster_port"],
        certificate=Path(given["certificate"]),
        ca=Path(given["ca"]),
        audit_files=tuple(map(Path, given["audit_files"])),
        filesystems=tuple(map(Path, given["filesystems"])),
        commands=tuple(given["commands"]),
        tls_files=tuple(map(Path, given["tls_files"])),
        way_back=Path(given["way_back"]) if given["way_back"] else None,
        raft_log=Path(given["raft_log"]) if given["raft_log"] else None,
        firewall=(given["firewall_table"], given["firewall_definition"]) if given["firewall_table"] else None,
    )
    module.exit_json(changed=False, state=node_state.look(node))


if __name__ == "__main__":
    main()
