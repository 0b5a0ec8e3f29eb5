"""What rules may ask of a record that no single field of it says: the `m365.` fields."""
