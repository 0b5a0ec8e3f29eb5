"""What every package may use: errors, clock, timestamps, text, durable files."""
