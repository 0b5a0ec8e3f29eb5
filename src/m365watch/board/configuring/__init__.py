"""The collector's configuration, seen and changed from the board."""
