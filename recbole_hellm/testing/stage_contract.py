"""What every stage of this package keeps, as a test suite to inherit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from recbole.data import create_dataset, data_preparation
from torch import Tensor

from recbole_hellm.artifacts import ArtifactStore
from recbole_hellm.config.recbole_config import HellmConfig
from recbole_hellm.pipeline.base import StageContext, order_stages, run_stages
from recbole_hellm.testing.building import ToySettings
from recbole_hellm.testing.toys import CHECKERBOARD
from recbole_hellm.views import train_view


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

    def seconds(self, stage: str, key: str) -> float:
        return 0.0


class StageContract(ToySettings):
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
