"""Credentials, tokens, consent, certificates, and the Microsoft Graph client."""
