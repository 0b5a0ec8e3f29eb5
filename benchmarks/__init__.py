"""What m365watch costs, measured beside what others cost: `python -m benchmarks`."""
