"""Intruders found: rules over records, alerts out of what matched."""
