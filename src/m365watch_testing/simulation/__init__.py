"""The real collector in a simulated world: one seed decides everything, and every promise is judged."""
