"""Blobs split into records, and their headers, identity, masks and tables."""
