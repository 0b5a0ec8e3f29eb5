"""`m365watch demo`: the whole path on a simulated tenant, without credentials."""
