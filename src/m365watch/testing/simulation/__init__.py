"""The real collector in a simulated world: one seed decides everything, and every promise is judged."""

from m365watch.testing.simulation.seeds import Verdict, simulate_plan, simulate_seed

__all__ = ["Verdict", "simulate_plan", "simulate_seed"]
