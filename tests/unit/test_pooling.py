import json

import numpy as np
import pytest
import torch

from recbole_hellm.encoders.pooling import Pooling, chosen_pooling, pool, read_pooling
from recbole_hellm.errors import DataError

HIDDEN = torch.tensor([[[1.0, 0], [3, 4], [9, 9]], [[7, 7], [0, 2], [2, 0]]])
PLAIN = ("Transformer", "Pooling")
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])  # padded right, padded left


@pytest.mark.parametrize(
    ("mode", "vectors"),
    [
        ("mean", [[2, 2], [1, 1]]),
        ("cls", [[1, 0], [0, 2]]),
        ("max", [[3, 4], [2, 2]]),
        ("last", [[3, 4], [2, 0]]),
    ],
)
def test_known_answers(mode, vectors):
    assert pool(HIDDEN, MASK, Pooling(mode, normalise=False)).tolist() == vectors
    unit = pool(HIDDEN, MASK, Pooling(mode)).numpy()
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


def modules(folder, *kinds, **flags):
    listed = [{"idx": i, "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
              for i, kind in enumerate(kinds)]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    return folder


def test_a_folder_says_how(tmp_path):
    assert read_pooling(tmp_path) == Pooling("mean", normalise=True)
    folder = modules(tmp_path, "Transformer", "Pooling", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    assert read_pooling(folder) == Pooling("cls", normalise=False)
    modules(folder, "Transformer", "Pooling", "Normalize", pooling_mode_max_tokens=True, word_embedding_dimension=8)
    assert read_pooling(folder) == Pooling("max", normalise=True)
    modules(folder, "Transformer", "Pooling", pooling_mode="lasttoken")
    assert read_pooling(folder) == Pooling("last", normalise=False)
    (folder / "modules.json").unlink()
    assert read_pooling(folder) == Pooling("last", normalise=True)


@pytest.mark.parametrize(
    ("kinds", "flags", "message"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode_mean_tokens": True}, "has a module 'Dense'"),
        (("Transformer",), {}, "has no module 'Pooling'"),
        (("Transformer", "Pooling"), {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling_mode_mean_sqrt_len_tokens"),
        (
            ("Transformer", "Pooling"),
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "mean and cls",
        ),
        (("Transformer", "Pooling"), {}, "pooling of no kind"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(tmp_path, kinds, flags, message):
    folder = modules(tmp_path, *kinds, **flags)
    with pytest.raises(DataError, match=f"{message}.*set text_pooling to"):
        read_pooling(folder)
    assert chosen_pooling(folder, "cls", "auto") == Pooling("cls")


def test_broken_files_and_words(tmp_path):
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(DataError, match="modules.json: cannot be read"):
        read_pooling(tmp_path)
    assert chosen_pooling(tmp_path, "max", "no") == Pooling("max", normalise=False)
    with pytest.raises(ValueError, match="pooling must be one of auto, mean"):
        chosen_pooling(tmp_path, "middle", "auto")
    with pytest.raises(ValueError, match="normalise must be one of"):
        chosen_pooling(tmp_path, "mean", "maybe")
