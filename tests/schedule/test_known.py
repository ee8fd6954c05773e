"""Kernels written once for nests that are alike: what is taken for the same has, word for word, the text it would have had."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from graphs import random_graph

import adjoint as torch
from adjoint import dtypes
from adjoint.codegen.known import Known
from adjoint.codegen.nest import Kernel, NestKernel
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.runtime import jit
from adjoint.schedule import in_place
from adjoint.schedule.order import in_order
from adjoint.schedule.values import Nest

pytestmark = pytest.mark.skipif(not jit.available(), reason="no LLVM here")


def nests_of(graph: Graph) -> tuple[list[Nest], set]:
    graph, order = in_order(graph)
    stored = set(graph.outputs)
    for unit in order:
        stored.update(unit.reads)
    return [u for u in order if isinstance(u, Nest) and any(r.target in stored for r in u.roots)], stored


def fields(kernel: Kernel) -> dict[str, Any]:
    return {f.name: getattr(kernel, f.name) for f in dataclasses.fields(kernel)} | {"replaced": [*kernel.replaced]}


@pytest.mark.any_mode
@pytest.mark.parametrize("block", range(4))
def test_random_nests_have_the_text_of_their_own(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are shown to the same `Known`, so that a key that forgets something finds another's text."""
    monkeypatch.setattr(in_place, "LEAST", 0)
    known = Known()
    written = seen = 0
    width = 64 if block % 2 else 16
    for seed in range(150 * block, 150 * block + 150):
        graph, _, _ = random_graph(seed, 96)
        nests, stored = nests_of(graph)
        for nest in nests:
            replaced = in_place.replacements(nest, set(graph.outputs)), seed % 3 == 0
            before = len(known._kernels)
            got = known.kernel(nest, stored, width, *replaced)
            written += len(known._kernels) - before
            seen += 1
            assert fields(got) == fields(NestKernel(nest, stored, width, *replaced).finish()), f"seed {seed}"
    assert written < seen


def test_nests_that_differ_in_a_number_are_written_for_each() -> None:
    """Also where the numbers are equal: zeros of either sign, and the same number of another dtype."""
    known, texts = Known(), []
    for dtype, values in (("float32", (0.0, -0.0, 1.0, 2.5, math.inf, math.nan)), ("int32", (0, 1)), ("bool", (False, True))):
        for value in values:
            b = GraphBuilder()
            x = b.node("input", attrs=(0, (40, 48), getattr(dtypes, dtype)))
            name = "bitwise_xor" if dtype == "bool" else "add"
            ((nest,), stored) = nests_of(b.finish([b.node(name, x, b.const(value, x.dtype, x.shape))]))
            texts.append(known.kernel(nest, stored, 64).text)
            assert texts[-1] == NestKernel(nest, stored, 64).finish().text
    assert len(set(texts)) == len(texts)


def test_layers_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = NestKernel.finish
    monkeypatch.setattr(NestKernel, "finish", lambda self: made.append(self) or plain(self))
    with torch.eager(False):
        x = torch.randn(33, 47)
        scales = [torch.randn(47) for _ in range(8)]
        for scale in scales:
            x = torch.softmax(x * scale, 1)
        x.sum().item()
    assert len(made) <= 4
