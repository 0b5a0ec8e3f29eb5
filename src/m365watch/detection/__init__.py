"""Rules over records, correlations, alerts, enrichment, export and the packs."""
