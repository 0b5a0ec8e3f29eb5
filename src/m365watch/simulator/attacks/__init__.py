"""The attacks that are woven into the organisation's days, each with its ground truth."""
