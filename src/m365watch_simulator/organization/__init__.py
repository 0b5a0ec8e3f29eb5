"""The simulated organization: who works there, what they do, and who attacks them."""
