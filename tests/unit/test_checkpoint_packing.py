"""Values to JSON and tensors and back; what cannot be written without a pickle is refused by name."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recbole_hellm.checkpoints.packing import Packer, Unpacker
from recbole_hellm.errors import ArtifactError


def there_and_back(value):
    packer = Packer()
    text = json.dumps(packer.pack(value, "x"))
    return Unpacker(packer.tensors, "x.json").unpack(json.loads(text))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_plain_values_come_back_as_they_were(value):
    found = there_and_back(value)
    assert found == value
    assert repr(found) == repr(value)  # a tuple is no list, 1 is not 1.0, -0.0 is not 0.0


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities(value):
    assert there_and_back([value]) == [value]
    assert math.isnan(there_and_back(math.nan))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint32).reshape(2, 3) * 715827883,
        np.array([True, False]),
        np.array(2.5),
        np.zeros((0, 3), np.float32),
        np.arange(12.0)[::2],
        np.float64(0.1),
        np.int8(-3),
    ],
    ids=str,
)
def test_arrays_keep_type_and_bits(array):
    found = there_and_back({"a": array})["a"]
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array"])
def test_sparse_matrices(kind):
    dense = np.array([[0, 1.5, 0], [2.5, 0, 0]], dtype=np.float32)
    found = there_and_back(getattr(sparse, kind)(dense))
    assert type(found).__name__ == kind
    assert (found.toarray() == dense).all()
    assert found.dtype == np.float32


def test_tensors_of_one_memory_come_back_apart():
    whole = torch.arange(6.0)
    one, two = there_and_back((whole[:3], whole[2:]))
    assert one.tolist() == [0, 1, 2]
    assert two.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("value", [object(), {1.5: 2}, {(1, 2): 3}, np.array(["a"]), np.array([None]), print, {1, 2},
                                   torch.eye(2).to_sparse()], ids=lambda v: type(v).__name__)  # fmt: skip
def test_other_things_are_refused_by_place_and_type(value):
    with pytest.raises(ArtifactError, match=r"^x\.1.*cannot be saved safely") as error:
        Packer().pack([0, value], "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "document",
    [{"exec": "print(1)"}, {"tensor": "gone"}, {"tensor": "a", "float": "1"}, {"sparse": ["dok_matrix", [1], 1, 1, 1]},
     {"array": ["O", "a"]}, {"array": 5}, {"map": [[1]]}, {"sparse": ["__import__", [1, 1], 1, 1, 1]}],
)  # fmt: skip
def test_foreign_json_is_refused(document):
    with pytest.raises(ArtifactError, match=r"^x\.json"):
        Unpacker({"a": torch.zeros(2)}, "x.json").unpack(document)
