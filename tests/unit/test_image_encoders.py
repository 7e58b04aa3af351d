import json

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_hellm.assets import asset_path
from recbole_hellm.encoders.base import ImageEncoder
from recbole_hellm.encoders.colours import ColourGridEncoder
from recbole_hellm.encoders.efficientnet import EfficientNetEncoder, EfficientNetLite0
from recbole_hellm.encoders.image import HFImageEncoder
from recbole_hellm.encoders.text import HFTextEncoder
from recbole_hellm.errors import DataError, MissingModelError
from recbole_hellm.registry import image_encoders

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SEEN = {**SMALL, "image_size": 32, "patch_size": 8}
WORDS = {word: i for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"])}
READ = {"vocab_size": 6, "max_position_embeddings": 7, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def pictures():
    noise = np.random.default_rng(0).integers(0, 255, (5, 30, 40, 3), dtype=np.uint8)
    return [*(Image.fromarray(array) for array in noise), Image.new("RGB", (31, 77), (128, 128, 128))]


def make(kind, folder):
    """Write a random model of a few weights, as transformers would."""
    import transformers as hf

    processors = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor", "vit": "ViTImageProcessor"}
    processors |= {"resnet": "ConvNextImageProcessor"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            config = hf.CLIPConfig(text_config={**SMALL, **READ}, vision_config=SEEN, projection_dim=12)
            model = hf.CLIPModel(config)
            hf.CLIPTokenizer(vocab=WORDS, merges=[]).save_pretrained(folder)
        elif kind == "siglip":
            model = hf.SiglipModel(hf.SiglipConfig(text_config={**SMALL, "vocab_size": 20}, vision_config=SEEN))
        elif kind == "vit":
            model = hf.ViTForImageClassification(hf.ViTConfig(**SEEN))
        else:
            sizes = {"embedding_size": 8, "hidden_sizes": [8, 24], "depths": [1, 1]}
            model = hf.ResNetModel(hf.ResNetConfig(**sizes, layer_type="basic"))
        model.save_pretrained(folder)
    square = {"height": 32, "width": 32}
    size = {"shortest_edge": 32} if kind in ("clip", "resnet") else square
    settings = {"image_processor_type": processors[kind], "size": size, "crop_size": square, "crop_pct": 0.875}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


DIMS = {"clip": 12, "siglip": 16, "vit": 16, "resnet": 24}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: make(kind, tmp_path_factory.mktemp(kind)) for kind in DIMS}


@pytest.fixture(params=["colours", "efficientnet", *DIMS])
def encoder(request):
    if request.param == "colours":
        return ColourGridEncoder()
    if request.param == "efficientnet":
        return efficientnet()
    return HFImageEncoder(request.getfixturevalue("folders")[request.param], batch_size=2)


def efficientnet(**settings):
    try:
        asset_path("efficientnet-lite0")
    except MissingModelError as error:
        pytest.skip(str(error))
    return EfficientNetEncoder(batch_size=2, **settings)


def test_contract(encoder):
    assert isinstance(encoder, ImageEncoder)
    vectors = encoder.encode(pictures())
    assert (vectors.shape, vectors.dtype) == ((6, encoder.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)
    similar = encoder.encode([pictures()[0].convert("RGBA"), pictures()[5]])
    np.testing.assert_allclose(similar, vectors[[0, 5]], atol=0.02)
    assert not np.allclose(vectors[0], vectors[5], atol=1e-3)
    alone = np.concatenate([encoder.encode([image]) for image in pictures()])
    np.testing.assert_allclose(alone, vectors, atol=0.02)


def test_widths(folders):
    assert {kind: HFImageEncoder(folder).dim for kind, folder in folders.items()} == DIMS


def test_a_vision_transformer_gives_its_class_token(folders):
    encoder = HFImageEncoder(folders["vit"])
    processor, model = encoder._loaded
    pixels = processor(images=pictures()[:1], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(pixel_values=pixels).last_hidden_state[0, 0], dim=0)
    np.testing.assert_allclose(encoder.encode(pictures()[:1])[0], expected.numpy(), atol=1e-6)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_clip_gives_its_projection_for_pictures_and_texts(folders):
    encoder, texts = HFImageEncoder(folders["clip"]), HFTextEncoder(folders["clip"])
    processor, model = encoder._loaded
    with torch.no_grad():
        pixels = processor(images=pictures()[:1], return_tensors="pt")["pixel_values"]
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        expected = torch.nn.functional.normalize(model.visual_projection(pooled)[0], dim=0)
    np.testing.assert_allclose(encoder.encode(pictures()[:1])[0], expected.numpy(), atol=1e-6)
    vectors = texts.encode(["a b", "b a", "", "a b a b a b a b"])  # the last one is longer than the model's positions
    assert (vectors.shape, texts.max_length) == ((4, 12), 7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1], atol=1e-5)
    assert texts.token_counts(["a b", "a b a b a b a b"]).tolist() == [4, 10]


def test_fingerprints_follow_content(folders, tmp_path):
    first = HFImageEncoder(folders["vit"]).fingerprint()
    assert HFImageEncoder(folders["vit"], batch_size=9).fingerprint() == first
    assert HFImageEncoder(folders["vit"], precision="bfloat16").fingerprint() != first
    for file in folders["vit"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert HFImageEncoder(tmp_path).fingerprint() == first
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.875", "0.9"))
    assert HFImageEncoder(tmp_path).fingerprint() != first
    assert ColourGridEncoder(4).fingerprint() != ColourGridEncoder(8).fingerprint()


def test_bad_folders_and_arguments(folders, tmp_path):
    with pytest.raises(MissingModelError, match="image encoder .* is no model folder"):
        HFImageEncoder(tmp_path)
    with pytest.raises(MissingModelError, match="'hf download nobody/none' once while online"):
        HFImageEncoder("nobody/none")
    for file in folders["vit"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="image encoder cannot be loaded"):
        HFImageEncoder(tmp_path).encode(pictures())
    for bad in ({"batch_size": 0}, {"precision": "int8"}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            HFImageEncoder(folders["vit"], **bad)
    with pytest.raises(ValueError, match="cells must be"):
        ColourGridEncoder(0)


def test_colours_know_where_what_colour_is():
    left, right = Image.new("RGB", (80, 40), "red"), Image.new("RGB", (80, 40), "blue")
    left.paste("blue", (40, 0, 80, 40))
    right.paste("red", (40, 0, 80, 40))
    a, b, again = ColourGridEncoder(2).encode([left, right, left.resize((400, 200))])
    np.testing.assert_allclose(a, again, atol=0.01)
    assert a @ b < 0.5
    assert ColourGridEncoder(2).encode([Image.new("RGB", (4, 4), (127, 127, 127))]).any()


def test_efficientnet_gives_what_the_checkpoint_s_own_code_gave():
    """Numbers of efficientnet-lite-pytorch 0.1.0 on the same pixels; largest difference to them 1e-5."""
    assert sum(weight.numel() for weight in EfficientNetLite0().parameters()) == 3_350_000
    y, x = np.mgrid[0:224, 0:224]
    pixels = torch.from_numpy(np.stack([x, y, (x * y) % 256]).astype(np.float32))[None]
    with torch.no_grad():
        vector = efficientnet(precision="float32")._model((pixels - 127) / 128)[0]
    assert vector[:3].tolist() == pytest.approx([0.0911158, 0.0, 1.0861552], abs=1e-5)
    assert (float(vector.sum()), int(vector.argmax())) == (pytest.approx(220.0757, abs=1e-2), 1062)


def test_registry_entries_resolve():
    assert image_encoders.get("colours") is ColourGridEncoder
    assert image_encoders.get("efficientnet-lite0") is EfficientNetEncoder
