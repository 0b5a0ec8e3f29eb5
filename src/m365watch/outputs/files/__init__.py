"""Output `files`: NDJSON files of verbatim records, one folder per table.

No file system lets a reader see a file grow by whole lines only: a large write becomes visible page by page.
So a file grows in the hidden folder `.parts` and is published by one rename when it is full or old enough,
when its table has been quiet for a few seconds, and when the run ends.
"""
