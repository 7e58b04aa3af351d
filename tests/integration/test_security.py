"""Nothing that a run reads is run: settings, yaml, pickles, model code, names of files, item texts."""

import ast
import pickle
import socket
from pathlib import Path

import pytest
import torch
import yaml

import recbole_hellm
from recbole_hellm import compat
from recbole_hellm.config.recbole_config import HellmConfig, parse_arguments
from recbole_hellm.errors import ConfigError, DataError, MissingModelError
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing import CHECKERBOARD

PACKAGE = Path(recbole_hellm.__file__).parent


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.write_text, (Path(self.path), "harm"))


@pytest.fixture
def harm(tmp_path):
    path = tmp_path / "harm"
    yield path
    assert not path.exists(), "code that a file or setting brought was run"


def test_a_setting_of_the_command_line_is_no_code(toy, harm):
    code = f"open({str(harm)!r},'w')"
    assert parse_arguments([f"--learning_rate={code}"])["learning_rate"] == code
    with pytest.raises(ConfigError, match="learning_rate"):
        HellmConfig("SASRec", CHECKERBOARD, config_dict=toy(), argv=[f"--learning_rate={code}"])
    with pytest.raises(ConfigError, match="learning_rate"):
        HellmConfig("SASRec", CHECKERBOARD, config_dict=toy(learning_rate=code))


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_a_tag_in_yaml_makes_no_object(toy, tmp_path, harm, tag):
    text = f"epochs: {tag} ['touch {harm}']\n"
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match="bad.yaml is no valid yaml"):
        HellmConfig("SASRec", CHECKERBOARD, [tmp_path / "bad.yaml"], toy())
    with pytest.raises(ConfigError, match="no valid yaml"):
        parse_arguments([f"--epochs={tag} ['touch {harm}']"])
    settings = toy()
    (tmp_path / "data" / CHECKERBOARD / f"{CHECKERBOARD}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"{CHECKERBOARD}.yaml is no valid yaml"):
        HellmConfig("SASRec", CHECKERBOARD, config_dict=settings)


@pytest.mark.parametrize("model", ["SASRec", "HeLLM"])
def test_pickled_data_sets_beside_the_models_are_not_read(toy, tmp_path, harm, model):
    """RecBole unpickles them whenever they are there."""
    (tmp_path / "saved").mkdir()
    kinds = ("SequentialDataset", "HellmSequentialDataset", "HeLLMDataset", "Dataset")
    for name in [*(f"{CHECKERBOARD}-{kind}.pth" for kind in kinds), f"{CHECKERBOARD}-for-{model}-dataloader.pth"]:
        (tmp_path / "saved" / name).write_bytes(pickle.dumps(Harm(harm)))
    assert run_recbole_hellm(model, CHECKERBOARD, config_dict=toy(epochs=1))["test_result"]


@pytest.mark.parametrize("key", ["save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"])
def test_pickled_data_sets_cannot_be_asked_for(toy, key):
    with pytest.raises(ConfigError, match=f"setting '{key}' .*pickles"):
        HellmConfig("SASRec", CHECKERBOARD, config_dict=toy(**{key: "x.pth"}))


def test_a_name_that_recbole_evaluates_is_checked(toy, harm):
    with pytest.raises(ConfigError, match="setting 'teacher' must be the name of a model"):
        HellmConfig("KD_DAGFM", CHECKERBOARD, config_dict=toy(), argv=[f"--teacher=open('{harm}','w')"])


def test_item_embeddings_that_need_pickle_are_refused(toy, tmp_path, harm):
    import numpy as np

    settings = toy()
    np.save(tmp_path / "data" / CHECKERBOARD / "item_emb.npy", np.array([Harm(harm)]), allow_pickle=True)
    with pytest.raises(DataError, match="item_emb.npy is no plain array"):
        run_recbole_hellm("SASRec", CHECKERBOARD, config_dict=settings)


def test_a_pickle_that_recbole_loads_in_our_run_stays_inert(tmp_path, harm):
    """``pre_model_path`` of S3Rec and RaCT, and the pretrained parts of NeuMF, come this way."""
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": Harm(harm)}, tmp_path / "pre.pth")
    caller = {"__name__": "recbole.model.some", "torch": torch, "path": str(tmp_path / "pre.pth")}
    with compat.without_pickles():
        exec("found = torch.load(path)['state_dict']", caller)  # noqa: S102 (stands for a module of RecBole)
    assert torch.equal(caller["found"]["a"], torch.ones(2))


def test_model_code_beside_a_language_model_is_not_run(toy, tmp_path, llm, harm):
    import json
    import shutil

    folder = Path(shutil.copytree(llm, tmp_path / "remote"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard_of", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(harm)!r}, 'w').write('harm')\n")
    with pytest.raises(MissingModelError, match="setting 'llm_path'.*cannot be loaded") as error:
        run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(llm_path=str(folder), item_features=[]))
    assert "\n" not in str(error.value)


def calls():
    """Every call in the package: file, name of what is called, its arguments by name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                found.append((str(path.relative_to(PACKAGE)), name, given))
    return found


def test_every_loader_of_transformers_forbids_code():
    loaders = [(file, name, given) for file, name, given in calls()
               if name.endswith((".from_pretrained", "AutoModel.from_config")) and name.startswith("Auto")]  # fmt: skip
    assert len(loaders) == 10
    with_files = [entry for entry in loaders if not entry[1].endswith("from_config")]
    assert [entry for entry in with_files if entry[2].get("trust_remote_code") != "False"] == []


def test_nothing_in_the_package_evaluates_or_unpickles():
    wrong = []
    for file, name, given in calls():
        evaluates = name in ("eval", "exec", "compile", "pickle.load", "pickle.loads", "os.system", "__import__")
        torch_load = name == "torch.load" and given.get("weights_only") != "True" and "pickle_module" not in given
        numpy_load = name == "np.load" and given.get("allow_pickle") != "False"
        shell = given.get("shell") == "True"
        yaml_load = name in ("yaml.load", "yaml.full_load", "yaml.unsafe_load") and given.get("Loader") != "_Loader"
        unpacked = name.endswith("extractall") and file != "assets/__init__.py"
        if evaluates or torch_load or numpy_load or shell or yaml_load or unpacked:
            wrong.append((file, name))
    assert wrong == []
    assert len(calls()) > 2000, "the package was not found"


def test_our_yaml_loader_is_a_safe_one():
    from recbole_hellm.config.layers import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)


def test_a_run_opens_no_connection(toy, monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    assert run_recbole_hellm("HeLLM", CHECKERBOARD, config_dict=toy(epochs=1))["test_result"]


def test_a_title_with_a_script_is_shown_and_not_run(toy, tmp_path):
    from recbole_hellm.data.inspect.report import inspect_dataset

    toy()
    file = tmp_path / "data" / CHECKERBOARD / f"{CHECKERBOARD}.item"
    script = "<script>alert(1)</script>"
    lines = [line if number == 0 else f"{line} {script}" for number, line in enumerate(file.read_text().splitlines())]
    file.write_text("\n".join(lines) + "\n")
    inspect_dataset(CHECKERBOARD, tmp_path / "data", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_harm_of_these_tests_is_real(tmp_path):
    """A file that did no harm to a careless reader would show nothing."""
    pickle.loads(pickle.dumps(Harm(tmp_path / "proof")))
    assert (tmp_path / "proof").read_text() == "harm"
