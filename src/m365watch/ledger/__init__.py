"""What is known, delivered, quarantined and lost."""
