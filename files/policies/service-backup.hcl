# The backup job: take a snapshot.
path "sys/storage/raft/snapshot" {
  capabilities = ["read"]
}
