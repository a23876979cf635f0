# A person at the command line: their own folder, and lockers. The folder's name is the subject that Check-in gave them.
path "secrets/users/{{identity.entity.aliases.${jwt_accessor}.name}}/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# A locker is a child token with no policy but `default`, and cannot be renewed. The client sends these fields; any other
# field or value is refused, above all one that would make the child more than a locker, or outlive its owner.
path "auth/token/create" {
  capabilities = ["update"]

  allowed_parameters = {
    policies          = [["default"]]
    ttl               = []
    num_uses          = []
    renewable         = [false]
    display_name      = []
    no_parent         = [false]
    no_default_policy = [false]
  }
  required_parameters = ["policies", "renewable"]
}

# A locker dies with the token that made it, so its owner must be able to keep that one alive.
path "auth/token/renew-self" {
  capabilities = ["update"]
}
