"""Measurements of this package against a plain re-statement of the method; see README.md beside this file."""
