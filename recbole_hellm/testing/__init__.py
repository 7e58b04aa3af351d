"""Small things to try and test models on: a data set that can be learned completely, a random language model.

Suites to inherit for your own models and stages are in :mod:`recbole_hellm.testing.contracts`, which needs pytest.
"""

from recbole_hellm.testing.toys import CHECKERBOARD, checkerboard_settings, tiny_llm, write_checkerboard

__all__ = ["CHECKERBOARD", "checkerboard_settings", "tiny_llm", "write_checkerboard"]
