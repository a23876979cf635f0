# Copyright: EGI Foundation and contributors
# SPDX-License-Identifier: Apache-2.0
"""What the modules that talk to the cluster's API share; module_utils/egi_secrets/arguments.py has the same as specs."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of shared options."""

    DOCUMENTATION = r"""
options:
  nodes:
    description: The members of the cluster, in the order in which they are initialised and joined.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Inventory name., type: str, required: true}
      url:
        description: Address of the API, C(https://<fqdn>:<port>). Its certificate must carry that name.
        type: str
        required: true
      connect_address:
        description: IP address to connect to while TLS is verified against the name in O(nodes[].url). Empty resolves
          the name.
        type: str
        default: ""
  ca_file:
    description: PEM file, on the controller, of the authority that signed the certificates of the nodes.
    type: path
    required: true
  timeout:
    description: Seconds to connect, and seconds to wait for each answer.
    type: float
    default: 5.0
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: EGI Cloud secret management
"""

    GNUPG_HOMES = r"""
options:
  gnupg_homes:
    description:
      - GnuPG homes with the secret keys at hand. An empty string is the operator's own, with its agent and smart cards.
      - A passphrase or PIN is asked for by the agent's pinentry. In a terminal it needs C(export GPG_TTY=$(tty)).
    type: list
    elements: str
    default: [""]
"""

    BUNDLE_FILE = r"""
options:
  bundle_file:
    description: The copy on the controller of the unseal bundle, which holds PGP ciphertext only.
    type: path
    required: true
"""

    BUNDLE = r"""
options:
  bundle:
    description:
      - The bundle as the module vault_cluster_init returned it. It counts in check mode, where that module does not write
        O(bundle_file).
    type: str
    default: ""
"""

    OPERATORS = r"""
options:
  operators:
    description: The share-holders.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the operator., type: str, required: true}
      pgp_key_file: {description: "File, on the controller, with that one public PGP key.", type: path, required: true}
      shares: {description: Number of shares that this operator holds., type: int, default: 1}
  threshold: {description: Shares needed to unseal., type: int, required: true}
"""

    LOGIN = r"""
options:
  token: {description: Token to act with., type: str, default: ""}
  jwt:
    description: Access token to log in with, where O(token) is empty. The token got for it is revoked at the end.
    type: str
    default: ""
  login_path: {description: Path of the auth method that takes O(jwt)., type: str, default: jwt}
  login_role: {description: Role to log in with., type: str, default: operator}
"""
