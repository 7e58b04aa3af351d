"""Order, keys and reuse of stages."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_hellm import registry
from recbole_hellm.artifacts import ArtifactStore
from recbole_hellm.errors import ArtifactError, ConfigError
from recbole_hellm.pipeline.base import StageContext, order_stages, run_stages
from recbole_hellm.views import TrainView

VIEW = TrainView(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 1]), ("[PAD]", "u", "v"), ("[PAD]", "i", "j"))
CONTEXT = StageContext(VIEW, Path("none.item"), Path("features"))


@dataclass
class Draw:
    """A stage that draws numbers from every generator, and adds its earlier results."""

    name: str = "draw"
    version: int = 1
    needs: tuple[str, ...] = ()
    value: Any = 0
    ran: list[str] = field(default_factory=list)

    def settings(self):
        return {"value": self.value, "seed": 3}

    def inputs(self, context):
        return {}

    def run(self, context, earlier):
        self.ran.append(self.name)
        numbers = torch.rand(2) + float(np.random.rand()) + self.value
        return {"x": numbers + sum(result["x"] for result in earlier.values())}


def test_needed_stages_come_first_and_once(monkeypatch):
    table = {"a": ("b", "c"), "b": ("c",), "c": ()}
    for name, needs in table.items():
        stage = type(name, (Draw,), {"from_settings": classmethod(lambda cls, s, n=name, d=needs: Draw(n, needs=d))})
        monkeypatch.setitem(registry.stages._table, name, stage)
    assert [stage.name for stage in order_stages(["a"], {})] == ["c", "b", "a"]
    assert [stage.name for stage in order_stages(["b", "a", "b"], {})] == ["c", "b", "a"]
    with pytest.raises(ConfigError, match=r"unknown stage 'grap' \(did you mean 'graph'\?\)"):
        order_stages(["grap"], {})


def test_a_result_is_the_same_ran_or_reused(tmp_path):
    store, stage = ArtifactStore(tmp_path), Draw()
    torch.manual_seed(1)
    ran, records = run_stages([stage], CONTEXT, store)
    torch.manual_seed(2)
    reused, again = run_stages([stage], CONTEXT, store)
    fresh, _ = run_stages([stage], CONTEXT, ArtifactStore(tmp_path / "other"))
    assert [record.status for record in records + again] == ["ran", "reused"]
    assert records[0].path == again[0].path
    assert stage.ran == ["draw", "draw"]  # once for each of the two stores
    assert torch.equal(ran["draw"]["x"], reused["draw"]["x"])
    assert torch.equal(ran["draw"]["x"], fresh["draw"]["x"])


def test_what_follows_does_not_know_whether_a_stage_ran(tmp_path):
    after = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        run_stages([Draw()], CONTEXT, ArtifactStore(tmp_path))
        after.append((torch.rand(1).item(), np.random.rand()))
    assert after[0] == after[1]


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        ({}, []),
        ({"value": 1}, ["first", "second"]),
        ({"version": 2}, ["first", "second"]),
    ],
)
def test_a_change_reruns_what_depends_on_it(tmp_path, change, reruns):
    store = ArtifactStore(tmp_path)
    first, second, apart = Draw("first"), Draw("second", needs=("first",)), Draw("apart")
    run_stages([first, second, apart], CONTEXT, store)
    records = run_stages([replace(first, **change), second, apart], CONTEXT, store)[1]
    assert [record.name for record in records if record.status == "ran"] == reruns


@pytest.mark.parametrize(
    "train",
    [
        replace(VIEW, item=torch.tensor([1, 2, 2])),
        replace(VIEW, user=torch.tensor([1, 2, 2])),
        replace(VIEW, item_tokens=("[PAD]", "i", "k")),
        replace(VIEW, user_tokens=("[PAD]", "u", "w")),
    ],
)
def test_other_training_data_or_ids_run_again(tmp_path, train):
    store = ArtifactStore(tmp_path)
    run_stages([Draw()], CONTEXT, store)
    assert run_stages([Draw()], replace(CONTEXT, train=train), store)[1][0].status == "ran"


def test_finetune_alone_refuses_a_missing_stage(tmp_path):
    store = ArtifactStore(tmp_path / "stages")
    with pytest.raises(ArtifactError, match=r"stage 'draw' has no finished result .*stages; run once with") as caught:
        run_stages([Draw()], CONTEXT, store, may_run=False)
    assert "train_stage" in str(caught.value)
    run_stages([Draw()], CONTEXT, store)
    assert run_stages([Draw()], CONTEXT, store, may_run=False)[1][0].status == "reused"


def test_a_stage_that_fails_leaves_nothing_and_gives_the_random_state_back(tmp_path):
    class Broken(Draw):
        def run(self, context, earlier):
            torch.rand(5)
            raise ZeroDivisionError

    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        run_stages([Broken()], CONTEXT, ArtifactStore(tmp_path / "stages"))
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.suffix for path in (tmp_path / "stages").iterdir()] == [".lock"]
