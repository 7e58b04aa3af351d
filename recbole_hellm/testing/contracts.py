"""Test suites to inherit: what every model and every stage of this package keeps, for yours too.

In a test file, then run pytest::

    class TestMyModel(ModelContract):
        model = "MyModel"
        trained_parts = ("head.",)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_hellm import registry
from recbole_hellm.checkpoints.model_folder import read_model
from recbole_hellm.quick_start import run_recbole_hellm
from recbole_hellm.testing.building import Built, ToySettings, build, ranked_scores, scores
from recbole_hellm.testing.stage_contract import StageContract
from recbole_hellm.testing.toys import CHECKERBOARD

__all__ = ["ModelContract", "StageContract"]


class ModelContract(ToySettings):
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
        saved = read_model(Path(quick[0].trainer.saved_model_file)).state
        wanted = self.checkpoint_keys(quick[0].model)
        assert set(saved) == wanted, f"lacks {sorted(wanted - set(saved))}, too many {sorted(set(saved) - wanted)}"

    def test_a_new_object_scores_as_the_saved_one(self, quick: tuple[Built, dict[str, Tensor]]) -> None:
        built = quick[0]
        state = read_model(Path(built.trainer.saved_model_file)).state
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
            assert torch.isneginf(ranked_scores(built.trainer, batch)[:, 0]).all()

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
