"""Products with a matrix for each group of rows, whose sizes are known when the program runs, against loops over the groups."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace.recorder import local

F = torch.nn.functional


@pytest.mark.parametrize("seed", range(30))
def test_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups, rows, terms, width = (int(rng.integers(1, n)) for n in (7, 300 if seed % 3 else 9, 9, 9))
    ends = np.sort(rng.integers(0, rows + 1, groups))
    if seed % 2:
        ends[-1] = rows
    a = torch.tensor(rng.standard_normal((rows, terms)), requires_grad=True)
    b = torch.tensor(rng.standard_normal((groups, terms, width)), requires_grad=True)
    c = torch.tensor(rng.standard_normal((rows, width)), requires_grad=True)
    offs = torch.tensor(ends, dtype=torch.int32)
    parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    rest = torch.zeros(rows - int(ends[-1]), width, dtype=torch.float64)
    wanted = torch.cat([*(a[part] @ b[g] for g, part in enumerate(parts)), rest])
    sums = torch.stack([a[part].T @ c[part] for part in parts])
    pairs = (
        (F.grouped_mm(a, b, offs=offs), wanted, (a, b)),
        (F.grouped_mm(b.transpose(1, 2), a.t(), offs=offs), wanted.T, (a, b)),
        (F.grouped_mm(a.t(), c, offs=offs), sums, (a, c)),
    )
    for found, right, operands in pairs:
        weight = torch.tensor(rng.standard_normal(tuple(right.shape)))
        assert torch.allclose(found, right)
        for x, y in zip(*[torch.autograd.grad((z * weight).sum(), operands, retain_graph=True) for z in (found, right)], strict=True):
            assert torch.allclose(x, y)


@pytest.mark.skipif(local.trace.eager, reason="reference mode has no programs")
def test_one_program_for_every_division() -> None:
    b = torch.randn(4, 8, 8)

    def division() -> None:
        offs = torch.cat([torch.randint(0, 41, (3,)).sort()[0], torch.tensor([40])]).int()
        F.grouped_mm(torch.randn(40, 8), b, offs=offs).sum().item()

    for _ in range(12):
        division()
    before = torch.stats()["programs"]
    for _ in range(12):
        division()
    assert torch.stats()["programs"] == before


def test_without_offsets_and_with_a_bias() -> None:
    a, b = torch.randn(3, 4, 5), torch.randn(3, 5, 2)
    assert torch.equal(F.grouped_mm(a, b), torch.bmm(a, b))
    found = F.grouped_mm(a[0], b, offs=torch.tensor([4, 4, 4], dtype=torch.int32), bias=torch.ones(2), out_dtype=torch.float64)
    assert found.dtype is torch.float64 and torch.allclose(found.float(), a[0] @ b[0] + 1)


def test_wrong_calls() -> None:
    a, b, offs = torch.randn(4, 5), torch.randn(3, 5, 2), torch.tensor([1, 2, 4], dtype=torch.int32)
    for call, message in (
        (lambda: F.grouped_mm(a, b), "provide offsets"),
        (lambda: F.grouped_mm(a, b, offs=offs.long()), "int32"),
        (lambda: F.grouped_mm(a, b, offs=offs[1:]), "for each of the matrices"),
        (lambda: F.grouped_mm(a[:, 1:], b, offs=offs), "must match"),
        (lambda: F.grouped_mm(a.double(), b, offs=offs), "one floating point dtype"),
        (lambda: F.grouped_mm(a[0], b, offs=offs), "2 or 3 dimensional"),
        (lambda: F.grouped_mm(b, b.transpose(1, 2)[1:]), "batched dimension"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()
