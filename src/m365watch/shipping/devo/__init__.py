"""Rules as Devo runs them: a LINQ query over its tables, and the trigger that makes alerts of its rows."""
