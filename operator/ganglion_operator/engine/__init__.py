"""Cache, queue and workers: level-triggered reconciliation on top of any source of events."""
