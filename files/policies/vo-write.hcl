# Members of ${vo} who may write its folder.
path "secrets/vos/${vo}/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
