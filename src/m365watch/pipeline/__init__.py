"""From fetched records to acknowledged batches."""
