"""Checks, completeness, expiry, metrics and events of the collector itself."""
