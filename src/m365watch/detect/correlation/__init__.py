"""From the matches of one group to the episodes that alerts tell of: pure functions of a set."""
