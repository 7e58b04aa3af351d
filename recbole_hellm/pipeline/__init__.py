"""Stages that run before a model's own training."""
