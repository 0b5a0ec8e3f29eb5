"""The Management Activity API: what a tenant has published, and how it is listed and fetched."""
