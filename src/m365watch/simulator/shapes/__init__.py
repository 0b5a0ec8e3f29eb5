"""The shapes of the records, one module for each kind of workload."""
