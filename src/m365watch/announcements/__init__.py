"""Service health: Microsoft Graph's service announcements, polled and told from what was known before."""
