"""Hourly counts of the lake's records, one set of files for each day, so that pages need not count again."""
