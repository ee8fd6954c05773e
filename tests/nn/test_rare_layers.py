"""Layers and tools of few programs: adaptive softmax, old norms, fusion, `skip_init`, one process in place of several."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn
from adjoint.nn import functional as F
from adjoint.nn import utils

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.usefixtures("little_effort")]


def real(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def same(layer: Any, other: Any, T: Any) -> None:
    """Give PyTorch's layer the values of ours; the names must agree."""
    state = layer.state_dict()
    assert list(state) == list(other.state_dict()) and repr(layer) == repr(other)
    other.load_state_dict({name: T.tensor(value.detach().numpy()) for name, value in state.items()})


# ---- adaptive softmax ----------------------------------------------------------------------------


def test_adaptive_softmax_is_the_formula() -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(16, 12, [3, 7], head_bias=True).double()
    x = real(5, 16)
    w = {name: t.numpy() for name, t in layer.state_dict().items()}
    head = log_softmax(x @ w["head.weight"].T + w["head.bias"])
    parts = [head[:, :3]]
    for i in range(2):
        parts.append(head[:, 3 + i : 4 + i] + log_softmax(x @ w[f"tail.{i}.0.weight"].T @ w[f"tail.{i}.1.weight"].T))
    table = np.concatenate(parts, 1)
    np.testing.assert_allclose(np.exp(table).sum(1), 1)
    np.testing.assert_allclose(layer.log_prob(torch.from_numpy(x)).detach().numpy(), table, rtol=1e-10)
    target = np.array([0, 3, 11, 6, 2])
    output, loss = layer(torch.from_numpy(x), torch.from_numpy(target))
    np.testing.assert_allclose(output.detach().numpy(), table[np.arange(5), target], rtol=1e-10)
    np.testing.assert_allclose(loss.item(), -table[np.arange(5), target].mean())
    one = layer(torch.from_numpy(x[1]), torch.tensor(3))
    assert one.output.shape == () and abs(one.output.item() - table[1, 3]) < 1e-9


def test_adaptive_softmax_same_as_pytorch() -> None:
    T = pytest.importorskip("torch")
    layer, other = nn.AdaptiveLogSoftmaxWithLoss(16, 12, [3, 7]).double(), T.nn.AdaptiveLogSoftmaxWithLoss(16, 12, [3, 7]).double()
    same(layer, other, T)
    x, target = real(40, 16), np.random.default_rng(1).integers(0, 12, 40)
    grads = []
    for lib, net in ((torch, layer), (T, other)):
        t = lib.from_numpy(x * 3).requires_grad_(True)
        net(t, lib.from_numpy(target)).loss.backward()
        grads.append([t.grad.numpy(), *[p.grad.numpy() for p in net.parameters()]])
    for mine, theirs in zip(*grads, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert layer.predict(torch.from_numpy(x)).tolist() == other.predict(T.from_numpy(x)).tolist()


def test_adaptive_softmax_arguments() -> None:
    for cutoffs in ([], [0, 3], [3, 3], [5, 3], [10], [1.5, 2], [-1]):
        with pytest.raises(ValueError, match="cutoffs should be a sequence of"):
            nn.AdaptiveLogSoftmaxWithLoss(5, 10, cutoffs)
    layer = nn.AdaptiveLogSoftmaxWithLoss(16, 10, [3, 6])
    with pytest.raises(RuntimeError, match="same size in the batch dimension"):
        layer(torch.ones(2, 16), torch.tensor([1]))
    with pytest.raises(RuntimeError, match="multi-target not supported"):
        layer(torch.ones(2, 16), torch.tensor([[1], [2]]))
    for wrong in (10, -1):
        with pytest.raises(RuntimeError, match=f"index {wrong} is out of bounds"):
            layer(torch.ones(2, 16), torch.tensor([1, wrong])).loss.item()


# ---- losses and normalizations -------------------------------------------------------------------


def test_linear_cross_entropy_layer_same_as_pytorch() -> None:
    T = pytest.importorskip("torch")
    for options in ({}, {"bias": True, "ignore_index": 1}, {"out_features": (2, 3), "bias": True, "reduction": "none", "label_smoothing": 0.1}):
        layer, other = nn.LinearCrossEntropyLoss(5, 4, **options).double(), T.nn.LinearCrossEntropyLoss(5, 4, **options).double()
        same(layer, other, T)
        x, y = real(6, 5), np.random.default_rng(1).integers(0, 4, (6, *options.get("out_features", ())))
        out = layer(torch.from_numpy(x), torch.from_numpy(y))
        np.testing.assert_allclose(out.detach().numpy(), other(T.from_numpy(x), T.from_numpy(y)).detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, w, y: F.linear_cross_entropy(x.reshape(1, 2, 5), w, y), "dimensionality 1 or 2"),
        (lambda x, w, y: F.linear_cross_entropy(x, torch.ones(3, 4), y), "got 5 and 4, respectively"),
        (lambda x, w, y: F.linear_cross_entropy(x, w, y, linear_bias=torch.ones(4)), r"expected linear_bias shape \(3,\)"),
        (lambda x, w, y: F.linear_cross_entropy(x[0], torch.ones(3, 2, 5), y), "requires batched input"),
        (lambda x, w, y: F.linear_cross_entropy(x, w, torch.ones(2, 3), ignore_index=1), "ignore_index cannot be specified"),
    ],
)
def test_linear_cross_entropy_refuses(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(torch.ones(2, 5), torch.ones(3, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_cross_map_norm_same_as_pytorch(size: int) -> None:
    T = pytest.importorskip("torch")
    x = real(2, 6, 2, 3)
    layer, other = nn.CrossMapLRN2d(size, 0.5, 0.6, 2.0), T.nn.CrossMapLRN2d(size, 0.5, 0.6, 2.0)
    assert repr(layer) == repr(other)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).numpy(), other(T.from_numpy(x)).numpy(), rtol=1e-12)
    assert torch.autograd.gradcheck(layer, torch.from_numpy(x).requires_grad_(True))
    with pytest.raises(ValueError, match="Expected input to be 4D"):
        layer(torch.ones(2, 3))


def test_batch_norms_of_several_processes() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.ReLU())).double().eval()
    state = net.state_dict()
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert twin is net and type(twin[0]) is nn.SyncBatchNorm and type(twin[1][0]) is nn.SyncBatchNorm and not twin[0].training
    assert all((a == b).all() for a, b in zip(state.values(), twin.state_dict().values(), strict=True)) and list(state) == list(twin.state_dict())
    with pytest.raises(ValueError, match="at least 2D"):
        nn.SyncBatchNorm(3)(torch.ones(3))


def test_data_parallel_is_the_module() -> None:
    layer = nn.Linear(2, 3)
    net = nn.DataParallel(layer, device_ids=[0])
    x = torch.ones(4, 2)
    assert (net(x) == layer(x)).all() and net.module is layer and list(net.state_dict()) == ["module.weight", "module.bias"]


# ---- old norms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["nn.Linear(3, 4)", "nn.Conv2d(3, 4, 2)", "nn.ConvTranspose1d(3, 4, 2)"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_old_norms_same_as_pytorch(make: str, norm: str) -> None:
    T = pytest.importorskip("torch")
    x = real(*{"nn.L": (2, 3), "nn.Conv2": (2, 3, 4, 5)}.get(make[: 4 if "Linear" in make else 8], (2, 3, 5)))
    results = []
    layer = getattr(utils, norm)(eval(make).double())
    other = getattr(T.nn.utils, norm)(eval(make, {"nn": T.nn}).double())
    same(layer, other, T)
    for lib, net in ((torch, layer), (T, other)):
        net(lib.from_numpy(x))
        out = net(lib.from_numpy(x))
        (out * out).sum().backward()
        values = [out, net.weight, *net.state_dict().values()]
        net.eval()
        values.append(net(lib.from_numpy(x)))
        getattr(lib.nn.utils, "remove_" + norm)(net)
        assert isinstance(net.weight, lib.nn.Parameter) and sorted(net.state_dict()) == ["bias", "weight"]
        values += [net.weight, net(lib.from_numpy(x))]
        results.append([v.detach().numpy() for v in values])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_old_norms_train_and_are_saved() -> None:
    for norm in (utils.weight_norm, utils.spectral_norm):
        layer = norm(nn.Linear(3, 2).double())
        x = torch.from_numpy(real(8, 3))
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = (layer(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        twin = norm(nn.Linear(3, 2).double())
        twin.load_state_dict(layer.state_dict())
        np.testing.assert_allclose(twin.eval()(x).detach().numpy(), layer.eval()(x).detach().numpy())


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    layer = utils.spectral_norm(nn.Linear(3, 4, bias=False).double(), n_power_iterations=200)
    out = layer(torch.eye(3, dtype=torch.float64))
    assert abs(np.linalg.norm(out.detach().numpy(), 2) - 1) < 1e-6


def test_weight_norm_has_the_length_g() -> None:
    layer = utils.weight_norm(nn.Linear(3, 4).double(), dim=1)
    with torch.no_grad():
        layer.weight_g.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    layer(torch.ones(1, 3, dtype=torch.float64))
    np.testing.assert_allclose(np.linalg.norm(layer.weight.detach().numpy(), axis=0), [1, 2, 3])
    assert utils.weight_norm(nn.Linear(3, 4), dim=None).weight_g.shape == ()


def test_old_norms_refuse() -> None:
    for norm in (utils.weight_norm, utils.spectral_norm):
        with pytest.raises(RuntimeError, match="Cannot register two"):
            norm(norm(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found in Linear"):
        utils.remove_weight_norm(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="spectral_norm of 'weight' not found"):
        utils.remove_spectral_norm(utils.weight_norm(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match="Expected n_power_iterations to be positive"):
        utils.spectral_norm(nn.Linear(3, 4), n_power_iterations=0)
    with pytest.raises(AttributeError):
        utils.weight_norm(nn.Linear(3, 4), "nothing")
    with pytest.raises(KeyError):
        utils.spectral_norm(nn.Linear(3, 4), "nothing")


# ---- fusion, memory that nobody has filled, old names --------------------------------------------

FUSED = [
    ("nn.Conv1d(2, 3, 2)", "nn.BatchNorm1d(3)", (2, 2, 5), False),
    ("nn.Conv2d(2, 4, 3, groups=2, bias=False)", "nn.BatchNorm2d(4, affine=False)", (2, 2, 5, 4), False),
    ("nn.ConvTranspose2d(2, 3, 2)", "nn.BatchNorm2d(3)", (2, 2, 3, 4), True),
    ("nn.Linear(5, 3)", "nn.BatchNorm1d(3)", (4, 5), None),
    ("nn.Linear(5, 3, bias=False)", "nn.BatchNorm1d(3)", (4, 5), None),
]


@pytest.mark.parametrize("first, second, shape, transpose", FUSED, ids=[row[0] for row in FUSED])
def test_fused_layers_compute_the_same(first: str, second: str, shape: tuple[int, ...], transpose: Any) -> None:
    layer, norm = eval(first).double(), eval(second).double()
    x = torch.from_numpy(real(*shape))
    norm(layer(x) * 3 + 1)
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0), nn.init.normal_(norm.bias)
    with pytest.raises(AssertionError, match="Fusion only for eval"):
        (utils.fuse_linear_bn_eval if transpose is None else utils.fuse_conv_bn_eval)(layer, norm)
    layer.eval(), norm.eval()
    before = copy.deepcopy(layer.state_dict())
    fused = utils.fuse_linear_bn_eval(layer, norm) if transpose is None else utils.fuse_conv_bn_eval(layer, norm, transpose)
    np.testing.assert_allclose(fused(x).detach().numpy(), norm(layer(x)).detach().numpy(), rtol=1e-9, atol=1e-12)
    assert type(fused) is type(layer) and all(isinstance(p, nn.Parameter) and p.requires_grad for p in (fused.weight, fused.bias))
    assert all((before[name] == value).all() for name, value in layer.state_dict().items())


def test_fusion_refuses() -> None:
    with pytest.raises(AssertionError, match="must not be None"):
        utils.fuse_conv_bn_eval(nn.Conv1d(1, 2, 1).eval(), nn.BatchNorm1d(2, track_running_stats=False).eval())
    with pytest.raises(AssertionError, match="linear.out_features=2 and bn.num_features=3"):
        utils.fuse_linear_bn_eval(nn.Linear(1, 2).eval(), nn.BatchNorm1d(3).eval())


def test_skip_init() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3).tolist()
    torch.manual_seed(0)
    layer = utils.skip_init(nn.Linear, 3, 4, dtype=torch.float64)
    assert torch.rand(3).tolist() == expected
    assert layer.weight.shape == (4, 3) and layer.weight.dtype is torch.float64 and type(layer.bias) is nn.Parameter
    nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    layer(torch.ones(2, 3, dtype=torch.float64)).sum().backward()
    assert layer.weight.grad.tolist() == [[2.0] * 3] * 4
    for wrong, message in ((nn.ReLU, "must support a 'device' arg"), (dict, "Expected a Module")):
        with pytest.raises(RuntimeError, match=message):
            utils.skip_init(wrong)


@pytest.mark.parametrize("name", "constant dirac eye kaiming_normal kaiming_uniform normal orthogonal sparse uniform xavier_normal xavier_uniform".split())
def test_old_names_of_initialisation(name: str) -> None:
    args = {"constant": (3.0,), "sparse": (0.5,)}.get(name, ())
    shape = (3, 3, 2) if name == "dirac" else (3, 3)
    torch.manual_seed(0)
    expected = getattr(nn.init, name + "_")(torch.empty(shape), *args)
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match=f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`"):
        old = getattr(nn.init, name)(torch.empty(shape), *args)
    assert old.tolist() == expected.tolist()


# ---- pooling at random places, resampling --------------------------------------------------------


def test_fractional_pooling_places() -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(real(3, 2, 9, 8))
    for layer in (nn.FractionalMaxPool2d(2, output_size=(5, 6), return_indices=True), nn.FractionalMaxPool2d(3, output_ratio=0.6, return_indices=True)):
        values, places = layer(x)
        again, _ = layer(x)
        assert (x.flatten(2).gather(2, places.flatten(2)) == values.flatten(2)).all() and not (again == values).all()
        one, _ = layer(x[0])
        assert one.shape == values.shape[1:]
    values, places = F.fractional_max_pool2d_with_indices(x, 2, 4)
    assert (F.max_unpool2d(values, places, 2, output_size=(9, 8)).sum() != 0).item()
    nans = torch.tensor([[[1.0, float("nan")], [2.0, 3.0]]])
    assert torch.isnan(F.fractional_max_pool2d(nans, 2, output_size=1)).all()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.fractional_max_pool2d(x, 2), ValueError, "either an output_size or an output_ratio"),
        (lambda x: F.fractional_max_pool2d(x, 4, 2), RuntimeError, "too large relative"),
        (lambda x: F.fractional_max_pool2d(x, 2, (1, 2, 3)), ValueError, "output_size to either be"),
        (lambda x: F.fractional_max_pool2d(x, 2, output_ratio=(0.5,)), ValueError, "output_ratio to either be"),
        (lambda x: F.fractional_max_pool2d(x, 2, 2, _random_samples=torch.rand(1, 1, 3)), RuntimeError, "_random_samples must have the shape"),
        (lambda x: F.fractional_max_pool2d(x.long(), 2, 2), NotImplementedError, "floating point"),
        (lambda x: F.fractional_max_pool3d(x[0, 0], 2, 2), RuntimeError, "dimensions"),
        (lambda x: nn.FractionalMaxPool2d(2), ValueError, "requires specifying either"),
        (lambda x: nn.FractionalMaxPool2d(2, 2, 0.5), ValueError, "only one of"),
        (lambda x: nn.FractionalMaxPool3d(2, output_ratio=1.5), ValueError, "between 0 and 1"),
        (lambda x: F.interpolate(x, size=2, mode="lanczos"), ValueError, "requires antialias=True"),
        (lambda x: F.interpolate(x, size=2, mode="nearest", antialias=True), ValueError, "Anti-alias option is restricted"),
        (lambda x: F.interpolate(x, size=2, recompute_scale_factor=True), ValueError, "not meaningful"),
        (lambda x: F.interpolate(x[0], size=2, mode="bicubic"), NotImplementedError, "not available for an input of 3"),
        (lambda x: F.interpolate(x.long(), size=2, mode="bilinear"), NotImplementedError, "floating-point"),
        (lambda x: nn.RNNBase("FOO", 3, 4), ValueError, "Unrecognized RNN mode"),
    ],
)  # fmt: skip
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("mode, antialias", [("bicubic", False), ("bicubic", True), ("bilinear", True), ("lanczos", True)])
def test_resampling_keeps_what_it_should(mode: str, antialias: bool) -> None:
    flat = F.interpolate(torch.full((1, 1, 7, 5), 3.0, dtype=torch.float64), size=(4, 9), mode=mode, antialias=antialias)
    np.testing.assert_allclose(flat.numpy(), np.full((1, 1, 4, 9), 3.0), rtol=1e-12)
    x = torch.from_numpy(real(1, 2, 6, 5))
    np.testing.assert_allclose(F.interpolate(x, size=(6, 5), mode=mode, antialias=antialias).numpy(), x.numpy(), atol=1e-12)
    # A column alone is resampled like one of several; some versions of PyTorch make another of it.
    tall = F.interpolate(x[..., :1], size=(11, 1), mode=mode, antialias=antialias).numpy()
    wide = F.interpolate(x[..., :1].expand(1, 2, 6, 3), size=(11, 3), mode=mode, antialias=antialias).numpy()
    np.testing.assert_allclose(tall, wide[..., :1], rtol=1e-12)


def test_second_derivatives() -> None:
    x = torch.from_numpy(real(1, 1, 4, 5)).requires_grad_(True)
    u = torch.from_numpy(np.full((1, 1, 2), 0.3))
    for function in (
        lambda x: F.interpolate(x, size=(3, 4), mode="bicubic") ** 2,
        lambda x: F.interpolate(x, size=(3, 4), mode="bicubic", antialias=True) ** 2,
        lambda x: F.fractional_max_pool2d(x, 2, 3, _random_samples=u) ** 2,
        nn.CrossMapLRN2d(3, 0.5),
    ):
        assert torch.autograd.gradgradcheck(function, x)


def test_recurrent_bases() -> None:
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        layer = kind(3, 4)
        assert isinstance(layer, nn.RNNBase) and isinstance(pickle.loads(pickle.dumps(layer)), kind)
    assert (nn.RNN(3, 4).mode, nn.RNN(3, 4, nonlinearity="relu").mode, nn.LSTM(3, 4).mode) == ("RNN_TANH", "RNN_RELU", "LSTM")
    assert isinstance(nn.LSTMCell(3, 4), nn.RNNCellBase) and nn.RNNCellBase(3, 4, True, 3).weight_ih.shape == (12, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotImplementedError):
            nn.RNNBase("LSTM", 3, 4)(torch.ones(2, 2, 3))
