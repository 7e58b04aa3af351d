"""Everything RecBole 1.2.1 needs to run on current numpy, scipy, torch and pandas.

RecBole 1.2.1 is its last release and predates numpy 2, scipy 1.13 and torch 2.6. Each shim
below repairs one breakage, names what ends it, looks first and does nothing where it is not
needed. None changes a result: metrics equal those of an unpatched RecBole on numpy 1.26,
scipy 1.12 and torch 2.5. They serve RecBole's own models as well as ours.

``apply()`` loads nothing by itself: the shims run when RecBole is imported.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def apply() -> None:
    """Make ``import recbole`` work; call it before RecBole, and best before torch, is imported.

    Cheap (no torch, numpy or RecBole import) and safe to call again. Where RecBole is
    already imported, its shims run at once.
    """
    _environment()
    for module, shims in SHIMS.items():
        if module in sys.modules:
            _run(shims)
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _environment() -> None:
    """Set three defaults that a user's own environment overrides.

    ``DGLBACKEND``: without it, dgl's first import prints a note and writes
    ``~/.dgl/config.json``. Ends with a dgl that knows one backend (2.x still asks).

    ``OMP_WAIT_POLICY``: OpenMP's spinning makes two jobs on the same cores 5-10 times
    slower each; PASSIVE costs nothing on a quiet machine. OpenMP reads it once, when torch
    is loaded, so it has no effect if torch was imported before.

    ``THP_MEM_ALLOC_ENABLE``: torch lays large tensors on large memory pages. Sums over
    neighbours jump about in them, and on small pages a third of stage 1 of a million users
    went into looking up pages. Torch reads it at its first allocation.
    """
    os.environ.setdefault("DGLBACKEND", "pytorch")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _numpy_names() -> None:
    """Give numpy the type names that RecBole and ray read.

    Cause: ``Config.compatibility_settings`` reads ``np.float_``, ``np.complex_`` and
    ``np.unicode_``, ray 2.6.3 reads ``np.bool8``; numpy 2.0 removed them. ``np.float`` and
    ``np.object`` (gone since numpy 1.24) are set by the first ``Config``, but
    ``Interaction`` and the metrics read them even where no ``Config`` was built.
    Ends with a RecBole that asks for ``numpy >= 2``.
    """
    import numpy as np

    names = {
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool8": np.bool_,
        "float": np.float64,
        "object": np.object_,
    }
    for name, value in names.items():
        if name not in vars(np):
            setattr(np, name, value)


def _dok_update() -> None:
    """Give scipy's ``dok_matrix`` its ``_update`` back.

    Cause: scipy 1.13 removed it; LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN and MCCLK fill
    their adjacency matrix through it. Ends with a RecBole that does not call ``_update``.
    """
    from scipy.sparse import dok_matrix

    def _update(self: Any, data: dict[tuple[int, int], float]) -> None:
        self._dict.update(data)

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = _update


class Reading:
    """How modules of RecBole read checkpoints.

    Attributes:
        is_folder: Whether a path is a checkpoint in this package's format.
        read_folder: Reads one as RecBole expects it: path and ``map_location`` to a mapping.
        read_pickle: Reads RecBole's own format without running what is in it.
        trusts_pickles: Whether RecBole's own format may run code, as RecBole has it; not in this package's command.
    """

    def __init__(self) -> None:
        self.is_folder: Callable[[Any], bool] = lambda path: False
        self.read_folder: Callable[[Any, Any], Any] | None = None
        self.read_pickle: Callable[[Any, Any], Any] | None = None
        self.trusts_pickles = True


READING = Reading()  # filled by recbole_hellm.plugin


@contextmanager
def without_pickles() -> Iterator[None]:
    """Inside, no checkpoint that RecBole loads runs code."""
    before, READING.trusts_pickles = READING.trusts_pickles, False
    try:
        yield
    finally:
        READING.trusts_pickles = before


def _torch_load() -> None:
    """Let RecBole's own modules load RecBole's checkpoints, and this package's.

    Cause: torch 2.6 made ``weights_only=True`` the default. RecBole pickles its ``Config``
    with protocol 4, which that mode cannot read even with ``add_safe_globals``, so every run
    ended in ``UnpicklingError`` at ``evaluate(load_best_model=True)``. The old default is
    kept for calls made by a module of RecBole that do not choose. Load only RecBole checkpoints
    you trust; this package's own command reads them without running code (:func:`without_pickles`).
    Ends with a RecBole that passes ``weights_only`` itself.
    """
    import torch

    original = torch.load
    if getattr(original, "_for_recbole", False):
        return

    @functools.wraps(original)
    def load(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] == "recbole" and kwargs.get("weights_only") is None:
            path, place = args[0] if args else kwargs.get("f"), kwargs.get("map_location")
            if READING.read_folder is not None and READING.is_folder(path):
                return READING.read_folder(path, place)
            if READING.read_pickle is not None and not READING.trusts_pickles:
                return READING.read_pickle(path, place)
            kwargs["weights_only"] = False
        return original(*args, **kwargs)

    load._for_recbole = True  # type: ignore[attr-defined]
    torch.load = load


def _collector() -> None:
    """Let RecBole compute ItemCoverage, AveragePopularity, GiniIndex and TailPercentage.

    Cause: on any stack, ``Collector.get_data_struct`` calls ``.cpu()`` on the ints and
    counters that these metrics collect. Ends with a RecBole that moves tensors only.
    """
    import torch
    from recbole.evaluator.collector import Collector

    original = Collector.get_data_struct
    if getattr(original, "_tensors_only", False):
        return

    def get_data_struct(self: Any) -> Any:
        kept = self.data_struct._data_dict
        plain = {key: value for key, value in kept.items() if not isinstance(value, torch.Tensor)}
        for key in plain:
            del kept[key]
        struct = original(self)
        struct._data_dict.update(copy.deepcopy(plain))
        kept.update(plain)
        return struct

    get_data_struct._tensors_only = True  # type: ignore[attr-defined]
    Collector.get_data_struct = get_data_struct


def _warnings() -> None:
    """Silence the deprecation warnings about RecBole's code, which its user cannot act on.

    Cause: ``Trainer._train_epoch`` builds ``torch.cuda.amp.GradScaler`` each epoch
    (deprecated since torch 2.4); ``Dataset`` calls ``Series.agg(len)`` and
    ``feat[field].fillna(inplace=True)`` (both announced by pandas 2.2 to change in 3.0,
    where they go wrong silently; hence this package's ``pandas < 3``).
    Ends with a RecBole that uses ``torch.amp`` and runs on pandas 3.
    """
    for message in (
        r"`torch\.cuda\.amp",
        r"using <built-in function len> in Series\.agg",
        r"A value is trying to be set",
    ):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning, module=r"recbole\.")


def _anomaly_mode() -> None:
    """Switch autograd's anomaly detection off again.

    Cause: on any stack, importing RecBole's SINE (which importing any of its sequential models does) calls
    ``torch.autograd.set_detect_anomaly(True)`` for the whole process: every backward pass of every model then checks
    each gradient for NaN and keeps a traceback by operation, which about doubles the time of a training step.
    Ends with a RecBole whose ``sine.py`` does not.
    """
    import torch

    torch.autograd.set_detect_anomaly(False)


def _folders() -> None:
    """Let two processes make the same folder at the same time.

    Cause: on any stack, ``ensure_dir`` looks for a folder and makes it where there is none; of two runs, or two
    processes of one, that start together the slower ended in ``FileExistsError``. Ends with a RecBole that passes
    ``exist_ok``.
    """
    from recbole.utils import utils

    utils.ensure_dir = functools.partial(os.makedirs, exist_ok=True)


SHIMS: dict[str, tuple[Callable[[], None], ...]] = {
    "recbole": (_numpy_names, _dok_update, _torch_load, _warnings),
    "recbole.utils.utils": (_folders,),
    "recbole.evaluator.collector": (_collector,),
    "recbole.model.sequential_recommender.sine": (_anomaly_mode,),
}
"""Module of RecBole to the shims that run when its body has been executed."""


def _run(shims: Sequence[Callable[[], None]]) -> None:
    for shim in shims:
        shim()


class _AfterImport(MetaPathFinder):
    """Runs the shims of a module right after its body, each time it is imported anew."""

    def __init__(self) -> None:
        self._busy: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the ordinary spec of a module in ``SHIMS``, set to run them; else ``None``."""
        if fullname not in SHIMS or fullname in self._busy:
            return None
        self._busy.add(fullname)  # the look-up below comes back here
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _run(SHIMS[fullname])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
