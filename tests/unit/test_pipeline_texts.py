import logging

import numpy as np
import pytest
import torch

from recbole_hellm import registry
from recbole_hellm.config.specs import FeatureSpec
from recbole_hellm.encoders.hashing import HashingTextEncoder
from recbole_hellm.encoders.text import HFTextEncoder
from recbole_hellm.errors import ConfigError, DataError
from recbole_hellm.pipeline.base import StageContext
from recbole_hellm.pipeline.features import FeatureStage
from recbole_hellm.pipeline.texts import item_texts, log_lengths, text_encoder
from recbole_hellm.views import TrainView


@pytest.fixture
def item_file(tmp_path):
    path = tmp_path / "x.item"
    path.write_text("item_id:token\ttitle:token_seq\tbrand:token_seq\n1\tdoll\tAcme\n2\tcar\t\n3\t\tAcme\n4\t\t\n")
    return path


@pytest.fixture
def context(item_file, tmp_path):
    none = torch.zeros(0, dtype=torch.long)
    return StageContext(TrainView(none, none, ("[PAD]",), ("[PAD]", "1", "2", "3", "4")), item_file, tmp_path / "no")


def stage(tmp_path, **settings):
    given = {"text_encoder": "hashing", "stage_cache_dir": str(tmp_path / "stages"), **settings}
    return FeatureStage.from_settings(given)


def test_columns_and_templates(item_file):
    assert item_texts(FeatureSpec(), item_file) == {"1": "doll. Acme", "2": "car", "3": "Acme", "4": ""}
    columns = FeatureSpec(text_columns=("brand", "title"))
    assert item_texts(columns, item_file)["1"] == "Acme. doll"
    both = FeatureSpec(text_columns=("title",), text_template="{title} by {brand}")
    assert item_texts(both, item_file) == {"1": "doll by Acme", "2": "car", "3": "by Acme", "4": ""}


def test_the_key_follows_the_texts_and_the_encoder(context, item_file, tmp_path):
    def key(**settings):
        return stage(tmp_path, **settings).inputs(context)

    first = key()
    assert key(text_columns=["title", "brand"]) == first  # the same texts
    assert key(image_encoder="colours", stage_cache_dir="elsewhere") == first
    changed = [key(text_columns=["title"]), key(text_template="{title}: {brand}")]
    item_file.write_text(item_file.read_text().replace("doll", "ball"))
    changed.append(key())
    assert len({str(each) for each in [first, *changed]}) == 4


def test_rows_follow_the_item_ids_and_missing_texts_are_zero(context, tmp_path):
    found = stage(tmp_path).run(context, {})
    encoder = HashingTextEncoder()
    expected = np.zeros((5, 256), dtype=np.float32)
    expected[1:4] = encoder.encode(["doll. Acme", "car", "Acme"])
    np.testing.assert_array_equal(found["text"].numpy(), expected)
    assert found["text.present"].tolist() == [0, 1, 1, 1, 0]


def test_an_encoder_gets_its_settings(tmp_path, monkeypatch):
    made = []

    class Noted(HFTextEncoder):
        def __init__(self, **settings):
            made.append(settings)

    monkeypatch.setitem(registry.text_encoders._table, "noted", Noted)
    text_encoder(FeatureSpec(text_encoder="noted", text_max_tokens=32, text_pooling="cls", text_normalise="no"))
    assert made == [{"max_length": 32, "pooling": "cls", "normalise": "no"}]
    with pytest.raises(ConfigError, match=r"did you mean 'hashing'"):
        text_encoder(FeatureSpec(text_encoder="hashin"))


def test_settings_are_checked():
    for bad, message in [
        ({"text_encoder": ""}, "text_encoder"),
        ({"image_encoder": ""}, "image_encoder"),
        ({"text_max_tokens": 2}, "'text_max_tokens' must be >= 3, got 2"),
        ({"text_pooling": "median"}, "'text_pooling' must be one of"),
        ({"text_normalise": "maybe"}, "'text_normalise' must be one of"),
        ({"image_download": "when"}, "'image_download' must be of type bool"),
    ]:
        with pytest.raises(ConfigError, match=message):
            FeatureSpec.from_config(bad)
    assert FeatureSpec.from_config({"text_normalise": False}).text_normalise == "no"


def test_no_text_at_all_names_the_columns(context, tmp_path):
    context.item_file.write_text("item_id:token\ttitle:token_seq\tbrand:token_seq\n1\t\tAcme\n")
    with pytest.raises(DataError, match="no item has text in columns title; set text_columns"):
        stage(tmp_path, text_columns=["title"]).run(context, {})
    with pytest.raises(DataError, match="no item has text in columns title;"):
        stage(tmp_path, text_template="{title}!").run(context, {})


def test_lengths_are_logged(caplog):
    caplog.set_level(logging.INFO)
    log_lengths(HashingTextEncoder(), ["one two three", "one", "one two"])
    assert "words p50 2, p95 3, longest 3; hashing cuts none" in caplog.text

    class Cutting(HashingTextEncoder):
        max_length = 4

        def token_counts(self, texts):
            return np.array([len(text) for text in texts])

    log_lengths(Cutting(), ["abcdef", "ab", "abc", "abcd"])
    assert "tokens p50 4, p95 6, longest 6; 25.0 % are cut to text_max_tokens=4" in caplog.text
    log_lengths(Cutting(), ["abc"] * 20_000)
    assert "0.0 % are cut" in caplog.text
