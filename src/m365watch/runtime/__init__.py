"""Puts the packages together: a run, its tenants, reload, recovery and replay."""
