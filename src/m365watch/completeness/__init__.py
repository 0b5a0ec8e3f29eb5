"""The proof that nothing is missing: listings compared with the ledger, and silence told from quiet."""
