"""Random programs of views of views, in-place changes and reads, with gradients: against PyTorch and reference mode."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import adjoint as torch

try:
    import torch as theirs
except ImportError:
    theirs = None

pytestmark = pytest.mark.usefixtures("little_effort")

Shape = tuple[int, ...]


def views_of(name: str, shape: Shape, rng: random.Random) -> list[tuple[str, Shape]]:
    """Expressions for views of a tensor, with their shapes."""
    found: list[tuple[str, Shape]] = [
        (f"{name}.unsqueeze(0)", (1, *shape)),
        (f"{name}.reshape(-1)", (int(np.prod(shape)),)),
        (f"{name}.detach()", shape),
    ]
    if shape:
        d = rng.randrange(len(shape))
        n, before, after = shape[d], shape[:d], shape[d + 1 :]
        found.append((f"{name}.select({d}, {rng.randrange(-n, n)})", (*before, *after)))
        start = rng.randrange(n)
        length = rng.randint(1, n - start)
        found.append((f"{name}.narrow({d}, {start}, {length})", (*before, length, *after)))
        found.append((f"{name}[t.tensor({rng.randrange(shape[0])})]", shape[1:]))
        found.append((f"{name}[::2]", (-(-shape[0] // 2), *shape[1:])))
        size = rng.randint(1, n)
        step = size + rng.randrange(2)
        found.append((f"{name}.unfold({d}, {size}, {step})", (*before, (n - size) // step + 1, *after, size)))
    if len(shape) > 1:
        found.append((f"{name}.transpose(0, -1)", (shape[-1], *shape[1:-1], shape[0])))
        k = rng.randint(-1, 1)
        length = min(shape[0], shape[1] - k) if k >= 0 else min(shape[0] + k, shape[1])
        if length > 0:
            found.append((f"{name}.diagonal({k}, 0, 1)", (*shape[2:], length)))
    return found


def change_of(name: str, shape: Shape, detached: bool, rng: random.Random) -> str:
    """A detached view is changed by numbers only: written with what requires grad, PyTorch's gets a history of its own."""
    found = [
        "{0}.add_(1.5)", "{0}.mul_({0})", "{0}.sin_()", "{0} *= 0.5", "{0}.zero_()", "{0}.copy_({0} * 2)",
        "{0}.add_(b.sum())" if not detached else "{0}.sub_(0.5)", "{0}[...] = 0.25", "{0}.masked_fill_({0} > 1.01, 0.3)",
    ]  # fmt: skip
    if shape and shape[0] > 1:
        found += [
            f"{{0}}[t.tensor([0, {shape[0] - 1}])] += 0.5",
            "{0}[:1] = {0}[-1:] * 3",
            "{0}.index_fill_(0, t.tensor([0]), 2.0)",
        ]
    return rng.choice(found).format(name)


def make(seed: int) -> str:
    rng = random.Random(seed)
    lines, shapes, detached = ["b = a * 1.25"], {"b": (3, 4)}, {"b": False}
    for k in range(rng.randint(3, 9)):
        name = rng.choice(list(shapes))
        kind = rng.random()
        if kind < 0.5:
            expression, shape = rng.choice(views_of(name, shapes[name], rng))
            lines.append(f"v{k} = {expression}")
            shapes[f"v{k}"] = shape
            detached[f"v{k}"] = detached[name] or "detach" in expression
        elif kind < 0.9:
            lines.append(change_of(name, shapes[name], detached[name], rng))
        else:
            lines.append(f"seen.append({name}.detach().clone())")
    parts = rng.sample(list(shapes), min(3, len(shapes)))
    lines.append("out = b.sum() * 0.5 + (b * b).sum()" + "".join(f" + {v}.cos().sum()" for v in parts))
    return "\n".join(lines)


def run(library: Any, source: str) -> list[np.ndarray]:
    """The result, the gradient, the base and what was read on the way."""
    start = (np.arange(12.0) / 7 + 0.1).reshape(3, 4)
    names: dict[str, Any] = {"t": library, "seen": []}
    names["a"] = library.tensor(start, requires_grad=True)
    exec(source, names)
    names["out"].backward()
    kept = [names["out"].detach(), names["a"].grad, names["b"].detach(), *names["seen"]]
    return [x.numpy().copy() for x in kept]


def expected(source: str) -> list[np.ndarray]:
    if theirs is not None:
        try:
            return run(theirs, source)
        except RuntimeError as error:  # computed here where PyTorch refuses
            assert "inplace" in str(error) or "in-place" in str(error)
    with torch.eager():
        return run(torch, source)


@pytest.mark.parametrize("chunk", range(10))
def test_random_programs_of_views(chunk: int) -> None:
    for seed in range(15 * chunk, 15 * chunk + 15):
        source = make(seed)
        for ours, wanted in zip(run(torch, source), expected(source), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}\n{source}")
