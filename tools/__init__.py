"""The workshop's own tools; none of them is part of the product."""
