"""Trainers: stages first, then fine-tuning; ranks of every user kept."""
