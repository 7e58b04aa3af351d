"""Common part of the models that are trained on top of earlier stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn


class StagedRecommender(nn.Module):
    """Mixin in front of a RecBole model class: needs earlier stages, saves only what is trained.

    A model names the stages it ``needs``, builds its modules in ``__init__`` and takes the stages' results in
    :meth:`attach`. Its ``state_dict`` holds exactly the trained parameters and the buffers, never frozen weights.
    """

    needs: tuple[str, ...] = ()
    """Names of stages in :data:`recbole_hellm.registry.stages` whose results :meth:`attach` takes."""
    learns: bool = True
    """Whether steps of training change what it scores."""
    by_design: Mapping[str, Any] = MappingProxyType({})
    """Settings a model made by configuration alone stands for: having them departs from nothing."""

    def attach(self, results: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take the tensors of the stages named in :attr:`needs`."""

    def loss_rows(self, n_rows: int) -> int:
        """Return how many targets the loss just returned is the mean of; of a batch of ``n_rows``, one a row."""
        return n_rows

    def drawn(self, interaction: Any) -> Any:
        """Return a batch with what its loss draws by row, dropout apart: parts of it then have the draws of the whole.

        A batch without them draws when its loss is made.
        """
        return interaction

    def before_training(self) -> None:
        """Prepare what is made once, of training data and stages, before the first step."""

    def after_epoch(self) -> None:
        """Bring up to date what follows from the trained weights and is kept beside them."""

    def before_validation(self, valid_data: Any) -> None:
        """Choose, on validation, what is chosen anew before each reading of it; RecBole's validation loader."""

    def ranking(self) -> AbstractContextManager[None]:
        """Inside, many users are ranked and no weight changes: what all of them share may be made once."""
        return nullcontext()

    def keep_choices(self, other: Any) -> None:
        """Take what ``other``, the same model fitted with the validation events apart, chose on them."""

    def departures(self) -> list[str]:
        """Return a line for every way this model departs from its paper, for the start of the log."""
        return []

    def beyond_design(self, lines: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
        """Leave out departures that :attr:`by_design` asks for, and name the settings that are not as it asks for.

        Args:
            lines: Departures of the base model, ``<setting>=<value>: <what it means>``.
            settings: Settings of the run.
        """
        kept = [line for line in lines if line.partition("=")[0] not in self.by_design]
        for key, meant in self.by_design.items():
            if settings.get(key, meant) != meant:
                kept.append(f"{key}={settings[key]}: {type(self).__name__} has {meant}")
        return kept

    def checkpoint_keys(self) -> frozenset[str]:
        """Return the state-dict keys a checkpoint holds: what is trained, and the buffers."""
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        return frozenset(set(super().state_dict()) - frozen)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the state without frozen weights, which are read from their own file."""
        keep, full = self.checkpoint_keys(), super().state_dict(*args, **kwargs)
        return {name: tensor for name, tensor in full.items() if name in keep}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state of :meth:`state_dict`; a missing or unknown key is an error that names it.

        Raises:
            RuntimeError: If the keys differ, or a tensor has another shape.
        """
        missing, unknown = self.checkpoint_keys() - set(state_dict), set(state_dict) - self.checkpoint_keys()
        if strict and (missing or unknown):
            raise RuntimeError(f"checkpoint lacks {sorted(missing)} and has unknown {sorted(unknown)}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)
