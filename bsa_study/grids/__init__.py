"""Which runs a chapter needs."""
