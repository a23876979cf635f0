# A person in the web UI: their own folder, and what the UI needs to draw itself. No lockers: a child of this token would
# inherit the groups of its entity.
path "secrets/users/{{identity.entity.aliases.${oidc_accessor}.name}}/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

path "sys/internal/ui/mounts/*" {
  capabilities = ["read"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}
