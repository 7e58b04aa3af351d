"""What a checkpoint belongs to, and in which way it does not belong to something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from recbole_hellm.artifacts import fingerprint
from recbole_hellm.errors import ArtifactError

_SAMPLE = 256
"""Values of a frozen weight that enter the digest of a backbone, evenly spread."""


@dataclass(frozen=True)
class Identity:
    """What must be the same where a checkpoint is loaded.

    Attributes:
        model: Name of the model.
        dataset: Name of the data set.
        items: Item tokens in the order of their ids.
        users: Digest of the user tokens in the order of their ids; empty if the model has nothing by user.
        events: Digest of the training events; empty where they are not known.
        backbone: Path or name of the frozen language model, empty without one.
        frozen: Digest of its weights, see :func:`frozen_digest`.
    """

    model: str
    dataset: str
    items: tuple[str, ...]
    users: str = ""
    events: str = ""
    backbone: str = ""
    frozen: str = ""

    def document(self) -> dict[str, Any]:
        """Return all but the item tokens as plain values, and their digest."""
        return {**{k: v for k, v in asdict(self).items() if k != "items"}, "items": fingerprint(items=list(self.items))}

    def check(self, where: str, stored: Mapping[str, Any], stored_items: Sequence[str]) -> None:
        """Refuse a stored identity that is not this one.

        Args:
            where: The checkpoint, for the message.
            stored: Its :meth:`document`.
            stored_items: Its item tokens in the order of their ids.

        Raises:
            ArtifactError: Naming what differs.
        """
        for field, what in (("model", "model"), ("dataset", "data set")):
            if stored.get(field) != getattr(self, field):
                raise ArtifactError(f"{where} is of {what} {stored.get(field)!r}, not of {getattr(self, field)!r}")
        self._check_items(where, stored_items)
        if self.frozen != stored.get("frozen"):
            raise ArtifactError(
                f"{where} was trained on the language model {stored.get('backbone')!r}, whose weights are not those of "
                f"{self.backbone!r}; set llm_path, llm_layers and llm_pretrained as they were"
            )
        if self.users != stored.get("users"):
            raise ArtifactError(f"{where} was made for other user ids than this data set has")
        if self.events and stored.get("events") and self.events != stored["events"]:
            raise ArtifactError(
                f"{where} was trained on other events than this training split of {self.dataset!r} has, or in another "
                "order; use the data and the split it was trained on"
            )

    def _check_items(self, where: str, stored: Sequence[str]) -> None:
        if tuple(stored) == self.items:
            return
        if len(stored) != len(self.items):
            raise ArtifactError(
                f"{where} was made for {len(stored) - 1} items, this data set has {len(self.items) - 1}; use the data "
                "it was trained on"
            )
        place = next(index for index, (a, b) in enumerate(zip(stored, self.items, strict=True)) if a != b)
        raise ArtifactError(
            f"{where} was made for other item ids: id {place} was {stored[place]!r} and is {self.items[place]!r} now; "
            "use the data it was trained on"
        )


def frozen_digest(model: nn.Module) -> str:
    """Return a digest of a model's frozen weights, by names, shapes and evenly spread values; empty without any.

    A sample is enough to tell one language model from another, and costs milliseconds where reading all of it takes
    longer than many a training step.
    """
    frozen = [(name, weight) for name, weight in model.named_parameters() if not weight.requires_grad]
    if not frozen:
        return ""
    parts: dict[str, Any] = {}
    for name, weight in frozen:
        flat = weight.detach().flatten()
        # In bf16, as some processors hold frozen weights and others do not.
        places = torch.linspace(0, flat.numel() - 1, min(_SAMPLE, flat.numel()), dtype=torch.float64).long()
        values = flat[places.to(flat.device)]
        parts[name] = [list(weight.shape), fingerprint(values=values.to(torch.bfloat16).float())]
    return fingerprint(**parts)
