import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_hellm.assets import asset_path
from recbole_hellm.encoders.base import TextEncoder, encode_distinct
from recbole_hellm.encoders.efficientnet import EfficientNetEncoder
from recbole_hellm.encoders.hashing import HashingTextEncoder
from recbole_hellm.encoders.text import HFTextEncoder, MiniLMTextEncoder
from recbole_hellm.errors import DataError, MissingModelError
from recbole_hellm.registry import text_encoders

TEXTS = ["a wooden train", "a wooden toy train set", "shampoo", "", "a wooden train", "  ", "ein Auto 3"]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A random two-layer BERT with a character vocabulary."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_bert")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder


@pytest.fixture(params=["hashing", "hf"])
def encoder(request):
    if request.param == "hashing":
        return HashingTextEncoder(dim=64)
    return HFTextEncoder(request.getfixturevalue("tiny_bert"), batch_size=2)


def test_contract(encoder):
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert vectors.dtype == np.float32
    empty = [not text.strip() for text in TEXTS]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.where(empty, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[4])
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_order_and_company_do_not_matter(encoder):
    vectors = encoder.encode(TEXTS)
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]), vectors[::-1])
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)


@given(st.lists(st.text(max_size=12), max_size=12))
def test_encode_distinct_restores_every_text(texts):
    distinct, places = encode_distinct(texts)
    assert len(set(distinct)) == len(distinct)
    assert [distinct[i] if i >= 0 else None for i in places] == [text if text.strip() else None for text in texts]


def test_hashing_is_the_same_in_every_process():
    code = (
        "import zlib; from recbole_hellm.encoders.hashing import HashingTextEncoder as E; e = E(dim=32);"
        "v = e.encode(['a wooden train', 'Auto 3']); print(zlib.crc32((v * 1e4).round().tobytes()), e.fingerprint())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = HashingTextEncoder(dim=32)
    crc = zlib.crc32((here.encode(["a wooden train", "Auto 3"]) * 1e4).round().tobytes())
    assert done.stdout.split() == [str(crc), here.fingerprint()]


def test_hashing_puts_like_beside_like():
    a, b, c = HashingTextEncoder(dim=256).encode(TEXTS[:3])
    assert a @ b > 0.3 > abs(a @ c) + 0.1


def test_hashing_settings():
    assert HashingTextEncoder().dim == 256
    prints = {HashingTextEncoder(dim=8).fingerprint(), HashingTextEncoder(dim=9).fingerprint()}
    prints.add(HashingTextEncoder(dim=8, char_weight=0.1).fingerprint())
    assert len(prints) == 3
    for bad in ({"dim": 0}, {"char_weight": -1.0}, {"char_range": (3, 2)}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            HashingTextEncoder(**bad)


def test_mean_pooling_is_what_it_says(tiny_bert):
    encoder = HFTextEncoder(tiny_bert)
    tokenizer, model = encoder._loaded
    with torch.no_grad():
        hidden = model(**tokenizer("shampoo", return_tensors="pt")).last_hidden_state[0]
    expected = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
    np.testing.assert_allclose(encoder.encode(["shampoo"])[0], expected.numpy(), atol=1e-6)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_max_length_cuts(tiny_bert):
    encoder = HFTextEncoder(tiny_bert, max_length=4)
    # two special tokens, two of the text
    a, same, other = encoder.encode(["a b c d", "a b x y", "a x b y"])
    np.testing.assert_allclose(a, same, atol=1e-6)
    assert not np.allclose(a, other, atol=1e-3)


def test_bfloat16_is_close(tiny_bert):
    full, half = (HFTextEncoder(tiny_bert, precision=p).encode(TEXTS[:3]) for p in ("float32", "bfloat16"))
    assert ((full * half).sum(axis=1) > 0.999).all()
    assert not np.array_equal(full, half)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_the_precision_follows_the_processor(monkeypatch, native, chosen):
    """Emulated bf16 is tens of times slower: encoding 12,000 texts did not end in ten minutes of a core."""
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: native, raising=False)
    assert [encoder().precision for encoder in (MiniLMTextEncoder, EfficientNetEncoder)] == [chosen, chosen]
    assert MiniLMTextEncoder(precision="bfloat16").precision == "bfloat16"


def test_fingerprint_follows_content_not_place(tiny_bert, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tiny_bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    original = HFTextEncoder(tiny_bert).fingerprint()
    assert HFTextEncoder(copy).fingerprint() == original
    assert HFTextEncoder(copy, batch_size=1).fingerprint() == original
    assert HFTextEncoder(copy, max_length=64).fingerprint() != original
    assert HFTextEncoder(copy, precision="bfloat16").fingerprint() != original
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert HFTextEncoder(copy).fingerprint() != original


def test_bad_folders_and_arguments(tiny_bert, tmp_path):
    with pytest.raises(MissingModelError, match="is no model folder"):
        HFTextEncoder(tmp_path)
    with pytest.raises(MissingModelError, match="neither a folder nor a model in the Hugging Face cache"):
        HFTextEncoder("nobody/no-such-model")
    for bad in ({"batch_size": 0}, {"max_length": 2}, {"precision": "int8"}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            HFTextEncoder(tiny_bert, **bad)
    for file in tiny_bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="cannot be loaded"):
        HFTextEncoder(tmp_path).encode(["a"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="hidden_size"):
        _ = HFTextEncoder(tmp_path).dim


def test_minilm_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RECBOLE_HELLM_MODELS", str(tmp_path))
    with pytest.raises(MissingModelError, match="recbole-hellm models"):
        MiniLMTextEncoder()


def test_minilm_knows_meaning():
    try:
        asset_path("all-minilm-l6-v2")
    except MissingModelError as error:
        pytest.skip(str(error))
    encoder = MiniLMTextEncoder(batch_size=4, max_length=32)
    car, automobile, soap = encoder.encode(["a toy car", "a model automobile", "shampoo"])
    assert encoder.dim == 384
    assert car @ automobile > 0.5 > car @ soap


def test_registry_entries_resolve():
    assert text_encoders.get("hashing") is HashingTextEncoder
    assert text_encoders.get("minilm") is MiniLMTextEncoder
