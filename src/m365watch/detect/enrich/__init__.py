"""What the user's own files say of addresses, people, domains and hashes; looked up when a rule asks."""
