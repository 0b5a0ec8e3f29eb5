"""Webhook mode: Microsoft's notifications make content known early; polling stays the truth."""
