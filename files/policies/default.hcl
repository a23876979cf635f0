# Every token has this policy, and a locker has nothing else. So it holds what a token may do with itself: its cubbyhole, a
# look at itself, its own end. No renewal, no look at an entity: a locker must not learn whose it is.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
