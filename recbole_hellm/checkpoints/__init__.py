"""Checkpoints without pickles: folders of safetensors and JSON that are whole or absent, and refused by name."""
