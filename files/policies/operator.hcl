# Operators in their daily role: all that the playbooks of every day need, and no user's secret.

# How the cluster stands.
path "sys/storage/raft/configuration" {
  capabilities = ["read"]
}

path "sys/storage/raft/autopilot/*" {
  capabilities = ["read"]
}

path "sys/ha-status" {
  capabilities = ["read"]
}

path "sys/host-info" {
  capabilities = ["read"]
}

path "sys/metrics" {
  capabilities = ["read"]
}

path "sys/audit" {
  capabilities = ["read", "sudo"]
}

# Hand leadership over before maintenance.
path "sys/step-down" {
  capabilities = ["update", "sudo"]
}

# A member that is lost, moves or leaves.
path "sys/storage/raft/remove-peer" {
  capabilities = ["update"]
}

# A snapshot is encrypted by the barrier: it opens with a threshold of shares only.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}

# Deal the unseal keys anew: worth nothing without a threshold of shares.
path "${rekey_init}" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}

path "${rekey_update}" {
  capabilities = ["create", "update", "sudo"]
}

path "${rekey_verify}" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}

# Encrypt what is written from now on with a new key.
path "${rotate}" {
  capabilities = ["create", "update", "sudo"]
}

path "${rotate_config}" {
  capabilities = ["read", "sudo"]
}

path "sys/key-status" {
  capabilities = ["read"]
}

# What is configured, to show drift. Nothing of it can be changed in this role.
path "sys/mounts" {
  capabilities = ["read"]
}

path "sys/mounts/*" {
  capabilities = ["read"]
}

path "sys/auth" {
  capabilities = ["read"]
}

path "sys/auth/*" {
  capabilities = ["read", "sudo"]
}

path "sys/policies/*" {
  capabilities = ["read", "list"]
}

path "sys/quotas/*" {
  capabilities = ["read", "list"]
}

path "auth/+/config" {
  capabilities = ["read"]
}

path "auth/+/role" {
  capabilities = ["list"]
}

# To the server a list is of a path that ends in a slash; beside a + it wants to be told so.
path "auth/+/role/" {
  capabilities = ["list"]
}

path "auth/+/role/+" {
  capabilities = ["read"]
}

path "identity/group/*" {
  capabilities = ["read", "list"]
}

path "identity/group-alias/*" {
  capabilities = ["read", "list"]
}

path "operations/*" {
  capabilities = ["read", "list"]
}

# Holds: a site that is drained is no candidate for the generic hostname.
path "operations/data/holds/*" {
  capabilities = ["create", "read", "update", "delete"]
}

# The lock of the run that changes the service.
path "operations/data/lock/*" {
  capabilities = ["create", "read", "update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

# Here too, and not by the policy default alone: an operator must be able to end their login when that one is amiss.
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
