"""What stops an intruder: a plan of steps for an alert, and their carrying out."""
