"""Microsoft Graph: the directory, audit log searches, and service announcements."""
