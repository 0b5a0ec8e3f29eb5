"""Entra ID: tokens, consent, federation, and the identities of machines."""
