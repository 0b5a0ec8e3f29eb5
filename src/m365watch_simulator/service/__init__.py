"""The simulated service: one server for many tenants, and the scenario that strikes it."""
