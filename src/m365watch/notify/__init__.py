"""Who is told of alerts: what is told, when, in which form, and what became of it."""
