"""How RecBole's trainers save and load models here: folders without pickles, checked against what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor, nn

from recbole_hellm import distributed
from recbole_hellm.artifacts import fingerprint
from recbole_hellm.checkpoints import random_state
from recbole_hellm.checkpoints.adapter import AdapterPlan, root_of
from recbole_hellm.checkpoints.identity import Identity, frozen_digest
from recbole_hellm.checkpoints.model_folder import ModelCheckpoint, apply_model, read_model, write_model
from recbole_hellm.checkpoints.pickles import read_pickle
from recbole_hellm.checkpoints.probe import ROWS, check_probe, make_probe
from recbole_hellm.config.specs import BackboneSpec, LoraSpec
from recbole_hellm.errors import ArtifactError
from recbole_hellm.results import versions
from recbole_hellm.trainer.run_folder import stored_settings
from recbole_hellm.views import train_view

logger = getLogger(__name__)


class SavingMixin:
    """Goes in front of a RecBole trainer class; where RecBole pickles a file, it writes a folder.

    Attributes:
        saved_model_file: The folder of the best model.
    """

    config: Any
    model: Any
    device: torch.device
    saved_model_file: str
    best_valid_score: float
    in_step: bool = False
    frozen: str | None = None
    """Digest of the frozen weights, where it was made before they were split over processes."""
    _training_set: Any = None
    _identity: tuple[tuple[Any, Any], Identity] | None = None

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the trainer does; notes the training events, which a saved model belongs to."""
        self._training_set = train_data._dataset
        return super().fit(train_data, *args, **kwargs)  # type: ignore[misc]

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Evaluate as RecBole does; what is loaded before is checked first.

        Raises:
            ArtifactError: If the saved model is damaged, or belongs to something else.
        """
        if load_best_model and eval_data:
            self.load_model(Path(model_file or self.saved_model_file), eval_data._dataset)
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)  # type: ignore[misc]

    def load_model(self, path: Path, dataset: Any) -> None:
        """Load a saved model; a pickle of RecBole is read without running what is in it.

        Args:
            path: Folder of a model, or a RecBole checkpoint.
            dataset: RecBole's data set, of whichever split.

        Raises:
            ArtifactError: If it is damaged, belongs to something else, or did not arrive in the model.
        """
        distributed.wait()  # the main process may be writing it
        if path.is_file():
            self._load_pickle(path)
            return
        found = read_model(path)
        self.identity(dataset).check(str(path), found.identity, found.items)
        apply_model(path, found, self.model, lambda: self._put(found.state, found.other))
        if found.probe is not None:
            check_probe(path, found.probe, self._scores)
        logger.info("model loaded from %s", path)

    def _load_pickle(self, path: Path) -> None:
        found = read_pickle(path)
        state = found.get("state_dict")
        if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise ArtifactError(f"model file {path} has no state_dict of tensors")
        logger.warning(
            "%s is a pickle, the format of RecBole and of recbole_hellm before format 1: only names and shapes of its "
            "tensors can be checked, and other parameters that are no tensors are left out", path,
        )  # fmt: skip
        other = {key: value for key, value in (found.get("other_parameter") or {}).items() if isinstance(value, Tensor)}
        checkpoint = ModelCheckpoint(dict(state), other, {}, None, {}, {}, ())
        apply_model(path, checkpoint, self.model, lambda: self._put(checkpoint.state, other))

    def _put(self, state: Mapping[str, Tensor], other: Mapping[str, Any]) -> None:
        self.model.load_state_dict(dict(state))
        moved = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in other.items()}
        self.model.load_other_parameter(moved or None)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Save the model as a folder, in one step.

        Raises:
            ArtifactError: If the folder cannot be written, or the model has a parameter that cannot be saved safely.
        """
        # RecBole's own entry point may have started RecBole's own processes.
        if not distributed.is_main() or (not self.config["single_spec"] and self.config["local_rank"] != 0):
            return
        target = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        self.write(target, {"epoch": epoch + 1, "best_valid_score": float(self.best_valid_score)})
        if verbose:
            logger.info("model saved to %s", target)

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """Save the model of a pre-training, which RecBole's two-stage models read by ``pre_model_path``."""
        if distributed.is_main():
            self.write(Path(saved_model_file), {"epoch": epoch + 1})
        self.saved_model_file = saved_model_file

    def write(self, target: Path, about: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> None:
        """Write the model as it is now.

        Args:
            target: Folder.
            about: What to note with it.
            extra: Further values by file stem.
        """
        if self._training_set is None:
            raise ArtifactError("a model can only be saved after fit() has seen the training data it belongs to")
        state = {key: tensor for key, tensor in self.model.state_dict().items() if isinstance(tensor, Tensor)}
        rows = self._training_set.inter_feat[:ROWS]
        checkpoint = ModelCheckpoint(
            state=state,
            other=self._other(),
            settings=stored_settings(self.config),
            probe=self._probe(rows.interaction),
            about={**about, "versions": versions()},
            identity={},
            items=(),
            extra=extra or {},
        )
        write_model(target, checkpoint, self.identity(self._training_set), self._adapter(state))

    def _other(self) -> dict[str, Any]:
        """Return RecBole's other parameters; modules among them are in the state already."""
        found = self.model.other_parameter() or {}
        inside = {id(part) for part in self.model.modules()}
        return {k: v for k, v in found.items() if not (isinstance(v, nn.Module) and id(v) in inside)}

    def _adapter(self, state: Mapping[str, Tensor]) -> AdapterPlan | None:
        root = root_of(state)
        if root is None:
            return None
        settings = self.config.final_config_dict
        lora, llm = LoraSpec.from_config(settings), BackboneSpec.from_config(settings)
        return AdapterPlan(root, llm.path, llm.layers, lora.r, lora.alpha, lora.dropout, lora.targets)

    def identity(self, dataset: Any) -> Identity:
        """Return what a model on this data set belongs to; made once, as the splits of a data set share their ids."""
        parts = (dataset.field2id_token, self._training_set)
        if self._identity is None or any(a is not b for a, b in zip(self._identity[0], parts, strict=True)):
            self._identity = parts, self._make_identity(dataset)
        return self._identity[1]

    def _make_identity(self, dataset: Any) -> Identity:
        tokens = {field: [str(t) for t in dataset.field2id_token[field]] for field in
                  (dataset.iid_field, dataset.uid_field) if field in dataset.field2id_token}  # fmt: skip
        by_user = self.config["MODEL_TYPE"] != ModelType.SEQUENTIAL
        users = tokens.get(dataset.uid_field, [])
        frozen = frozen_digest(self.model) if self.frozen is None else self.frozen
        return Identity(
            model=str(self.config["model"]),
            dataset=str(self.config["dataset"]),
            items=tuple(tokens.get(dataset.iid_field, [])),
            users=fingerprint(users=users) if by_user else "",
            events=events_of(self._training_set) if self._training_set is not None else "",
            backbone=str(self.config.final_config_dict.get("llm_path") or "") if frozen else "",
            frozen=frozen,
        )

    def _probe(self, rows: Mapping[str, Tensor]) -> dict[str, Any] | None:
        if self.in_step:  # the process that writes cannot score by itself
            return None
        core = getattr(self.model, "core", None)
        precision = "bf16" if getattr(core, "autocast", False) else "fp32"
        try:
            return make_probe(rows, self._scores, precision)
        except (NotImplementedError, RuntimeError, KeyError, IndexError, AttributeError) as error:
            logger.info("the saved model has no probe: %s cannot rank training rows (%r)", self.config["model"], error)
            return None

    def _scores(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Return the model's scores of rows ``[B]``, shape ``[B, n_items]``; changes nothing that follows."""
        training, state = self.model.training, random_state.capture({})
        self.model.eval()
        try:
            torch.manual_seed(0)
            np.random.seed(0)
            with torch.no_grad():
                out = self.model.full_sort_predict(Interaction(dict(rows)).to(self.device))
            return out.view(len(next(iter(rows.values()))), -1)
        finally:
            random_state.restore(state, {})
            self.model.train(training)


def events_of(dataset: Any) -> str:
    """Return a digest of a training split's events, by id and with the ids."""
    view = train_view(dataset)
    return fingerprint(user=view.user, item=view.item, ids=view.ids)


def targets_of(loader: Any) -> str:
    """Return a digest of what a validation loader asks for, by user and item; empty without one."""
    if not loader:
        return ""
    dataset = loader._dataset
    return fingerprint(user=dataset.inter_feat[dataset.uid_field], item=dataset.inter_feat[dataset.iid_field])
