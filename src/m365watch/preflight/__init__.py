"""What `m365watch check` looks at before a run: each step apart, with a cure for each that is broken."""
