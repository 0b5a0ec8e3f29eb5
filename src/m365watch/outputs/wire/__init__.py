"""Sending over TCP or TLS to receivers that acknowledge nothing; `WireSender` is the way in."""

from m365watch.outputs.wire.sender import WireSender

__all__ = ["WireSender"]
