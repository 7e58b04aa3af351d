"""Test suites to inherit: what every model and every stage of this package keeps, for yours too.

In a test file, then run pytest::

    class TestMyModel(ModelContract):
        model = "MyModel"
        trained_parts = ("head.",)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import Tensor

from recbole_hellm import registry
from recbole_hellm.artifacts import ArtifactStore
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.pipeline.base import StageContext, order_stages, run_stages
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing.toys import CHECKERBOARD, checkerboard_settings, tiny_llm
from recbole_hellm.trainer.registration import trainer_for
from recbole_hellm.views import train_view


@dataclass
class Built:
    """A model with its data and its trainer; its stages have run."""

    config: Any
    model: Any
    trainer: Any
    train: Any
    valid: Any
    test: Any


def build(model: str, settings: Mapping[str, Any], dataset: str = CHECKERBOARD) -> Built:
    """Build a registered model on a data set and run its stages, without training it."""
    config = HellmConfig(model, dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    data = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    net = config.model_class(config, data[0]._dataset).to(config["device"])
    trainer = trainer_for(model)(config, net)
    if hasattr(trainer, "run_stages"):
        trainer.run_stages(data[0])
    return Built(config, net, trainer, *data)


def scores(built: Built, rows: Interaction) -> Tensor:
    """Return the scores ``[B, n_items]`` of rows of RecBole's data."""
    built.model.eval()
    with torch.no_grad():
        out = built.model.full_sort_predict(rows.to(built.config["device"]))
    return out.view(len(rows), -1).cpu()


class _Settings:
    @classmethod
    def settings(cls, folder: Path, **changes: Any) -> dict[str, Any]:
        """Return settings of a quick run on the checkerboard that writes only below ``folder``; yours may override."""
        llm = folder / "llm"
        return checkerboard_settings(folder, llm if llm.is_dir() else tiny_llm(llm), **changes)


class ModelContract(_Settings):
    """What every registered model keeps. Subclass it in a test file as ``TestMyModel``."""

    model: ClassVar[str] = ""
    """Name in :data:`recbole_hellm.registry.models`."""
    trained_parts: ClassVar[tuple[str, ...]] = ()
    """Pieces of parameter names. Each must occur among the trained parameters, and all of them must match one."""
    learning: ClassVar[Mapping[str, Any]] = {"epochs": 60, "eval_step": 20}
    """Settings under which the model learns the checkerboard completely: recall@5 of 1."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        """Return the folder of all runs of one contract."""
        folder = tmp_path_factory.mktemp(cls.model)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)  # RecBole writes its logs below the working directory
            yield folder

    @pytest.fixture(scope="class")
    @classmethod
    def quick(cls, folder: Path) -> tuple[Built, dict[str, Tensor]]:
        """Return the model after two epochs, saved, and its parameters before them."""
        built = build(cls.model, cls.settings(folder))
        before = {name: tensor.detach().clone() for name, tensor in built.model.named_parameters()}
        built.trainer.fit(built.train, built.valid, saved=True, show_progress=False)
        return built, before

    @staticmethod
    def rows(built: Built) -> Interaction:
        """Return rows of different history lengths."""
        return built.train._dataset.inter_feat[:11]

    @classmethod
    def checkpoint_keys(cls, model: Any) -> set[str]:
        """Return what a checkpoint has to hold: everything trained, and every persistent buffer."""
        stored = torch.nn.Module.state_dict(model)
        parameters = dict(model.named_parameters())
        return {name for name in stored if name not in parameters or parameters[name].requires_grad}

    def test_trained_parts_move_and_frozen_ones_do_not(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built, before = quick
        trained = {name for name, parameter in built.model.named_parameters() if parameter.requires_grad}
        for part in self.trained_parts:
            assert any(part in name for name in trained), f"nothing of {part!r} is trained"
        for name, parameter in built.model.named_parameters():
            moved = not torch.equal(parameter.detach(), before[name])
            if any(part in name for part in self.trained_parts):
                assert moved, f"{name} is in trained_parts and did not move"
            else:
                assert not moved, f"{name} moved and is not in trained_parts"

    def test_checkpoint_holds_exactly_what_is_trained(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        saved = torch.load(quick[0].trainer.saved_model_file, weights_only=False)["state_dict"]
        wanted = self.checkpoint_keys(quick[0].model)
        assert set(saved) == wanted, f"lacks {sorted(wanted - set(saved))}, too many {sorted(set(saved) - wanted)}"

    def test_a_new_object_scores_as_the_saved_one(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built = quick[0]
        state = torch.load(built.trainer.saved_model_file, weights_only=False)["state_dict"]
        built.model.load_state_dict(state)
        torch.manual_seed(built.config["seed"] + 1)
        new = replace(built, model=built.config.model_class(built.config, built.train._dataset))
        new.model.to(built.config["device"]).load_state_dict(state)
        assert torch.equal(scores(new, self.rows(built)), scores(built, self.rows(built)))

    def test_a_batch_of_one_scores_as_a_batch_of_many(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built, rows = quick[0], self.rows(quick[0])
        alone = torch.cat([scores(built, rows[index : index + 1]) for index in range(len(rows))])
        torch.testing.assert_close(alone, scores(built, rows), atol=1e-5, rtol=1e-5)

    def test_every_item_has_a_score_and_predict_agrees(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built, rows = quick[0], self.rows(quick[0])
        catalogue, items = scores(built, rows), rows[built.config["ITEM_ID_FIELD"]]
        assert catalogue.shape == (len(rows), built.train._dataset.item_num)
        assert torch.isfinite(catalogue[:, 1:]).all()
        with torch.no_grad():
            single = built.model.predict(rows.to(built.config["device"])).cpu()
        torch.testing.assert_close(single, catalogue[torch.arange(len(rows)), items], atol=1e-5, rtol=1e-5)

    def test_padding_is_never_ranked(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built = quick[0]
        for batch in built.test:
            assert torch.isneginf(built.trainer._full_sort_batch_eval(batch)[1][:, 0]).all()

    def test_padding_does_not_change_scores(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built, rows = quick[0], self.rows(quick[0])
        field = built.config["ITEM_ID_FIELD"] + built.config["LIST_SUFFIX"]
        if field not in rows.interaction:
            return  # a general model has no histories
        longest = int(rows[built.config["ITEM_LIST_LENGTH_FIELD"]].max())
        assert longest < rows[field].size(1), "the settings leave no padding to cut off"
        cut = Interaction({**rows.interaction, field: rows[field][:, :longest]})
        torch.testing.assert_close(scores(built, cut), scores(built, rows), atol=1e-5, rtol=1e-5)

    def test_same_seed_same_model(self, folder: Path) -> None:
        states = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            built = build(self.model, self.settings(folder, epochs=1))
            built.trainer.fit(built.train, built.valid, saved=False, show_progress=False)
            states.append(built.model.state_dict())
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_learns_the_checkerboard(self, folder: Path) -> None:
        result = run_recbole_hellm(self.model, CHECKERBOARD, config_dict=self.settings(folder, **self.learning))
        assert result["test_result"]["recall@5"] == 1.0

    def test_docstring_names_paper_and_differences(self) -> None:
        text = registry.models.get(self.model).__doc__ or ""
        for what, pattern in (("a link", r"https?://"), ("authors", r"et al\.| and [A-Z]"), ("a year", r"\b20\d\d\b"),
                              ("**Differences**", r"\*\*Differences")):  # fmt: skip
            assert re.search(pattern, text), f"the docstring of {self.model} lacks {what}"


class _Recorder(Mapping[str, Any]):
    """Settings that remember which of them were read."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings, self.read = settings, set[str]()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._settings[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


class _Finished(ArtifactStore):
    """A store in which everything lies already, to learn keys without running anything."""

    def load(self, stage: str, key: str, ids: str) -> dict[str, Tensor]:
        return {}


class StageContract(_Settings):
    """What every registered stage keeps. Subclass it in a test file as ``TestMyStage``."""

    stage: ClassVar[str] = ""
    """Name in :data:`recbole_hellm.registry.stages`."""
    model: ClassVar[str] = "HeLLM"
    """A model whose settings the stage reads."""
    variations: ClassVar[Mapping[str, Any]] = {}
    """Another value for every setting the stage reads and that decides its result."""
    without_effect: ClassVar[Mapping[str, Any]] = {}
    """Another value for settings that must not make it run again."""
    zero_rows: ClassVar[tuple[str, ...]] = ()
    """Results whose row 0, the padding item's, is zero."""

    @pytest.fixture(scope="class")
    @classmethod
    def prepared(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], StageContext]:
        """Return settings and what the stage may read."""
        folder = tmp_path_factory.mktemp(cls.stage)
        config = HellmConfig(cls.model, CHECKERBOARD, config_dict=cls.settings(folder))
        data = data_preparation(config, create_dataset(config))[0]._dataset
        files = Path(config["data_path"])
        return config.final_config_dict, StageContext(
            train_view(data), files / f"{CHECKERBOARD}.item", files / "features"
        )

    def key(self, settings: Mapping[str, Any], context: StageContext) -> str:
        """Return what stands for the stage's key."""
        return run_stages(order_stages([self.stage], settings), context, _Finished(Path()))[1][-1].path

    def test_same_inputs_same_tensors(self, prepared: tuple[dict[str, Any], StageContext], tmp_path: Path) -> None:
        results = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            state = torch.get_rng_state()
            stages = order_stages([self.stage], prepared[0])
            results.append(run_stages(stages, prepared[1], ArtifactStore(tmp_path / str(noise)))[0][self.stage])
            assert torch.equal(torch.get_rng_state(), state), "the stage changed the caller's random state"
        assert results[0], "the stage gives nothing"
        assert set(results[0]) == set(results[1])
        assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
        assert all(torch.isfinite(tensor.float()).all() for tensor in results[0].values())
        for name in self.zero_rows:
            assert not results[0][name][0].any(), f"row 0 of {name!r} is not zero"

    def test_key_changes_with_every_deciding_setting_only(self, prepared: tuple[dict[str, Any], StageContext]) -> None:
        settings, context = prepared
        recorder = _Recorder(settings)
        order_stages([self.stage], recorder)
        unnamed = recorder.read - set(self.variations) - set(self.without_effect)
        assert not unnamed, f"read, but neither in variations nor in without_effect: {sorted(unnamed)}"
        unread = set(self.variations) - recorder.read
        assert not unread, f"in variations, but never read: {sorted(unread)}"
        key = self.key(settings, context)
        for name, other in {**self.variations, **self.without_effect}.items():
            assert settings.get(name) != other, f"{name}={other!r} is no other value"
            changed = self.key({**settings, name: other}, context) != key
            assert changed == (name in self.variations), f"{name}={other!r}: key changed is {changed}"

    def test_key_changes_with_one_training_event(self, prepared: tuple[dict[str, Any], StageContext]) -> None:
        settings, context = prepared
        item = context.train.item.clone()
        item[0] = item[0] % (context.train.n_items - 1) + 1
        changed = replace(context, train=replace(context.train, item=item))
        assert self.key(settings, changed) != self.key(settings, context)
