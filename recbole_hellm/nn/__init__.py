"""Losses, fusion and heads: small pieces that take plain values."""
