# Monitoring: read the metrics.
path "sys/metrics" {
  capabilities = ["read"]
}
