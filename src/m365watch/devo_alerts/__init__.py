"""Alerts that Devo itself raises: their definitions, and the API that keeps them."""
