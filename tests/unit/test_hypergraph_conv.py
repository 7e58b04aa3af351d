import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recbole_hellm
from recbole_hellm.errors import ConfigError
from recbole_hellm.hypergraph import (
    Hypergraph,
    NeighbourSum,
    SharedEdgeMean,
    SymmetricHypergraphSum,
    SymmetricUserItemSum,
    UserItemGraph,
    conv,
    resolve_backend,
)

HAS_DGL = conv._load_dgl() is not None
BACKENDS = ["torch", pytest.param("dgl", marks=pytest.mark.skipif(not HAS_DGL, reason="dgl is not installed"))]
OPERATORS = ["user-item", "shared", "symmetric"]


def pairs(n_left, n_right, n_pairs, seed):
    """Random pairs in which id 0 of both sides (padding) never appears."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(1, n_left, (n_pairs,), generator=generator)
    return left, torch.randint(1, n_right, (n_pairs,), generator=generator)


def power(counts, exponent):
    return torch.where(counts > 0, counts.clamp(min=1) ** exponent, 0.0)


def build(operator, left, right, n_left, n_right, backend):
    """Return the module and its dense oracle, written out from incidence H and degrees D."""
    incidence = torch.zeros(n_left, n_right, dtype=torch.float64)
    incidence[left, right] = 1
    if operator == "user-item":
        corner = torch.zeros(n_left, n_left), torch.zeros(n_right, n_right)
        adjacency = torch.cat([torch.cat([corner[0], incidence], 1), torch.cat([incidence.T, corner[1]], 1)])
        half = power(adjacency.sum(1), -0.5).diag()
        return SymmetricUserItemSum(UserItemGraph(left, right, n_left, n_right), backend), half @ adjacency @ half
    graph = Hypergraph(left, right, n_left, n_right)
    walks = incidence @ incidence.T
    if operator == "shared":
        walks.fill_diagonal_(0)
        return SharedEdgeMean(graph, backend), power(walks.sum(1), -1.0).diag() @ walks
    half = power(walks.sum(1), -0.5).diag()
    return SymmetricHypergraphSum(graph, backend), half @ walks @ half


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=15, deadline=None)
@given(n_pairs=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_values_and_gradients_equal_the_dense_operator(operator, backend, n_pairs, seed):
    module, oracle = build(operator, *pairs(9, 6, n_pairs, seed), 9, 6, backend)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(oracle.shape[0], 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(oracle.shape[0], 3, dtype=torch.float64, generator=generator)
    out = module(x)
    torch.testing.assert_close(out, oracle @ x)
    (out * weight).sum().backward()
    torch.testing.assert_close(x.grad, oracle.T @ weight)


@pytest.mark.skipif(not HAS_DGL, reason="dgl is not installed")
@pytest.mark.parametrize("operator", OPERATORS)
def test_backends_are_equal_over_several_layers(operator):
    outputs = []
    for backend in ("torch", "dgl"):
        module, oracle = build(operator, *pairs(300, 120, 1500, 1), 300, 120, backend)
        x = torch.randn(oracle.shape[0], 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
        out = module(module(x))
        out.square().sum().backward()
        outputs.append((out.detach(), x.grad))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(outputs[0][1], outputs[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_isolated_nodes_get_zeros_and_give_nothing(operator, backend):
    left, right = torch.tensor([1, 1, 2, 3]), torch.tensor([1, 2, 2, 3])  # 3 shares its only hyperedge with nobody
    module, oracle = build(operator, left, right, 5, 5, backend)
    x = torch.randn(oracle.shape[0], 4, requires_grad=True)
    out = module(x)
    out.sum().backward()
    isolated = [0, 4] + ([3] if operator == "shared" else []) + ([5, 9] if operator == "user-item" else [])
    assert not out[isolated].any()
    assert torch.isfinite(out).all()
    assert not x.grad[isolated].any()


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_permuting_nodes_permutes_the_result(operator, seed):
    left, right = pairs(9, 6, 30, seed)
    generator = torch.Generator().manual_seed(seed)
    new_left, new_right = torch.randperm(9, generator=generator), torch.randperm(6, generator=generator)
    module, oracle = build(operator, left, right, 9, 6, "auto")
    renamed, _ = build(operator, new_left[left], new_right[right], 9, 6, "auto")
    new = torch.cat([new_left, new_right + 9]) if operator == "user-item" else new_left
    x = torch.randn(oracle.shape[0], 3, dtype=torch.float64, generator=generator)
    moved = torch.empty_like(x)
    moved[new] = x
    torch.testing.assert_close(renamed(moved)[new], module(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck_of_a_rectangular_sum(backend):
    left, right = pairs(6, 4, 12, 0)
    module = NeighbourSum(left, right, 6, 4, backend)
    assert torch.autograd.gradcheck(module, torch.randn(6, 2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_dict_is_empty_and_copies_compute_the_same(backend):
    module, oracle = build("symmetric", *pairs(9, 6, 30, 0), 9, 6, backend)
    x = torch.randn(oracle.shape[0], 3)
    out = module(x)
    assert not module.state_dict()
    assert not list(module.parameters())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x), out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_and_autocast(backend):
    module, _ = build("shared", *pairs(9, 6, 30, 0), 9, 6, backend)
    x = torch.randn(9, 3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(x), module(x.clone()))
        assert module(x).dtype == torch.float32
    assert module(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(module(x.bfloat16()).float(), module(x), rtol=0.05, atol=0.05)


def test_wrong_number_of_rows_is_refused():
    module, _ = build("shared", *pairs(9, 6, 30, 0), 9, 6, "torch")
    with pytest.raises(ValueError, match=r"expected node vectors of shape \[9, D\], got \(8, 3\)"):
        module.to_edges(torch.zeros(8, 3))


def test_resolver_knows_its_names_and_devices():
    assert resolve_backend("torch") == "torch"
    assert resolve_backend("auto") == ("dgl" if HAS_DGL else "torch")
    assert resolve_backend("auto", "cuda") == "torch"
    with pytest.raises(ConfigError, match="'dgl' runs on the CPU only, got tensors on 'cuda:0'; use backend 'torch'"):
        resolve_backend("dgl", torch.device("cuda:0"))
    with pytest.raises(ConfigError, match=r"unknown graph backend 'troch' \(did you mean 'torch'\?\)"):
        NeighbourSum(torch.tensor([0]), torch.tensor([0]), 1, 1, "troch")


def test_without_dgl_auto_is_torch_and_dgl_is_an_error(monkeypatch):
    monkeypatch.setattr(conv, "_load_dgl", lambda: None)
    assert resolve_backend("auto") == "torch"
    module, oracle = build("shared", *pairs(9, 6, 30, 0), 9, 6, "auto")
    x = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), oracle @ x)
    with pytest.raises(ConfigError, match=r"needs the package dgl \(pip install dgl==1.1.3\); or use backend 'torch'"):
        resolve_backend("dgl")


def run_python(code):
    """Run ``code`` in a fresh interpreter that finds the same package as this one."""
    root = str(Path(recbole_hellm.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    return done.stdout.strip()


def test_the_package_loads_without_dgl():
    code = (
        "import sys; sys.modules['dgl'] = None; import recbole_hellm.hypergraph as h; print(h.resolve_backend('auto'))"
    )
    assert run_python(code) == "torch"


def test_importing_the_package_does_not_import_dgl():
    assert run_python("import sys, recbole_hellm.hypergraph; print('dgl' in sys.modules)") == "False"
