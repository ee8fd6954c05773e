"""Layers with parameters: against PyTorch with the same parameters, and against NumPy where a formula is short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint
from adjoint import nn

# Constructor expression, shapes of the inputs, and the keywords of the call.
LAYERS: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("nn.Linear(4, 3)", [(2, 5, 4)], {}),
    ("nn.Bilinear(4, 2, 3)", [(5, 4), (5, 2)], {}),
    ("nn.PReLU(3)", [(2, 3, 4)], {}),
    ("nn.Conv1d(3, 4, 3, padding=1)", [(2, 3, 6)], {}),
    ("nn.Conv2d(3, 4, 3, stride=2, padding=1)", [(2, 3, 7, 6)], {}),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='circular')", [(2, 3, 7, 6)], {}),
    ("nn.Conv2d(3, 4, 3, padding='same', padding_mode='reflect')", [(2, 3, 7, 6)], {}),
    ("nn.Conv3d(2, 3, 2)", [(1, 2, 3, 4, 3)], {}),
    ("nn.ConvTranspose1d(2, 3, 3, stride=2)", [(1, 2, 4)], {}),
    ("nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, groups=2)", [(1, 2, 4, 3)], {}),
    ("nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1)", [(1, 2, 4, 3)], {"output_size": (8, 6)}),
    ("nn.BatchNorm1d(3)", [(5, 3)], {}),
    ("nn.BatchNorm1d(3, momentum=None)", [(5, 3, 2)], {}),
    ("nn.BatchNorm2d(3, affine=False)", [(4, 3, 2, 2)], {}),
    ("nn.BatchNorm2d(3, track_running_stats=False)", [(4, 3, 2, 2)], {}),
    ("nn.BatchNorm3d(2)", [(2, 2, 2, 3, 2)], {}),
    ("nn.InstanceNorm1d(3, affine=True, track_running_stats=True)", [(4, 3, 5)], {}),
    ("nn.InstanceNorm2d(3)", [(3, 4, 5)], {}),
    ("nn.LayerNorm(4)", [(2, 3, 4)], {}),
    ("nn.LayerNorm((3, 4), bias=False)", [(2, 3, 4)], {}),
    ("nn.RMSNorm(4)", [(2, 3, 4)], {}),
    ("nn.GroupNorm(2, 4)", [(2, 4, 3)], {}),
    ("nn.LocalResponseNorm(3)", [(2, 5, 3)], {}),
    ("nn.SyncBatchNorm(3)", [(4, 3, 2, 2)], {}),
    ("nn.MaxPool2d(2)", [(2, 3, 4, 5)], {}),
    ("nn.AvgPool2d(2, padding=1)", [(2, 3, 4, 5)], {}),
    ("nn.AvgPool1d(2)", [(2, 3, 4)], {}),
    ("nn.AdaptiveAvgPool2d((2, None))", [(2, 3, 4, 5)], {}),
    ("nn.AdaptiveMaxPool1d(2)", [(2, 3, 4)], {}),
    ("nn.Upsample(scale_factor=2.0, mode='bilinear')", [(2, 3, 4, 5)], {}),
    ("nn.Unfold(2)", [(2, 3, 4, 5)], {}),
    ("nn.Fold((4, 5), 2)", [(2, 12, 12)], {}),
    ("nn.ReplicationPad2d(1)", [(2, 3, 4, 5)], {}),
    ("nn.ReplicationPad3d((1, 2, 0, 1, 3, 1))", [(1, 2, 3, 4, 5)], {}),
    ("nn.ReflectionPad3d((1, 2, 0, 1, 2, 1))", [(2, 3, 4, 5)], {}),
    ("nn.CircularPad3d(2)", [(1, 2, 3, 4, 5)], {}),
    ("nn.Upsample((5, 7), mode='bicubic', align_corners=True)", [(2, 3, 4, 5)], {}),
    ("nn.UpsamplingBilinear2d((5, 7))", [(2, 3, 4, 5)], {}),
    ("nn.DataParallel(nn.Linear(4, 3))", [(2, 4)], {}),
    ("nn.ConstantPad2d((1, 0, 2, 1), 3.0)", [(2, 3, 4)], {}),
    ("nn.PixelShuffle(2)", [(2, 4, 2, 2)], {}),
    ("nn.ChannelShuffle(2)", [(2, 4, 2)], {}),
    ("nn.RReLU(0.2, 0.4).eval()", [(2, 4)], {}),
    ("nn.FeatureAlphaDropout().eval()", [(2, 4)], {}),
    ("nn.Unflatten(1, (2, -1))", [(2, 6)], {}),
    ("nn.CosineSimilarity()", [(4, 3), (4, 3)], {}),
    ("nn.PairwiseDistance(2.0)", [(4, 3), (4, 3)], {}),
    ("nn.RNN(3, 4)", [(5, 2, 3)], {}),
    ("nn.RNN(3, 4, nonlinearity='relu', bias=False)", [(5, 3)], {}),
    ("nn.RNN(3, 4, 2, batch_first=True, bidirectional=True)", [(2, 5, 3), (4, 2, 4)], {}),
    ("nn.GRU(3, 4)", [(5, 2, 3)], {}),
    ("nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)", [(2, 5, 3)], {}),
    ("nn.GRU(3, 4, bias=False)", [(5, 2, 3), (1, 2, 4)], {}),
    ("nn.LSTM(3, 4)", [(5, 2, 3)], {}),
    ("nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)", [(2, 5, 3)], {}),
    ("nn.LSTM(3, 4, proj_size=2)", [(5, 3)], {}),
    ("nn.RNNCell(3, 4)", [(2, 3), (2, 4)], {}),
    ("nn.GRUCell(3, 4)", [(2, 3)], {}),
    ("nn.GRUCell(3, 4, bias=False)", [(3,), (4,)], {}),
    ("nn.LSTMCell(3, 4)", [(2, 3)], {}),
    ("nn.MultiheadAttention(6, 2)", [(4, 2, 6)] * 3, {}),
    (
        "nn.MultiheadAttention(6, 2, batch_first=True)",
        [(2, 4, 6), (2, 3, 6), (2, 3, 6)],
        {"average_attn_weights": False},
    ),
    (
        "nn.MultiheadAttention(6, 3, kdim=4, vdim=5, bias=False)",
        [(4, 2, 6), (3, 2, 4), (3, 2, 5)],
        {},
    ),
    (
        "nn.MultiheadAttention(6, 2, add_bias_kv=True, add_zero_attn=True)",
        [(4, 6), (3, 6), (3, 6)],
        {},
    ),
    ("nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0)", [(4, 2, 6)], {}),
    (
        "nn.TransformerEncoderLayer(6, 2, 8, 0.0, 'gelu', norm_first=True, batch_first=True)",
        [(2, 4, 6)],
        {},
    ),
    ("nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0, bias=False)", [(4, 2, 6), (3, 2, 6)], {}),
    ("nn.TransformerDecoderLayer(6, 2, 8, 0.0, norm_first=True)", [(4, 2, 6), (3, 2, 6)], {}),
    (
        "nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, 0.0), 2, nn.LayerNorm(6))",
        [(4, 2, 6)],
        {},
    ),
    ("nn.Transformer(6, 2, 1, 1, 8, 0.0)", [(4, 2, 6), (3, 2, 6)], {}),
]


def flatten(out: Any) -> list[Any]:
    if isinstance(out, (tuple, list)):
        return [t for item in out for t in flatten(item)]
    return [] if out is None else [out]


def trained(
    T: Any, text: str, arrays: list[np.ndarray], state: dict[str, np.ndarray], kwargs: Any
) -> Any:
    """Two forward passes of a layer with the given state, one backward: outputs, gradients, state after."""
    layer = eval(text, {"nn": T.nn}).double()
    layer.load_state_dict({name: T.tensor(value) for name, value in state.items()})
    inputs = [T.from_numpy(a.copy()).requires_grad_(True) for a in arrays]
    layer(*inputs, **kwargs)
    outs = flatten(layer(*inputs, **kwargs))
    rng = np.random.default_rng(2)
    total = sum((o * T.from_numpy(rng.standard_normal(tuple(o.shape)))).sum() for o in outs)
    total.backward()
    grads = {name: p.grad for name, p in layer.named_parameters()}
    grads |= {f"input {i}": t.grad for i, t in enumerate(inputs)}
    layer.eval()
    outs += flatten(layer(*inputs, **kwargs))
    return (
        [o.detach().numpy() for o in outs],
        {name: None if g is None else g.numpy() for name, g in grads.items()},
        {name: t.detach().numpy() for name, t in layer.state_dict().items()},
    )


def random_state(layer: Any, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    state = {}
    for name, t in layer.state_dict().items():
        if "num_batches" in name:
            state[name] = np.array(0)
        else:
            state[name] = rng.uniform(0.1, 1.0, tuple(t.shape)) * (
                1 if "var" in name else rng.choice([-1, 1], tuple(t.shape))
            )
    return state


@pytest.mark.parametrize("text, shapes, kwargs", LAYERS, ids=[row[0] for row in LAYERS])
def test_same_as_pytorch(text: str, shapes: list[tuple[int, ...]], kwargs: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    other = eval(text, {"nn": torch.nn})
    own = eval(text, {"nn": nn})
    assert list(own.state_dict()) == list(other.state_dict())
    assert [tuple(t.shape) for t in own.state_dict().values()] == [
        tuple(t.shape) for t in other.state_dict().values()
    ]
    state = random_state(own)
    outs, grads, after = trained(adjoint, text, arrays, state, kwargs)
    expected_outs, expected_grads, expected_after = trained(torch, text, arrays, state, kwargs)
    assert len(outs) == len(expected_outs)
    for got, want in zip(outs, expected_outs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
    assert list(grads) == list(expected_grads)
    for name, want in expected_grads.items():
        if want is None:
            assert grads[name] is None or not grads[name].any()
        else:
            np.testing.assert_allclose(grads[name], want, rtol=1e-7, atol=1e-10, err_msg=name)
    for name, want in expected_after.items():
        np.testing.assert_allclose(after[name], want, rtol=1e-9, err_msg=name)


# ---- formulas in NumPy ---------------------------------------------------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def np_rnn(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    return np.tanh(x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]), c


def np_lstm(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    gates = x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
    i, f, g, o = np.split(gates, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def np_gru(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    rx, zx, nx = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, -1)
    rh, zh, nh = np.split(h @ w["weight_hh"].T + w["bias_hh"], 3, -1)
    z = sigmoid(zx + zh)
    return (1 - z) * np.tanh(nx + sigmoid(rx + rh) * nh) + z * h, c


@pytest.mark.parametrize("kind, step", [("RNN", np_rnn), ("LSTM", np_lstm), ("GRU", np_gru)])
def test_recurrence_is_the_formula(kind: str, step: Any) -> None:
    layer = getattr(nn, kind)(3, 4).double()
    w = {name.removesuffix("_l0"): t.numpy() for name, t in layer.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((6, 2, 3))
    h = c = np.zeros((2, 4))
    expected = []
    for t in range(6):
        h, c = step(x[t], h, c, w)
        expected.append(h)
    out, state = layer(adjoint.from_numpy(x))
    np.testing.assert_allclose(out.detach().numpy(), np.stack(expected), rtol=1e-9)
    last = state[1] if kind == "LSTM" else state
    np.testing.assert_allclose(last.detach().numpy()[0], c if kind == "LSTM" else h, rtol=1e-9)
    cell = getattr(nn, kind + "Cell")(3, 4).double()
    cell.load_state_dict({name: adjoint.tensor(value) for name, value in w.items()})
    got = cell(adjoint.from_numpy(x[0]))
    np.testing.assert_allclose(
        (got[0] if kind == "LSTM" else got).detach().numpy(), expected[0], rtol=1e-9
    )


def test_recurrent_gradient_is_the_difference_quotient() -> None:
    layer = nn.LSTM(2, 3, 2, bidirectional=True).double()
    rng = np.random.default_rng(0)
    x, d = rng.standard_normal((4, 2, 2)), rng.standard_normal((4, 2, 2))
    t = adjoint.from_numpy(x).requires_grad_(True)
    layer(t)[0].sum().backward()
    with adjoint.no_grad():
        high = layer(adjoint.from_numpy(x + 1e-6 * d))[0].sum().item()
        low = layer(adjoint.from_numpy(x - 1e-6 * d))[0].sum().item()
    np.testing.assert_allclose((t.grad.numpy() * d).sum(), (high - low) / 2e-6, rtol=1e-6)


def test_attention_is_the_formula() -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    w = {name: t.numpy() for name, t in layer.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((2, 5, 4))
    q, k, v = np.split(x @ w["in_proj_weight"].T + w["in_proj_bias"], 3, -1)
    heads, weights = [], []
    for h in range(2):
        part = slice(2 * h, 2 * h + 2)
        scores = q[..., part] @ np.swapaxes(k[..., part], 1, 2) / np.sqrt(2)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        weights.append(e / e.sum(-1, keepdims=True))
        heads.append(weights[-1] @ v[..., part])
    expected = np.concatenate(heads, -1) @ w["out_proj.weight"].T + w["out_proj.bias"]
    out, attention = layer(*[adjoint.from_numpy(x)] * 3)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(attention.detach().numpy(), np.mean(weights, 0), rtol=1e-9)


@pytest.mark.parametrize("boolean", [True, False])
def test_attention_masks_same_as_pytorch(boolean: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2, 6))
    hidden, padding = (
        np.triu(np.ones((4, 4), bool), 1),
        np.array([[False] * 4, [False, False, True, True]]),
    )
    if not boolean:
        hidden, padding = np.where(hidden, -np.inf, 0.3), np.where(padding, -np.inf, 0.0)
    state = random_state(nn.MultiheadAttention(6, 2))
    results = []
    for T in (adjoint, torch):
        layer = T.nn.MultiheadAttention(6, 2).double()
        layer.load_state_dict({name: T.tensor(v) for name, v in state.items()})
        t = T.from_numpy(x.copy()).requires_grad_(True)
        out, weights = layer(
            t,
            t,
            t,
            attn_mask=T.from_numpy(hidden.copy()),
            key_padding_mask=T.from_numpy(padding.copy()),
        )
        (out * out).sum().backward()
        results.append((out.detach().numpy(), weights.detach().numpy(), t.grad.numpy()))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_causal_encoder_does_not_look_ahead() -> None:
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    assert mask.tolist()[0] == [0.0] + [-float("inf")] * 4
    x = adjoint.randn(1, 5, 6)
    y = x.clone()
    y[0, 3:] = 1.0
    with adjoint.no_grad():
        a, b = layer(x, src_mask=mask, is_causal=True), layer(y, src_mask=mask, is_causal=True)
    np.testing.assert_allclose(a[0, :3].numpy(), b[0, :3].numpy(), rtol=1e-6)
    assert not np.allclose(a[0, 3:].numpy(), b[0, 3:].numpy())


def test_batch_norm_statistics() -> None:
    layer = nn.BatchNorm1d(2, momentum=0.3).double()
    x = np.random.default_rng(0).standard_normal((8, 2)) * 3 + 1
    mean, var = np.zeros(2), np.ones(2)
    for _ in range(3):
        out = layer(adjoint.from_numpy(x))
        mean, var = 0.7 * mean + 0.3 * x.mean(0), 0.7 * var + 0.3 * x.var(0, ddof=1)
    np.testing.assert_allclose(
        out.detach().numpy(), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-9
    )
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    layer.eval()
    np.testing.assert_allclose(
        layer(adjoint.from_numpy(x)).detach().numpy(), (x - mean) / np.sqrt(var + 1e-5), rtol=1e-9
    )
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert layer.running_var.tolist() == [1, 1] and layer.num_batches_tracked.item() == 0


def test_embedding_padding_row_and_norm() -> None:
    layer = nn.Embedding(4, 2, padding_idx=1)
    assert layer.weight[1].tolist() == [0, 0]
    layer(adjoint.tensor([0, 1, 0])).sum().backward()
    assert layer.weight.grad.tolist() == [[2, 2], [0, 0], [0, 0], [0, 0]]
    table = nn.Embedding.from_pretrained(
        adjoint.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]]), max_norm=1.0
    )
    out = table(adjoint.tensor([0, 1, 0]))
    np.testing.assert_allclose(out.numpy(), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-5)
    np.testing.assert_allclose(table.weight.numpy()[2], [6, 8])
    assert not table.weight.requires_grad


def test_embedding_bag() -> None:
    layer = nn.EmbeddingBag(4, 2, mode="sum", padding_idx=-3)
    assert layer.weight[1].tolist() == [0, 0]
    layer(adjoint.tensor([0, 1, 0, 3]), adjoint.tensor([0, 3]), adjoint.tensor([1.0, 5.0, 2.0, 1.0])).sum().backward()
    assert layer.weight.grad.tolist() == [[3, 3], [0, 0], [0, 0], [1, 1]]
    assert repr(layer) == "EmbeddingBag(4, 2, mode='sum', padding_idx=1)"
    table = nn.EmbeddingBag.from_pretrained(adjoint.tensor([[3.0, 4.0], [0.3, 0.4]]), max_norm=1.0, mode="max")
    np.testing.assert_allclose(table(adjoint.tensor([[0, 1]])).numpy(), [[0.6, 0.8]], rtol=1e-5)
    assert not table.weight.requires_grad and nn.EmbeddingBag.from_pretrained(table.weight, freeze=False).weight.requires_grad
    with pytest.raises(AssertionError, match="within num_embeddings"):
        nn.EmbeddingBag(3, 2, padding_idx=3)
    with pytest.raises(AssertionError, match="Shape of weight"):
        nn.EmbeddingBag(3, 2, _weight=adjoint.ones(2, 2))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling_puts_maxima_back(n: int) -> None:
    x = adjoint.randn(1, 2, *(5, 4, 4)[:n]).abs()
    pool, unpool = getattr(nn, f"MaxPool{n}d")(2, return_indices=True), getattr(nn, f"MaxUnpool{n}d")(2)
    largest, indices = pool(x)
    back = unpool(largest, indices, output_size=x.shape)
    assert back.shape == x.shape
    assert adjoint.equal(pool(back)[0], largest) and bool(((back == 0) | (back == x)).all())
    assert repr(unpool) == f"MaxUnpool{n}d(kernel_size={(2,) * n}, stride={(2,) * n}, padding={(0,) * n})"


def test_dropout_between_recurrent_layers_only_in_training() -> None:
    layer = nn.GRU(3, 8, 2, dropout=0.9)
    x = adjoint.randn(4, 2, 3)
    assert not np.array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach().numpy(), layer(x)[0].detach().numpy())


ERRORS = [
    ("nn.Conv2d(3, 4, 3, groups=2)", ValueError, "in_channels must be divisible"),
    ("nn.Conv2d(3, 4, 3, padding_mode='mirror')", ValueError, "padding_mode must be one of"),
    ("nn.Conv2d(3, 4, 3, stride=2, padding='same')", ValueError, "strided"),
    ("nn.Dropout(2.0)", ValueError, "between 0 and 1"),
    ("nn.GroupNorm(2, 3)", ValueError, "divisible"),
    ("nn.BatchNorm2d(3)(zeros(2, 3))", ValueError, r"expected 4D input \(got 2D input\)"),
    ("nn.LSTM(3, 4)(zeros(2, 2, 5))", RuntimeError, "Expected 3, got 5"),
    ("nn.LSTM(3, 4)(zeros(2))", ValueError, "2D or 3D, got 1D"),
    ("nn.GRU(3, 4)(zeros(5, 2, 3), zeros(1, 3, 4))", RuntimeError, "Expected hidden size"),
    ("nn.RNN(3, 4, nonlinearity='sin')", ValueError, "Unknown nonlinearity"),
    ("nn.MultiheadAttention(5, 2)", AssertionError, "divisible by num_heads"),
    ("nn.Embedding(3, 2, padding_idx=3)", AssertionError, "within num_embeddings"),
    (
        "nn.ConvTranspose2d(1, 1, 3)(zeros(1, 1, 3, 3), output_size=(9, 9))",
        ValueError,
        "valid sizes range from 5 to 5",
    ),
    ("nn.ParameterList([])()", RuntimeError, "should not be called"),
]


@pytest.mark.parametrize("text, kind, message", ERRORS, ids=[row[0] for row in ERRORS])
def test_errors(text: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        eval(text, {"nn": nn, "zeros": lambda *shape: adjoint.zeros(shape)})


def test_batch_norm_that_stops_keeping_statistics() -> None:
    """`track_running_stats` switched off later: as in PyTorch nothing is averaged on, and evaluation uses what there is."""
    adjoint.manual_seed(0)
    layer, x = nn.BatchNorm1d(3), adjoint.randn(8, 3) * 2 + 1
    layer(x)
    before = layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()
    layer.track_running_stats = False
    batch = layer(x)
    assert (layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()) == before
    np.testing.assert_allclose(batch.detach().mean(0).tolist(), 0, atol=1e-6)
    layer.eval()
    wanted = (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt()
    np.testing.assert_allclose(layer(x).tolist(), wanted.tolist(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_empty_batch_leaves_running_averages(momentum: float | None) -> None:
    layer = nn.BatchNorm1d(2, momentum=momentum)
    layer(adjoint.tensor([[1.0, 2.0], [3.0, 8.0]]))
    mean, var = layer.running_mean.tolist(), layer.running_var.tolist()
    assert layer(adjoint.zeros(0, 2)).shape == (0, 2)
    assert (layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()) == (mean, var, 2)
