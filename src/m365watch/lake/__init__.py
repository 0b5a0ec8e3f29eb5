"""Delta tables: written, maintained, erased from, searched and queried."""
