"""Why no records arrive: the whole way looked at, step by step, until the first that is broken."""
