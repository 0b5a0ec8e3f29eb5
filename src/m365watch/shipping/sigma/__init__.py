"""Rules as plain Sigma, which other products read: native fields, lists written out, one key of our own."""
