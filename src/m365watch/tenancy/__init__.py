"""Many tenants in one collector: how each stands, and what a changed configuration changes of them."""
