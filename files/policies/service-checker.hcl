# The failover checkers: heartbeats with what each has seen, the lease of whoever would move a name, and holds to heed.
path "operations/data/failover/*" {
  capabilities = ["create", "read", "update"]
}

path "operations/metadata/failover/*" {
  capabilities = ["list"]
}

path "operations/data/holds/*" {
  capabilities = ["read"]
}

path "operations/metadata/holds/*" {
  capabilities = ["list"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
