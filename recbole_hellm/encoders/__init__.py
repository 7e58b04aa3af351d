"""Encoders: texts to vectors, for item features."""
