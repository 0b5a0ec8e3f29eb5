"""Specs of the kinds of things (outputs, credentials, channels, checks), and the ports."""
