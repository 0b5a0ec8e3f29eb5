"""The figures of the store of identities come from a store that works."""

from __future__ import annotations

from benchmarks.dedup import measure_dedup


def test_the_measured_store_is_exact_and_every_figure_is_taken() -> None:
    """Whoever is fast because he forgets would not be found out by a clock."""
    figures = measure_dedup(250_000, more=12_000)

    assert figures.found_again == 100
    assert min(figures.filling_per_s, figures.in_order_per_s, figures.late_per_s) > 0
    assert figures.disk_bytes / figures.ids > 16
