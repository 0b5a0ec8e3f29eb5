"""Rules in the words of other products: LINQ and alert definitions for Devo, plain Sigma for the rest."""
