"""Scores of fixed rows, kept with a model: what was loaded must give them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_hellm.errors import ArtifactError

ROWS, COLUMNS = 8, 512
"""Rows that are scored, and items whose scores are kept (evenly spread over the catalogue)."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""By precision: largest difference, in standard deviations of the scores, that another machine may cause."""

Score = Callable[[Mapping[str, Tensor]], Tensor]
"""Rows (fields by name, ``[ROWS]`` or ``[ROWS, L]``) to scores ``[ROWS, n_items]``."""


def make_probe(rows: Mapping[str, Tensor], score: Score, precision: str) -> dict[str, Any] | None:
    """Return a probe: the rows, the chosen items, their scores. ``None`` if no score is finite.

    Args:
        rows: Fields by name; the first :data:`ROWS` are taken.
        score: The model's scoring, in evaluation mode.
        precision: Key of :data:`TOLERANCE`.
    """
    fields = {name: tensor[:ROWS].cpu().clone() for name, tensor in rows.items()}
    scores = score(fields).detach().float().cpu()
    columns = torch.linspace(1, scores.size(1) - 1, min(COLUMNS, scores.size(1) - 1), dtype=torch.float64).long()
    kept = scores[:, columns]
    if not bool(torch.isfinite(kept).all()):
        return None
    return {"rows": fields, "columns": columns, "scores": kept, "precision": precision}


def check_probe(folder: Path, probe: Mapping[str, Any], score: Score) -> float:
    """Score the rows of a probe again and compare.

    Returns:
        The largest difference, in standard deviations of the stored scores.

    Raises:
        ArtifactError: If it is larger than rounding explains: the model is not the one that was saved.
    """
    wanted = probe["scores"]
    found = score(probe["rows"]).detach().float().cpu()[:, probe["columns"]]
    spread = float(wanted.std()) or 1.0
    difference = float((found - wanted).abs().max()) / spread
    allowed = TOLERANCE.get(probe["precision"], TOLERANCE["fp32"])
    if not difference <= allowed:  # NaN is refused as well
        raise ArtifactError(
            f"{folder} gives other scores than when it was saved: they differ by {difference:.2g} standard deviations, "
            f"{allowed:.2g} are allowed; part of the model (adapter, language model, prompt) is not what it was then"
        )
    return difference
