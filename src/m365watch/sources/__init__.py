"""Where records come from: the Management Activity API, service health, audit search, the lake."""
