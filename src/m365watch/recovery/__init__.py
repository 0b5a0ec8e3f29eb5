"""Recovery from a second source: Microsoft Graph's audit log queries."""
