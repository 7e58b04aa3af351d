"""Small things to try and test models on: a data set that can be learned completely, a random language model."""

from recbole_hellm.testing.toys import CHECKERBOARD, checkerboard_settings, tiny_llm, write_checkerboard

__all__ = ["CHECKERBOARD", "checkerboard_settings", "tiny_llm", "write_checkerboard"]
