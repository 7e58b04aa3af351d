"""Counts, weights and scores by hand and against a slow dense oracle; the reference numbers from the real data."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recbole_hellm.config.recbole_config import read_yaml
from recbole_hellm.config.resources import properties_dir
from recbole_hellm.errors import ConfigError
from recbole_hellm.models import pctm
from recbole_hellm.models.transition_counts import TransitionCounts, TransitionSpec

SHARED = Path(os.environ.get("RECBOLE_HELLM_SHARED", Path(__file__).parents[3] / "shared"))
SEQUENCES = [[1, 2, 3, 4, 1], [2, 3], [5], [3, 2, 1, 5, 4, 2, 3]]
N_ITEMS = 6


def flat(sequences: list[list[int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    user = np.repeat(np.arange(1, len(sequences) + 1), [len(s) for s in sequences])
    return user, np.concatenate([np.array(s, dtype=np.int64) for s in sequences])


def padded(sequences: list[list[int]], width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence[-width:])] = sequence[-width:]
    return rows, np.array([min(len(s), width) for s in sequences])


def slow_counts(sequences: list[list[int]], weights: NDArray[Any]) -> NDArray[Any]:
    counts = np.zeros((N_ITEMS, N_ITEMS))
    for sequence in sequences:
        for early in range(len(sequence)):
            for late in range(early + 1, len(sequence)):
                if late - early - 1 < len(weights):
                    counts[sequence[early], sequence[late]] += weights[late - early - 1]
    return counts


def test_gap_weights() -> None:
    assert pctm.gap_weights("power", 0.5, 3) == pytest.approx([1, 2**-0.5, 3**-0.5])
    assert pctm.gap_weights("exponential", 0.7, 3) == pytest.approx([1, 0.7, 0.49])
    with pytest.raises(ValueError, match="kernel must be 'power' or 'exponential', got 'linear'"):
        pctm.gap_weights("linear", 1.0, 3)  # type: ignore[arg-type]


def test_counts_by_hand() -> None:
    counts = pctm.pair_counts(*flat([[1, 2, 3], [1, 3]]), 4, np.array([1.0, 0.5])).toarray()
    # 1 -> 2 and 2 -> 3 adjacent, 1 -> 3 once with an item between and once adjacent; nothing across users
    expected = np.zeros((4, 4))
    expected[1, 2], expected[2, 3], expected[1, 3] = 1.0, 1.0, 1.5
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize("max_gap", [1, 2, 20])
def test_counts_equal_the_slow_oracle(max_gap: int) -> None:
    weights = pctm.gap_weights("exponential", 0.7, max_gap)
    counts = pctm.pair_counts(*flat(SEQUENCES), N_ITEMS, weights).toarray()
    assert counts == pytest.approx(slow_counts(SEQUENCES, weights))


def test_no_interactions_give_an_empty_table() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert pctm.fit(empty, empty, N_ITEMS, np.ones(3), 10.0).nnz == 0


def test_counts_refuse_scattered_users() -> None:
    with pytest.raises(ValueError, match="must stand together"):
        pctm.pair_counts(np.array([1, 2, 1]), np.array([1, 2, 3]), 4, np.ones(2))
    with pytest.raises(ValueError, match="same shape"):
        pctm.pair_counts(np.array([1, 1]), np.array([1, 2, 3]), 4, np.ones(2))


def test_table_is_the_log_of_scaled_counts() -> None:
    table = pctm.fit(*flat([[1, 2], [1, 2], [1, 3]]), 4, np.ones(1), tau=1.5)
    assert table[1, 2] == pytest.approx(math.log(1 + 2 * 3 / 1.5))  # three items, the padding not among them
    assert table[1, 3] == pytest.approx(math.log(1 + 1 * 3 / 1.5))
    assert table.nnz == 2


def test_history_weights() -> None:
    plain = pctm.history_weights(np.array([3, 1]), 4, 0.5)
    assert plain == pytest.approx(np.array([[0.25, 0.5, 1, 0], [1, 0, 0, 0]]))
    tailed = pctm.history_weights(np.array([4, 2]), 5, 0.5, window=2, tail_mass=0.2)
    assert tailed[0, 2:] == pytest.approx([0.5, 1, 0])
    assert tailed[0, 0] == pytest.approx(tailed[0, 1])
    assert tailed[0, :2].sum() / tailed[0].sum() == pytest.approx(0.2)
    assert tailed[1] == pytest.approx([0.5, 1, 0, 0, 0])  # nothing older: no tail
    assert pctm.history_weights(np.array([3]), 3, 0.5, window=1) == pytest.approx(np.array([[0, 0, 1]]))


def test_scores_equal_the_slow_oracle() -> None:
    weights = pctm.gap_weights("power", 0.5, 3)
    user, item = flat(SEQUENCES)
    table = pctm.fit(user, item, N_ITEMS, weights, tau=2.0)
    offset = pctm.popularity_offset(item, N_ITEMS, 0.3)
    history, lengths = padded([[1], [2, 3, 4], [5, 4, 3, 2, 1, 1]], 4)
    scores = pctm.score(history, pctm.history_weights(lengths, 4, 0.6, 2, 0.2), table, offset)
    dense = np.log1p(slow_counts(SEQUENCES, weights) * 5 / 2.0)
    popularity = [sum(s.count(i) for s in SEQUENCES) for i in range(N_ITEMS)]
    for row, (items, length) in enumerate(zip(history, lengths, strict=True)):
        recent = [0.6**age for age in range(min(length, 2))]
        older = [sum(recent) * 0.25 / max(length - 2, 1)] * max(length - 2, 0)
        for candidate in range(1, N_ITEMS):
            newest_first = items[:length][::-1]
            want = sum(w * dense[i, candidate] for w, i in zip(recent + older, newest_first, strict=True))
            want -= 0.3 * math.log(max(popularity[candidate], 1))
            assert scores[row, candidate] == pytest.approx(want, rel=1e-5)
    assert np.all(scores[:, 0] == -np.inf)


def test_popularity_penalty_spares_unseen_items() -> None:
    offset = pctm.popularity_offset(np.array([1, 1, 2]), 4, 0.5)
    assert offset == pytest.approx([0, -0.5 * math.log(2), 0, 0])
    assert not pctm.popularity_offset(np.array([1, 1, 2]), 4, 0.0).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transition_max_gap": 0}, "setting 'transition_max_gap' must be positive, got 0"),
        ({"transition_tau": 0.0}, "setting 'transition_tau' must be positive, got 0.0"),
        ({"transition_gap_decay": -1.0}, "setting 'transition_gap_decay' must be >= 0, got -1.0"),
        ({"transition_gap_kernel": "exponential", "transition_gap_decay": 2.0}, "'transition_gap_decay' must be <= 1"),
        ({"transition_recency_decay": 0.0}, "setting 'transition_recency_decay' must be in (0, 1], got 0.0"),
        ({"transition_tail_mass": 0.2}, "setting 'transition_tail_mass' must be 0 when transition_recency_window is 0"),
        ({"transition_gap_kernel": "powr"}, "did you mean 'power'?"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TransitionSpec.from_config(settings)
    assert message in str(error.value)


def test_yaml_gives_the_defaults_and_three_complete_presets() -> None:
    model = read_yaml(properties_dir() / "model" / "TransitionCounts.yaml")
    assert {key for key in model if key.startswith("transition_")} == TransitionSpec.keys()
    assert TransitionSpec.from_config(model) == TransitionSpec()
    presets = sorted((properties_dir() / "preset").glob("TransitionCounts-*.yaml"))
    assert len(presets) == 3
    for preset in presets:
        assert set(read_yaml(preset)) == TransitionSpec.keys()


def scratch_run(folder: Path, sequences: list[list[int]]) -> tuple[Any, Any, Any]:
    """Write ``sequences`` as a RecBole data set; return the settings, the model and the three loaders."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    (folder / "toy").mkdir()
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"{u}\t{i}\t{t}" for u, sequence in enumerate(sequences) for t, i in enumerate(sequence)]
    (folder / "toy" / "toy.inter").write_text("\n".join(lines))
    settings = read_yaml(properties_dir() / "model" / "TransitionCounts.yaml") | {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "gpu_id": "",
        "state": "ERROR",
        "show_progress": False,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["Recall", "NDCG"],
        "topk": [3],
        "valid_metric": "NDCG@3",
        "transition_popularity_penalty": 0.1,
    }
    config = Config(model=TransitionCounts, dataset="toy", config_dict=settings)
    loaders = data_preparation(config, create_dataset(config))
    return config, TransitionCounts(config, loaders[0]._dataset), loaders


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    monkeypatch.chdir(tmp_path)  # RecBole's trainer writes ./log_tensorboard
    monkeypatch.setattr("sys.argv", ["test"])
    return scratch_run(tmp_path, [[1, 2, 3, 4, 5], [2, 3, 1, 6, 7], [4, 1, 2, 8, 9], [3, 4, 1, 5, 2]])


def test_held_out_events_are_never_counted(toy: tuple[Any, Any, Any]) -> None:
    _, model, (train, _, _) = toy
    name = train._dataset.field2id_token["item_id"]
    seen = {(name[i], name[j]) for i, j in zip(*model.table.nonzero(), strict=True)}
    # the first three items of each user, in order: also the first, which is no row's target
    assert seen == {pair for a, b, c in ("123", "231", "412", "341") for pair in ((a, b), (a, c), (b, c))}


def test_trained_evaluated_and_reloaded_by_recbole(toy: tuple[Any, Any, Any]) -> None:
    from recbole.trainer import Trainer

    config, model, (train, valid, test) = toy
    assert list(model.state_dict()) == ["unused"]
    trainer = Trainer(config, model)
    trainer.fit(train, valid, show_progress=False)
    assert set(trainer.evaluate(test, load_best_model=True)) == {"recall@3", "ndcg@3"}
    assert model.unused.item() == 0


def test_predict_agrees_with_the_full_scores(toy: tuple[Any, Any, Any]) -> None:
    _, model, (train, _, _) = toy
    rows = train._dataset.inter_feat
    scores = model.full_sort_predict(rows)
    assert scores.shape == (len(rows), model.n_items)
    assert scores.dtype == torch.float32
    own = scores.gather(1, rows["item_id"][:, None]).squeeze(1)
    assert torch.allclose(model.predict(rows), own)
    assert own.abs().sum() > 0


def reproduce(name: str, preset: str) -> tuple[float, float]:
    """Return recall@10 and ndcg@10 of the test items, straight from the sequences of the real data."""
    file = SHARED / "data" / name / f"{name}.txt"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine; set RECBOLE_HELLM_SHARED to the folder that holds data/")
    spec = TransitionSpec.from_config(read_yaml(properties_dir() / "preset" / f"TransitionCounts-{preset}.yaml"))
    sequences = [[int(item) for item in line.split()[1:]] for line in file.read_text().splitlines()]
    n_items = 1 + max(map(max, sequences))
    user, item = flat([sequence[:-2] for sequence in sequences])
    weights = pctm.gap_weights(spec.gap_kernel, spec.gap_decay, spec.max_gap)
    table = pctm.fit(user, item, n_items, weights, spec.tau)
    offset = pctm.popularity_offset(item, n_items, spec.popularity_penalty)
    history, lengths = padded([sequence[:-1] for sequence in sequences], 50)
    ages = pctm.history_weights(lengths, 50, spec.recency_decay, spec.recency_window, spec.tail_mass)
    target, ranks = np.array([sequence[-1] for sequence in sequences]), []
    for start in range(0, len(sequences), 1024):
        batch = slice(start, start + 1024)
        scores = pctm.score(history[batch], ages[batch], table, offset)
        own = np.take_along_axis(scores, target[batch, None], axis=1)
        ranks.append((scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2)
    rank = np.concatenate(ranks)
    return float(np.mean(rank < 10)), float(np.mean(np.where(rank < 10, 1 / np.log2(rank + 2), 0)))


@pytest.mark.parametrize(
    ("name", "preset", "recall", "ndcg"),
    [
        ("Beauty", "beauty", 0.0849, 0.0520),
        ("Sports_and_Outdoors", "sports", 0.0528, 0.0312),
        ("Toys_and_Games", "toys", 0.0949, 0.0614),
    ],
)
def test_reference_numbers(name: str, preset: str, recall: float, ndcg: float) -> None:
    # recorded from an independent implementation: leave-one-out, all items ranked, history not masked, train only
    assert reproduce(name, preset) == pytest.approx((recall, ndcg), abs=1e-3)
