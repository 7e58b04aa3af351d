"""Fixtures of the unit tests."""

import pytest
from sources import prepared

from recbole_hellm.errors import DataError


@pytest.fixture
def refused(tmp_path):
    """Prepare a source that must be refused with one line, leaving nothing behind."""

    def check(source, message, error=DataError, **settings):
        with pytest.raises(error, match=message) as caught:
            prepared(tmp_path, source, **settings)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
        return str(caught.value)

    return check
