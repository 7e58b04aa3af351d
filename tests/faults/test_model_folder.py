"""A saved model: what is in it, what loads it, and everything that is refused, each by name and in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recbole_hellm.checkpoints import folders, migration
from recbole_hellm.checkpoints.model_folder import read_model
from recbole_hellm.checkpoints.pickles import read_pickle
from recbole_hellm.errors import ArtifactError
from recbole_hellm.testing import checkerboard_settings, tiny_llm, write_checkerboard
from recbole_hellm.testing.building import build, scores


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_llm(folder / "llm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        yield folder


def settings(root, **changes):
    return checkerboard_settings(root, root / "llm", epochs=1, eval_step=1, **changes)


@pytest.fixture(scope="module")
def trained(root):
    """A trained HeLLM and the folder of its best model."""
    built = build("HeLLM", settings(root))
    built.trainer.fit(built.train, built.valid)
    built.trainer.load_model(Path(built.trainer.saved_model_file), built.test._dataset)
    return built, Path(built.trainer.saved_model_file)


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained[1], tmp_path / "best"))


def seal(folder, change=lambda manifest: None):
    """Give a changed folder digests that fit: what a careful wrongdoer, or an older version, leaves."""
    manifest = json.loads((folder / folders.MANIFEST).read_text())
    manifest.pop("digest")
    manifest["files"] = {name: folders.file_digest(folder / name) for name in manifest["files"]}
    change(manifest)
    (folder / folders.MANIFEST).write_text(json.dumps({**manifest, "digest": folders._digest(manifest)}))


def refused(built, folder, message):
    before = {name: t.clone() for name, t in built.model.state_dict().items()}
    with pytest.raises(ArtifactError, match=message) as error:
        built.trainer.load_model(folder, built.test._dataset)
    assert "\n" not in str(error.value)
    return before


def test_it_holds_exactly_what_is_trained_and_no_pickle(trained):
    built, folder = trained
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "checkpoint.json", "settings.json", "items.json", "model.safetensors", "probe.json", "probe.safetensors",
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
    }  # fmt: skip
    state = read_model(folder).state
    assert set(state) == set(built.model.checkpoint_keys())
    assert any("lora_B" in key for key in state)
    assert json.loads((folder / "items.json").read_text()) == ["[PAD]", *sorted(f"i{i}" for i in range(20))]


def test_peft_alone_loads_the_adapter(trained, root):
    from peft import PeftModel
    from transformers import AutoModel

    built, folder = trained
    alone = PeftModel.from_pretrained(AutoModel.from_pretrained(root / "llm"), folder / "adapter").eval()
    plain, ours = AutoModel.from_pretrained(root / "llm").eval(), built.model.core.backbone.model.eval()
    inputs = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted, without = (m(inputs_embeds=inputs).last_hidden_state for m in (alone, ours, plain))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(without, wanted, atol=1e-4), "the adapter changes nothing: the test shows nothing"


def test_a_new_object_gets_all_of_it(trained, root):
    built, folder = trained
    new = build("HeLLM", settings(root))
    new.trainer.load_model(folder, new.test._dataset)
    rows = built.train._dataset.inter_feat[:9]
    assert torch.equal(scores(new, rows), scores(built, rows))


def flip(path, place=-5):
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "adapter/adapter_model.safetensors", "probe.safetensors", "settings.json", "items.json",
     "checkpoint.json", "probe.json", "adapter/adapter_config.json"],
)  # fmt: skip
def test_a_flipped_bit_is_refused(trained, copy, name):
    flip(copy / name, -5 if name.endswith("safetensors") else 30)
    refused(trained[0], copy, f"{Path(name).name}.*(digest|cannot be read)")


def rewrite(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("core.head.weight"), r"lacks \['core.head.weight'\]"),
        (lambda t: t.update({"core.extra": torch.zeros(1)}), r"unknown \['core.extra'\]"),
        (lambda t: t.update({"core.head.weight": torch.zeros(3, 32)}), r"core.head.weight is \(3, 32\) float32"),
        (lambda t: t.update({"core.head.weight": t["core.head.weight"].half()}), "float16, the model has .* float32"),
        (lambda t: t["core.head.weight"].mul_(-1), "other scores than when it was saved"),
    ],
    ids=["missing key", "extra key", "shape", "type", "other weights"],
)
def test_tensors_that_do_not_fit_are_refused_though_the_digests_do(trained, copy, change, message):
    rewrite(copy / "model.safetensors", change)
    seal(copy)
    refused(trained[0], copy, message)


def test_an_adapter_that_is_not_the_one_saved_cannot_pass(trained, copy):
    rewrite(
        copy / "adapter" / "adapter_model.safetensors", lambda t: [x.zero_() for k, x in t.items() if "lora_B" in k]
    )
    seal(copy)
    refused(trained[0], copy, "other scores than when it was saved")


def test_an_adapter_that_is_not_there_cannot_pass(trained, copy):
    shutil.rmtree(copy / "adapter")
    refused(trained[0], copy, "adapter_config.json is missing")
    seal_without = json.loads((copy / folders.MANIFEST).read_text())
    seal_without.pop("digest")
    seal_without["files"] = {k: v for k, v in seal_without["files"].items() if not k.startswith("adapter")}
    text = json.dumps({**seal_without, "digest": folders._digest(seal_without)})
    (copy / folders.MANIFEST).write_text(text)
    refused(trained[0], copy, r"lacks \['core.backbone.*lora_A")


def test_a_loader_that_loses_the_adapter_is_found_out(trained, copy, monkeypatch):
    built = trained[0]
    load = type(built.model).load_state_dict
    with torch.no_grad():
        next(p for name, p in built.model.named_parameters() if "lora_B" in name).add_(1.0)
    monkeypatch.setattr(
        type(built.model), "load_state_dict",
        lambda self, state: load(self, {k: v for k, v in state.items() if "lora_" not in k}, strict=False),
    )  # fmt: skip
    refused(built, copy, "was not loaded: .*lora_B")


def test_an_adapter_that_is_loaded_but_off_is_found_out(trained, copy, monkeypatch):
    layers = [m for m in trained[0].model.modules() if hasattr(m, "lora_A") and hasattr(m, "_disable_adapters")]
    assert len(layers) == 6
    for layer in layers:
        monkeypatch.setattr(layer, "_disable_adapters", True)
    refused(trained[0], copy, "other scores than when it was saved")


def rename_item(manifest_items):
    manifest_items[3], manifest_items[4] = manifest_items[4], manifest_items[3]


def test_changed_item_ids_are_refused(trained, copy):
    items = json.loads((copy / "items.json").read_text())
    rename_item(items)
    (copy / "items.json").write_text(json.dumps(items))
    seal(copy)
    refused(trained[0], copy, f"made for other item ids: id 3 was '{items[3]}' and is '{items[4]}' now")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset", "beauty", "is of data set 'beauty', not of 'checkerboard'"),
        ("model", "MMHCL", "is of model 'MMHCL', not of 'HeLLM'"),
        ("events", "0" * 64, "was trained on other events"),
        ("frozen", "0" * 64, "was trained on the language model .*whose weights are not those"),
        ("users", "0" * 64, "was made for other user ids"),
    ],
)
def test_another_identity_is_refused(trained, copy, field, value, message):
    seal(copy, lambda manifest: manifest["identity"].update({field: value}))
    refused(trained[0], copy, message)


def test_another_data_set_is_refused(trained, root, tmp_path):
    write_checkerboard(tmp_path / "data", length=7)
    other = build("HeLLM", {**settings(root), "data_path": str(tmp_path / "data")})
    other.trainer._training_set = other.train._dataset
    refused(other, trained[1], "was trained on other events than this training split")


def test_another_backbone_is_refused(trained, root, tmp_path):
    torch.manual_seed(1)
    from transformers import AutoModel

    llm = AutoModel.from_pretrained(root / "llm")
    with torch.no_grad():
        next(llm.parameters()).add_(0.01)
    llm.save_pretrained(tmp_path / "llm2")
    other = build("HeLLM", {**settings(root), "llm_path": str(tmp_path / "llm2")})
    refused(other, trained[1], "was trained on the language model '.*/llm', whose weights are not those of '.*/llm2'")


@pytest.mark.parametrize(
    ("number", "message"),
    [(99, "has format 99, made by recbole_hellm 0.1.0; this version reads formats up to 1: update"),
     (0, "unknown format 0, made by recbole_hellm 0.1.0"), ("1", "unknown format '1'"), (None, "unknown format None")],
)  # fmt: skip
def test_other_formats_are_refused_with_the_version(trained, copy, number, message):
    seal(copy, lambda manifest: manifest.update({"format": number}))
    refused(trained[0], copy, message)


def test_an_older_format_is_migrated_or_refused(trained, copy, monkeypatch):
    built = trained[0]
    monkeypatch.setattr(migration, "FORMAT", 2)
    refused(built, copy, "has format 1, made by recbole_hellm 0.1.0; this version reads no format below 2")
    seal(copy, lambda manifest: manifest["identity"].update({"data": manifest["identity"].pop("dataset")}))
    step = {1: lambda m: {**m, "identity": {**m["identity"], "dataset": m["identity"]["data"]}}}
    monkeypatch.setattr(migration, "MIGRATIONS", step)
    built.trainer.load_model(copy, built.test._dataset)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "harm"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_read_without_running_it(trained, tmp_path, zipped):
    built = trained[0]
    state = built.model.state_dict()
    torch.save({"state_dict": state, "config": Harm(tmp_path / "harm"), "other_parameter": None}, tmp_path / "old.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    found = read_pickle(tmp_path / "old.pth")
    assert all(torch.equal(found["state_dict"][key], tensor) for key, tensor in state.items())
    with torch.no_grad():
        built.model.core.head.weight.add_(1)
    built.trainer.load_model(tmp_path / "old.pth", built.test._dataset)
    assert torch.equal(built.model.core.head.weight, found["state_dict"]["core.head.weight"])
    assert not (tmp_path / "harm").exists()
    torch.load(tmp_path / "old.pth", weights_only=False)
    assert (tmp_path / "harm").exists(), "the file does no harm to a careless reader: the test shows nothing"


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04K\x01."])
def test_files_that_are_no_model_are_refused(trained, tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    refused(trained[0], tmp_path / "x.pth", "x.pth")


def test_a_folder_that_is_none_is_refused(trained, tmp_path):
    refused(trained[0], tmp_path, "is no checkpoint: it has no checkpoint.json")
    refused(trained[0], tmp_path / "absent", "is no checkpoint")


def test_the_size_is_that_of_what_is_trained(trained):
    built, folder = trained
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    trained_bytes = sum(4 * t.numel() for t in built.model.state_dict().values())
    assert n_bytes < trained_bytes + 40_000
