"""Where records go: a folder for each kind."""
