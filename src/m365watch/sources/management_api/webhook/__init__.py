"""Webhook mode: notifications make content known early; polling stays the truth."""
