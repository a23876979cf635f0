# Members of ${vo} who may read its folder.
path "secrets/vos/${vo}/*" {
  capabilities = ["read", "list"]
}
