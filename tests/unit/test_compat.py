"""Every shim in its own interpreter: with all others applied the breakage is there, with it too it is gone.

A test that fails in its first half says that RecBole or a dependency no longer needs the shim: remove it.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from recbole_hellm import compat

COMPAT = Path(compat.__file__)
PREAMBLE = f"""
import importlib.util, sys, warnings
from types import SimpleNamespace as Stub
spec = importlib.util.spec_from_file_location("compat", {str(COMPAT)!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
"""
"""Loads ``compat`` from its file: importing the package would apply every shim."""

CONFIG = """
from recbole.config import Config
config = Config(model="BPR", dataset="ml-100k", config_dict={"gpu_id": "", "state": "ERROR"})
"""
CHECKPOINT = (
    CONFIG
    + """
import os, tempfile, torch
file = os.path.join(tempfile.mkdtemp(), "model.pth")
state = {"config": config, "epoch": 0, "cur_step": 0, "best_valid_score": 0.0, "state_dict": {}, "optimizer": {}}
torch.save(state, file, pickle_protocol=4)
"""
)
NEEDS = {
    "interaction": (
        "_numpy_names",
        "from recbole.data.interaction import Interaction\nInteraction({'a': [1, 2]})",
        "has no attribute 'float'",
    ),
    "ray": ("_numpy_names", "import ray.tune", "bool8"),
    "config": ("_numpy_names", CONFIG, "float_"),  # last of its shim: it sets names the others look for
    "lightgcn": (
        "_dok_update",
        """
import numpy as np
from scipy.sparse import coo_matrix
from recbole.model.general_recommender.lightgcn import LightGCN
seen = coo_matrix(np.eye(2, dtype=np.float32))
graph = LightGCN.get_norm_adj_mat(Stub(n_users=2, n_items=2, interaction_matrix=seen)).to_dense()
expected = np.kron([[0, 1], [1, 0]], np.eye(2))
assert np.allclose(graph.numpy(), expected, atol=1e-5), graph
""",
        "_update",
    ),
    "checkpoint": (
        "_torch_load",
        CHECKPOINT
        + """
from recbole.trainer import Trainer
part = Stub(load_state_dict=lambda state: None, load_other_parameter=lambda state: None)
log = Stub(info=lambda text: None)
trainer = Stub(device="cpu", config={"model": "BPR"}, model=part, optimizer=part, logger=log)
Trainer.resume_checkpoint(trainer, file)
assert trainer.start_epoch == 1
""",
        "UnpicklingError",
    ),
    "anomaly mode": (
        "_anomaly_mode",
        """
import torch
import recbole.model.sequential_recommender
assert not torch.is_anomaly_enabled(), "anomaly detection is on"
""",
        "anomaly detection is on",
    ),
    "folders": (
        "_folders",
        """
import os, tempfile
from recbole.trainer.trainer import ensure_dir
folder, look = tempfile.mkdtemp(), os.path.exists
os.path.exists = lambda path: False  # another process makes it behind the look
try:
    ensure_dir(folder)
finally:
    os.path.exists = look
ensure_dir(os.path.join(folder, "a", "b"))
assert os.path.isdir(os.path.join(folder, "a", "b"))
""",
        "FileExistsError",
    ),
    "coverage metrics": (
        "_collector",
        """
import torch
from recbole.evaluator.collector import Collector, DataStruct
kept = DataStruct()
kept.set("data.num_items", 7)
kept.set("data.count_items", {1: 2})
kept.set("rec.items", torch.tensor([3]))
out = Collector.get_data_struct(Stub(data_struct=kept))
assert out.get("data.num_items") == 7 and out.get("data.count_items") == {1: 2} and out.get("rec.items").item() == 3
assert "data.num_items" in kept and "rec.items" not in kept
assert out.get("data.count_items") is not kept.get("data.count_items")
""",
        "has no attribute 'cpu'",
    ),
    "scaler warning": (
        "_warnings",
        """
from recbole.trainer import Trainer
model = Stub(train=lambda: None, calculate_loss=None)
Trainer._train_epoch(Stub(model=model, config={"single_spec": True}, enable_scaler=False), [], 0, loss_func=len)
""",
        "torch.cuda.amp.GradScaler",
    ),
    "pandas warnings": (
        "_warnings",
        """
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType
table = pd.DataFrame({"age": [1.0, None]})
Dataset._fill_nan(Stub(logger=Stub(debug=len), feat_name_list=["feat"], feat=table,
                       field2type={"age": FeatureType.FLOAT}))
assert table["age"].tolist() == [1.0, 1.0]
""",
        "A value is trying to be set on a copy",
    ),
    "pandas agg": (
        "_warnings",
        """
import numpy as np, pandas as pd, logging
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType
table = pd.DataFrame({"genre": [np.array(["a", "b"]), np.array(["a"])]})
stub = Stub(field2id_token={}, field2token_id={})
stub._concat_remaped_tokens = lambda fields: Dataset._concat_remaped_tokens(stub, fields)
Dataset._remap(stub, [(table, "genre", FeatureType.TOKEN_SEQ)])
assert [ids.tolist() for ids in table["genre"]] == [[1, 2], [1]]
""",
        "using <built-in function len>",
    ),
}
"""Case to its shim, the code that needs it, and what the error says without it."""


def python(program: str, environment: dict[str, str] | None = None) -> str:
    """Run ``program`` in a new interpreter and return what it prints."""
    env = {k: v for k, v in os.environ.items() if k not in ("DGLBACKEND", "OMP_WAIT_POLICY")} | (environment or {})
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def applied(without: str = "") -> str:
    """Return a program that applies all shims but one and takes the remaining FutureWarnings of RecBole as errors."""
    return f"""{PREAMBLE}
warnings.filterwarnings("error", category=FutureWarning, module="recbole")
compat.SHIMS = {{m: tuple(s for s in shims if s.__name__ != {without!r}) for m, shims in compat.SHIMS.items()}}
compat.apply()
import recbole
"""


@cache
def errors(without: str = "") -> dict[str, str]:
    """Run the cases of one missing shim, or all with every shim applied; the error of each, empty where it works."""
    cases = {name: code for name, (shim, code, _) in NEEDS.items() if without in ("", shim)}
    program = f"""{applied(without)}
import json
errors = {{}}
for name, code in {cases!r}.items():
    errors[name] = ""
    try:
        exec(code, {{"Stub": Stub}})
    except Exception as error:
        errors[name] = type(error).__name__ + ": " + str(error)
print("\\n" + json.dumps(errors))
"""
    return json.loads(python(program).splitlines()[-1])


@pytest.mark.parametrize("case", NEEDS)
def test_shim_is_still_needed_and_enough(case: str) -> None:
    shim, _, breakage = NEEDS[case]
    broken = errors(without=shim)[case]
    assert broken, f"{case} works without {shim}: the shim is no longer needed, remove it"
    assert breakage in broken
    assert errors()[case] == ""


def test_every_shim_has_a_case() -> None:
    shims = {shim.__name__ for group in compat.SHIMS.values() for shim in group}
    assert shims == {shim for shim, _, _ in NEEDS.values()}
    assert len(shims) == 7


def test_torch_load_stays_safe_for_everybody_else() -> None:
    python(
        applied()
        + CHECKPOINT
        + """
import pickle
for name in ("__main__", "recbole_hellm.trainer", "recbolex"):
    scope = {"__name__": name, "torch": torch}
    exec("def load(file): return torch.load(file)", scope)
    try:
        scope["load"](file)
    except pickle.UnpicklingError:
        continue
    raise SystemExit(f"{name} loads pickles")
scope = {"__name__": "recbole.quick_start", "torch": torch}
exec("def load(file, **how): return torch.load(file, **how)", scope)
assert scope["load"](file)["epoch"] == 0
try:
    scope["load"](file, weights_only=True)
except pickle.UnpicklingError:
    pass
else:
    raise SystemExit("an explicit weights_only=True is overruled")
"""
    )


def test_defaults_of_the_environment() -> None:
    names = ["DGLBACKEND", "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE"]
    show = f"import os; print(*map(os.environ.get, {names}))"
    assert python(PREAMBLE + "compat.apply()\n" + show).split() == ["pytorch", "PASSIVE", "1"]
    chosen = dict(zip(names, ["mxnet", "ACTIVE", "0"], strict=True))
    assert python(PREAMBLE + "compat.apply()\n" + show, chosen).split() == ["mxnet", "ACTIVE", "0"]


def test_apply_is_lazy_and_idempotent() -> None:
    code = """
compat.apply(); compat.apply()
heavy = {"recbole", "torch", "numpy", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
assert sum(type(finder).__name__ == "_AfterImport" for finder in sys.meta_path) == 1
importlib.util.find_spec("recbole")  # a look without an import does not use the shims up
import recbole
import torch
first = torch.load
assert getattr(first, "_for_recbole", False)
compat.apply(); compat._torch_load()
assert torch.load is first
from recbole.evaluator.collector import Collector
assert Collector.get_data_struct._tensors_only
"""
    python(PREAMBLE + code)


def test_apply_after_recbole_was_imported() -> None:
    code = """
from recbole.evaluator.collector import Collector
compat.apply()
import numpy, torch
assert numpy.float_ is numpy.float64
assert torch.load._for_recbole and Collector.get_data_struct._tensors_only
"""
    python(PREAMBLE + code)
