# The same people while they change the configuration. Whoever may write policies can grant themselves anything: this role is
# short-lived, taken for one run, and each use of it stands out in the audit log.
path "sys/mounts" {
  capabilities = ["read"]
}

path "sys/mounts/*" {
  capabilities = ["create", "read", "update", "delete", "list", "sudo"]
}

path "sys/auth" {
  capabilities = ["read"]
}

path "sys/auth/*" {
  capabilities = ["create", "read", "update", "delete", "list", "sudo"]
}

path "sys/policies/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "sys/quotas/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "sys/capabilities" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "auth/+/config" {
  capabilities = ["create", "read", "update", "delete"]
}

path "auth/+/role" {
  capabilities = ["list"]
}

# To the server a list is of a path that ends in a slash; beside a + it wants to be told so.
path "auth/+/role/" {
  capabilities = ["list"]
}

path "auth/+/role/+" {
  capabilities = ["create", "read", "update", "delete"]
}

# Give a service what it logs in with, and take it back.
path "auth/approle/role/+/role-id" {
  capabilities = ["read"]
}

path "auth/approle/role/+/secret-id" {
  capabilities = ["create", "update", "list"]
}

path "auth/approle/role/+/secret-id-accessor/destroy" {
  capabilities = ["create", "update"]
}

path "identity/group/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "identity/group" {
  capabilities = ["create", "update"]
}

path "identity/group-alias/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "identity/group-alias" {
  capabilities = ["create", "update"]
}

# Who made what.
path "operations/*" {
  capabilities = ["read", "list"]
}

path "operations/data/ledger/*" {
  capabilities = ["create", "read", "update", "delete"]
}

path "operations/metadata/ledger/*" {
  capabilities = ["read", "list", "delete"]
}

# The lock of the run that changes the service, where such a token is given.
path "operations/data/lock/*" {
  capabilities = ["create", "read", "update"]
}

# A VO's folder is emptied only when the inventory names it for removal; even then nothing of it is read.
path "secrets/vos/*" {
  capabilities = ["list", "delete"]
}

# Here too, and not by the policy default alone: an operator must be able to end their login when that one is amiss.
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
