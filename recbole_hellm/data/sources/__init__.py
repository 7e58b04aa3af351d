"""Parsers of what users have: one module a format."""
