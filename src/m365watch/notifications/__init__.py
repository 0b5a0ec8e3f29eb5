"""Alerts sent to notification channels, through an outbox."""
