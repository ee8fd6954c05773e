"""Functions of `nn.functional` under `torch`: PyTorch's arguments there, values and slopes of PyTorch, and draws in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch

CALLS = """
torch.conv1d(x[None], w[:, :, :2], b[:2]), torch.conv_transpose1d(x[None], w[:, :, :2])
torch.conv_transpose3d(x[None, :, :, None, None], w[:, :, :2, None, None]), torch.prelu(x, b[:1]), x.prelu(b[:1])
torch.batch_norm(x, b, b, None, None, True, 0.1, 1e-5, True)
torch.batch_norm(x, b, None, torch.zeros(3).double(), torch.ones(3).double(), False, 0.1, 1e-3, False)
torch.instance_norm(x[None], None, None, None, None, True, 0.1, 1e-5, False)
torch.layer_norm(x, [3], b, b, 1e-5, False), torch.group_norm(x, 3, b, b, 1e-5, False), torch.rms_norm(x, [3], b, 1e-3)
torch.celu(x, 0.5), torch.celu_(x * 1, 0.5), torch.selu(x), torch.selu_(x * 1), torch.threshold(x, 0.2, -1.0), torch.threshold_(x * 1, 0.2, -1.0)
torch.rrelu(x, 0.2, 0.4), torch.rrelu_(x * 1, 0.2, 0.4), torch.hardshrink(x, 0.3), x.hardshrink()
torch.dropout(x, 0.5, False), torch.alpha_dropout(x, 0.5, False), torch.feature_dropout(x, 0.5, False), torch.feature_alpha_dropout(x, 0.5, False)
torch.dropout_(x * 1, 0.5, False), torch.dropout_(x * 1, 1.0, True), torch.alpha_dropout_(x * 1, 1.0, True), torch.feature_dropout_(x * 1, 1.0, True)
torch.feature_alpha_dropout_(x * 1, 1.0, True), torch.embedding_renorm_(x.detach() * 5, k, 1.5, 3.0)
torch.embedding(x, k), torch.embedding(x, k, 1), torch.bilinear(x, x, w[:, :3, :3], b[:2])
torch.cosine_similarity(x, x + b), torch.pairwise_distance(x, x + b, 3.0), torch.pdist(x)
torch.avg_pool1d(x, 2), torch.adaptive_avg_pool1d(x, 2), torch.adaptive_max_pool1d(x, 2), torch.max_pool1d(x, 2), torch.max_pool1d_with_indices(x, 2, 1)
torch.max_pool2d(x[None], 2), torch.max_pool3d(x[None, None], (1, 2, 2)), torch.channel_shuffle(w, 2), torch.pixel_unshuffle(torch.pixel_shuffle(w[0].reshape(4, 1, 3), 2), 2)
torch.binary_cross_entropy_with_logits(x, p, None, b.detach(), 0), torch.binary_cross_entropy_with_logits(x, p, b.detach(), None, 1)
torch.cosine_embedding_loss(x, x + b, torch.tensor([1.0, -1.0]).double(), 0.1, 2), torch.hinge_embedding_loss(x, torch.tensor([1.0, -1, 1]).double(), 1.0, 2)
torch.kl_div(x, p), torch.kl_div(x, p.log(), 2, log_target=True), torch.kl_div(x, p, reduction=7)
torch.margin_ranking_loss(x, x.flip(0), torch.ones(2, 3).double(), 0.5, 0), torch.poisson_nll_loss(x, p, True, False, 1e-8, 1)
torch.triplet_margin_loss(x, x + b, x * 2, 1.0, 2.0, 1e-6, True, 2), torch.triplet_margin_loss(x, x + b, x * 2)
torch.constant_pad_nd(x, (1, 2), 0.5), torch.constant_pad_nd(x, [-1, 0, 1, 0]), torch.rnn_tanh_cell(x, x[:, :2], w[0, :2], w[1, :2, :2], b[:2], b[1:])
torch.rnn_relu_cell(x, x[:, :2], w[0, :2], w[1, :2, :2]), torch.gru_cell(x, x[:, :1], w[0, :3], w[1, :3, :1], b, b)
torch.lstm_cell(x, (x[:, :1], x[:, 1:2]), w[0], w[1, :, :1]), torch.lstm_cell(x, [x[:, :1], x[:, 1:2]], w[0], w[1, :, :1], w[0, :, 0], w[1, :, 0])
torch.embedding_bag(x, k, torch.tensor([0, 1]), False, 0)[0], torch.embedding_bag(x, k, torch.tensor([0, 1, 1]), mode=1)[:3]
torch.embedding_bag(x, k, torch.tensor([0, 1, 1]), False, 2), torch.embedding_bag(x, k, torch.tensor([0, 2]), False, 0, False, p[0], True)[0]
torch.ctc_loss(x[:, None].log_softmax(-1), torch.tensor([[1]]), [2], [1]), torch.ctc_loss(x[:, None].log_softmax(-1), torch.tensor([[1]]), [2], [1], 0, 0, True)
""".strip().splitlines()


def outcome(library: Any, call: str) -> tuple[list[Any], Any]:
    rng = np.random.default_rng(5)
    numbers = {"x": rng.standard_normal((2, 3)), "w": rng.standard_normal((2, 4, 3)), "b": rng.uniform(0.2, 1.0, 3)}
    if "conv" in call:
        numbers["w"] = rng.standard_normal((2, 2, 3))
    names: dict[str, Any] = {n: library.tensor(v, requires_grad=True) for n, v in numbers.items()}
    names["p"], names["k"] = library.tensor(rng.uniform(0.1, 0.9, (2, 3))), library.tensor([1, 0, 1])
    results = eval(call, {"torch": library, **names})
    flat = [t for r in (results if isinstance(results, tuple) else (results,)) for t in (r if isinstance(r, tuple) else (r,))]
    loss = sum((t * t.cos()).sum() for t in flat if t.is_floating_point())
    slopes = library.autograd.grad(loss, [names["x"], names["w"], names["b"]], allow_unused=True)
    return [t.detach().numpy() for t in flat], [None if g is None else g.numpy() for g in slopes]


@pytest.mark.parametrize("call", CALLS)
def test_as_in_pytorch(call: str) -> None:
    theirs = pytest.importorskip("torch")
    for got, want in zip(outcome(torch, call), outcome(theirs, call), strict=True):
        for g, t in zip(got, want, strict=True):
            if t is None:
                assert g is None or not g.any()
            else:
                assert g.dtype == t.dtype
                np.testing.assert_allclose(g, t, rtol=1e-9, atol=1e-12)


def test_slopes_drawn_in_training() -> None:
    x = torch.tensor([-2.0, -2.0, 3.0, 0.0] * 50, requires_grad=True)
    out = torch.rrelu(x, 0.25, 0.5, True)
    slopes = torch.autograd.grad(out.sum(), x)[0]
    assert bool((slopes[x > 0] == 1).all())
    drawn = slopes[x < 0]
    assert 0.25 <= float(drawn.min()) < float(drawn.mean()) < float(drawn.max()) <= 0.5
    assert torch.nn.RReLU(0.25, 0.5)(x).unique().numel() > 20


def test_features_are_dropped_as_wholes() -> None:
    x = torch.ones(8, 5, 3, 2)
    for dropped in (torch.feature_dropout(x, 0.5, True), torch.nn.functional.feature_alpha_dropout(x, 0.5, True)):
        rows = dropped.flatten(2)
        assert bool((rows == rows[..., :1]).all())
        assert len(set(rows[..., 0].flatten().tolist())) == 2
    with pytest.raises(RuntimeError, match="at least 2 dimensions"):
        torch.feature_dropout(torch.ones(3), 0.5, True)


@pytest.mark.parametrize("name", ["dropout_", "alpha_dropout_", "feature_dropout_", "feature_alpha_dropout_"])
def test_dropout_in_place(name: str) -> None:
    torch.manual_seed(3)
    x = torch.ones(4, 5, 3)
    assert getattr(torch, name)(x, 0.5, True) is x and x.unique().numel() == 2
    with pytest.raises(RuntimeError, match="can't be cast"):
        getattr(torch, name)(torch.ones(2, 3, dtype=torch.int64), 0.5, True)


def test_everything_dropped_in_place() -> None:
    x = torch.ones(3)
    assert torch.nn.functional.alpha_dropout(x, 1.0, True, inplace=True) is x and not x.any()


def test_multilabel_margin_loss_refuses_and_takes() -> None:
    loss = torch.nn.functional.multilabel_margin_loss
    x, y = torch.tensor([[0.1, 0.2, 0.4, 0.8]]), torch.tensor([[3, 0, -1, 1]])
    assert torch.nn.MultiLabelMarginLoss(reduction="none")(x, y).tolist() == pytest.approx([0.85])
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)).item() == 0
    for wrong, match in ((y.float(), "int64"), (y[:, :2], "inconsistent")):
        with pytest.raises(RuntimeError, match=match):
            loss(x, wrong)
    with pytest.raises(RuntimeError, match="non-empty"):
        loss(x[None], y[None])
    for number in (9, -2):
        with pytest.raises(IndexError, match="out of bounds"):
            loss(x, torch.tensor([[number, 0, -1, 1]])).item()


def test_reductions_are_numbers() -> None:
    x = torch.ones(2)
    with pytest.raises(TypeError, match="must be int, not str .'mean'.: 0 is none, 1 the mean, 2 the sum"):
        torch.kl_div(x, x, "mean")
    with pytest.raises(RuntimeError, match="takes the table first"):
        torch.embedding(torch.tensor([0]), torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="takes the table first"):
        torch.embedding_renorm_(torch.tensor([0]), torch.ones(2, 2), 1.0, 2.0)


def test_bags_without_a_row_and_cells_of_wrong_shapes() -> None:
    table = torch.tensor([[1.0, 5.0], [2.0, 3.0], [9.0, 9.0]])
    out, bag, sizes, rows = torch.embedding_bag(table, torch.tensor([0, 1, 2, 2]), torch.tensor([0, 3, 4]), False, 2, padding_idx=2)
    assert (out.tolist(), bag.tolist(), sizes.tolist(), rows.tolist()) == ([[2, 5], [0, 0], [0, 0]], [0, 0, 0, 1], [2, 0, 0], [[1, 0], [0, 0], [0, 0]])
    with pytest.raises(RuntimeError, match="mode must be 0"):
        torch.embedding_bag(table, torch.tensor([0]), torch.tensor([0]), False, 3)
    x, h, w = torch.ones(2, 3), torch.ones(2, 4), torch.ones(4, 3)
    with pytest.raises(RuntimeError, match=r"w_hh must have shape \[4, 4\].*has \[4, 3\]"):
        torch.rnn_tanh_cell(x, h, w, w)
    with pytest.raises(RuntimeError, match=r"hx \(N, hidden\) are needed"):
        torch.gru_cell(x, h[0], w, w)
    with pytest.raises(RuntimeError, match="two hidden states, but got 1"):
        torch.lstm_cell(x, (h,), w, w)
