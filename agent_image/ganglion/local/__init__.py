"""The same manifests as processes on this machine, without a cluster."""
