"""The filter language: what is typed becomes terms, a condition of SQL, and the records that fulfil it."""
