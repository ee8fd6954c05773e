"""Connectionist temporal classification: against the sum over all alignments, written out; derivatives; arguments."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

import adjoint as torch

F = torch.nn.functional
pytestmark = pytest.mark.usefixtures("little_effort")


def probabilities(steps: int = 4, batch: int = 3, classes: int = 3) -> Any:
    torch.manual_seed(0)
    return torch.randn(steps, batch, classes, dtype=torch.float64).log_softmax(-1)


def by_definition(rows: list[list[float]], target: list[int], blank: int) -> float:
    """-log of the sum over all paths that become the target when repetitions, then blanks, are left out."""
    total = 0.0
    for path in itertools.product(range(len(rows[0]) if rows else 0), repeat=len(rows)):
        if [label for label, _ in itertools.groupby(path) if label != blank] == target:
            total += math.exp(sum(row[label] for row, label in zip(rows, path, strict=True)))
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("blank", [0, 2])
def test_it_is_the_sum_over_all_alignments(blank: int) -> None:
    labels = [k for k in range(3) if k != blank]
    a, b = labels
    log_probs = probabilities()
    targets, steps = [[a, a], [b], [a, b, a]], [4, 3, 2]
    wanted = [by_definition(log_probs[:t, n].tolist(), target, blank) for n, (target, t) in enumerate(zip(targets, steps, strict=True))]
    lengths = [len(target) for target in targets]
    padded = torch.tensor([target + [-1] * (3 - len(target)) for target in targets])
    for given in (padded, torch.tensor([label for target in targets for label in target])):
        got = F.ctc_loss(log_probs, given, torch.tensor(steps), tuple(lengths), blank, "none")
        assert got.tolist() == pytest.approx(wanted, rel=1e-12)
    assert wanted[2] == math.inf
    finite = [0.0 if math.isinf(w) else w for w in wanted]
    for reduction, value in (("sum", sum(finite)), ("mean", sum(w / n for w, n in zip(finite, lengths, strict=True)) / 3)):
        layer = torch.nn.CTCLoss(blank, reduction, zero_infinity=True)
        assert layer(log_probs, padded, steps, lengths).item() == pytest.approx(value, rel=1e-12)
    alone = F.ctc_loss(log_probs[:, 0], torch.tensor(targets[0]), torch.tensor(4), torch.tensor(2), blank, "none")
    assert alone.shape == () and alone.item() == pytest.approx(wanted[0], rel=1e-12)


def test_derivatives() -> None:
    targets = torch.tensor([[1, 1], [2, 0], [1, 2]])

    def loss(x: Any) -> Any:
        return F.ctc_loss(x.log_softmax(-1), targets, (4, 3, 2), (2, 0, 1), reduction="none")

    x = probabilities().requires_grad_()
    assert torch.autograd.gradcheck(loss, (x,)) and torch.autograd.gradgradcheck(loss, (x,))


def test_what_cannot_happen_has_no_gradient() -> None:
    log_probs = probabilities(2, 2).requires_grad_()
    out = F.ctc_loss(log_probs, torch.tensor([[1, 1], [1, 2]]), (2, 2), (2, 2), reduction="none")
    assert out[0].item() == math.inf and math.isfinite(out[1].item())
    out.sum().backward()
    assert log_probs.grad[:, 0].abs().sum().item() == 0 and bool(torch.isfinite(log_probs.grad).all())
    certain = torch.tensor([[[0.0, -math.inf]], [[-math.inf, 0.0]]], requires_grad=True)
    sure = F.ctc_loss(certain, torch.tensor([[1]]), (2,), (1,))
    sure.backward()
    assert sure.item() == 0 and bool(torch.isfinite(certain.grad).all())


def test_nothing_to_emit() -> None:
    log_probs = probabilities()
    empty = F.ctc_loss(log_probs, torch.zeros((3, 0), dtype=torch.int64), (4, 1, 0), (0, 0, 0), reduction="none")
    assert empty.tolist() == pytest.approx([-log_probs[:, 0, 0].sum().item(), -log_probs[0, 1, 0].item(), 0.0])


ERRORS = [
    ({"target_lengths": (2, 4, 1)}, RuntimeError, "targets of size at least"),
    ({"targets": torch.tensor([1, 2])}, RuntimeError, "the sum of target_lengths"),
    ({"input_lengths": (5, 4, 4)}, RuntimeError, "input_lengths to have value at most 4, but got value 5"),
    ({"input_lengths": (4, 4, -1)}, RuntimeError, "at least 0, but got value -1"),
    ({"target_lengths": (2, 1)}, RuntimeError, "target_lengths must be of size batch_size 3"),
    ({"input_lengths": torch.tensor([4.0, 4.0, 4.0])}, RuntimeError, "input_lengths must be integral"),
    ({"blank": 3}, RuntimeError, "blank must be in label range"),
    ({"reduction": "max"}, ValueError, "max is not a valid value for reduction"),
    ({"log_probs": torch.zeros(4)}, RuntimeError, "Expected log_probs of shape"),
    ({"log_probs": torch.zeros(4, 3, 3).half()}, NotImplementedError, "float32 and float64"),
]


@pytest.mark.parametrize("changed, kind, message", ERRORS)
def test_errors(changed: dict[str, Any], kind: type, message: str) -> None:
    good = {"log_probs": probabilities(), "targets": torch.tensor([[1, 2], [1, 0], [2, 0]]), "input_lengths": (4, 4, 4), "target_lengths": (2, 1, 1)}
    assert F.ctc_loss(**good).shape == ()
    with pytest.raises(kind, match=message):
        F.ctc_loss(**(good | changed))
