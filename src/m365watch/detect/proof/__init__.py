"""Rules of the user's own hands, read for their mistakes: all of them, each with its place in the file."""
