"""Containment plans for an alert, their execution and journal."""
