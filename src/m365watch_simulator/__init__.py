"""A tenant that behaves like Microsoft's, faults included; ships with the product."""
