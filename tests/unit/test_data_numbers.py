import numpy as np
import pytest

from recbole_hellm.data.numbers import number_table
from recbole_hellm.errors import DataError


def test_near_ranks_are_alike_and_far_ones_are_not():
    table = number_table("price", {str(i): str(10.0**i) for i in range(101)})
    cosine = table.vectors @ table.vectors.T
    np.testing.assert_allclose(cosine.diagonal(), 1, atol=1e-5)
    assert cosine[50, 51] > 0.95
    assert cosine[50, 60] > cosine[50, 65] > cosine[50, 75]
    assert cosine[50, 76] < 0.05
    assert cosine[0, 3] > 0.9
    assert table.present().all()


def test_equal_numbers_have_equal_vectors_whatever_the_order():
    a = number_table("price", {"x": "3", "y": "3.0", "z": "7"})
    b = number_table("price", {"z": "7", "y": "3", "x": "3"})
    np.testing.assert_array_equal(a.vectors[0], a.vectors[1])
    np.testing.assert_array_equal(a.vectors[2], b.vectors[0])
    assert number_table("price", {"x": "-1"}).present().all()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"x": "1", "y": "ten"}, "column price: item 'y' must have a number, got 'ten'"),
        ({"x": "nan"}, "must have a finite number"),
        ({"x": "inf"}, "must have a finite number"),
        ({}, "no item has a number"),
    ],
)
def test_bad_cells(cells, message):
    with pytest.raises(DataError, match=message):
        number_table("price", cells)
