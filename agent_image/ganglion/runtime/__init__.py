"""The runtime: data plane and control thread, the same objects in a sidecar and in an agent process."""
