"""A trained run as an HTTP service."""
