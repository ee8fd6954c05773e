"""How much of a result is rounding: a graph evaluated with the noise that another order of additions, or another
approximation of a function, may bring.

`unexplained(graph, inputs, scalars, expected, got)` is the function to read first: which elements of `got` differ from
the reference by more than that. Inexact primitives have their results disturbed by random multiples of the last
place, and everything after them sees the disturbed values (Monte Carlo arithmetic: D. S. Parker 1997). So cancellation,
a division by almost nothing, a comparison or an argmax that could fall either way are seen for what they are, and
everything else is held to a few units in the last place; what only exact primitives touch, to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.ir.graph import Graph, Node
from adjoint.ir.reference import REFERENCE, apply, attention_scores, every_value

ULPS = 16  # that are forgiven without asking
SAMPLES = 16  # disturbed evaluations, until all differences are explained
AMPLITUDES = (4, 8, 16, 32)  # of the noise in units of the last place, for a quarter of the samples each
MARGIN = 8  # a difference may be so many times as large as the largest that noise made

_SUMS = frozenset(("sum", "cumsum", "recurrence", "matmul", "convolve", "put_add"))
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))
_PRODUCTS = frozenset(("prod", "cumprod"))
_NEAR_ROOTS = frozenset(("lgamma", "digamma", "erfinv"))  # precise absolutely, not relatively, at their roots
_JUMPS = frozenset(("floor_div", "remainder", "fmod", "pow"))  # what rounds their operands may move them far


def unexplained(
    graph: Graph, inputs: list[np.ndarray], scalars: list[Any], expected: list[np.ndarray], got: list[np.ndarray]
) -> list[np.ndarray]:
    """For each output a mask of the elements that are wrong: where `got` differs from `expected`, the reference's
    results, by more than rounding can."""
    wrong = [~_equal(a, b, loose) for a, b, loose in zip(got, expected, rounded(graph), strict=True)]
    if not any(w.any() for w in wrong):
        return wrong
    rng = np.random.default_rng(0)
    plain = every_value(graph, inputs, scalars)
    motion: dict[int, np.ndarray] = {}
    spread = [np.zeros(e.shape) for e in expected]
    for sample in range(SAMPLES):
        if not any(w.any() for w in wrong):
            break
        noisy = run_noisy(graph, plain, motion, rng, AMPLITUDES[sample * len(AMPLITUDES) // SAMPLES])
        for k, (n, e, g) in enumerate(zip(noisy, expected, got, strict=True)):
            if wrong[k].any():
                wrong[k] &= ~_explained(n, e, g, spread[k])
    return wrong


def rounded(graph: Graph) -> list[bool]:
    """For each output whether an inexact primitive is among its ancestors."""
    inexact: dict[int, bool] = {}
    for node in graph.nodes:
        inexact[node.index] = _is_inexact(node) or any(inexact[a.index] for a in node.args)
    return [inexact[o.index] for o in graph.outputs]


def _is_inexact(node: Node) -> bool:
    return not node.prim.exact and node.dtype.category >= 2


def _equal(a: np.ndarray, b: np.ndarray, loose: bool) -> np.ndarray:
    if a.dtype.kind not in "fc":
        return np.asarray(a == b)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if loose:
            info = np.finfo(a.dtype)
            same |= np.isfinite(b) & (np.abs(a - b) <= ULPS * (info.eps * np.abs(b) + info.tiny))
    return np.asarray(same)


def _explained(noisy: np.ndarray, expected: np.ndarray, got: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Where noise changes the kind of the value, or moves it about as far as it is off; grows `spread`."""
    if expected.dtype.kind not in "fc":
        return np.asarray(noisy != expected)
    wide = complex if expected.dtype.kind == "c" else float
    with np.errstate(all="ignore"):
        moved = np.abs(noisy.astype(wide) - expected)
        unstable = np.isfinite(noisy) != np.isfinite(expected)
        np.fmax(spread, np.where(np.isfinite(moved), moved, 0), out=spread)
        return np.asarray(unstable | (np.abs(got.astype(wide) - expected) <= MARGIN * spread))


def run_noisy(
    graph: Graph, plain: list[Any], motion: dict[int, np.ndarray], rng: np.random.Generator, amplitude: float
) -> list[np.ndarray]:
    """The reference's results with every inexact float disturbed by up to `amplitude` units in the last place.

    plain: the value of every node without noise.  motion: by comparison, how far noise moved its operands so far.
    """
    values: list[Any] = []
    yes = rng.choice((0.0, 0.5, 1.0))  # how often an open comparison holds; all or none, for what asks for all or any
    with np.errstate(all="ignore"):
        for node, undisturbed in zip(graph.nodes, plain, strict=True):
            if node.prim.kind == "boundary":
                values.append(undisturbed)
                continue
            args = [values[a.index] for a in node.args]
            if node.prim.name in _JUMPS and node.dtype.is_floating_point:
                args = [_disturbed(a, np.abs(a), rng, amplitude) for a in args]
            out = apply(node, args)
            if node.prim.name in _COMPARISONS and args[0].dtype.kind in "fc":
                undecided = _undecided(args, [plain[a.index] for a in node.args], motion, node.index)
                out = np.where(undecided, rng.random(out.shape) < yes, out)
            elif node.prim.name in _SCALES_OF_PARTS:
                scales = _SCALES_OF_PARTS[node.prim.name](args, out, node.attrs)
                out = tuple(_disturbed(o, s, rng, amplitude) for o, s in zip(out, scales, strict=True))
            elif node.parts is None and _is_inexact(node):
                out = _disturbed(out, _scale(node, args, out), rng, amplitude)
            values.append(out)
    return [values[o.index] for o in graph.outputs]


def _undecided(noisy: list[Any], plain: list[Any], motion: dict[int, np.ndarray], index: int) -> np.ndarray:
    """Where two numbers are closer than noise may move them; equality in particular is hardly ever met by chance."""
    (a, b), (x, y) = noisy, plain
    moved = np.abs(a - x) + np.abs(b - y)
    if index in motion:
        moved = np.fmax(moved, motion[index])
    motion[index] = moved
    return np.asarray((moved > 0) & (np.abs(x - y) <= MARGIN * moved))


def _scale(node: Node, args: list[Any], out: np.ndarray) -> np.ndarray:
    """What the rounding errors of a primitive are relative to."""
    name = node.prim.name
    if name in _SUMS or name in _PRODUCTS:
        terms = _terms(node)
        growth = np.sqrt(max(1.0, terms / 256))
        if name in _PRODUCTS:
            return np.abs(out) * np.sqrt(max(1.0, terms))
        sizes = [np.abs(a) if a.dtype.kind in "fc" else a for a in args]
        return np.asarray(REFERENCE[name](sizes, node.attrs)) * growth
    if name in _NEAR_ROOTS:
        return np.abs(out) + 1
    return np.abs(out)


def _attention_scales(args: list[Any], out: Any, causal: bool) -> tuple[np.ndarray, ...]:
    """A score's error is relative to the sum of its products' sizes, and moves weights by as large a part."""
    q, k, v, *mask = args
    sizes = np.matmul(np.abs(q), np.abs(k).swapaxes(-1, -2)).max(-1, initial=0) + 1
    mean = REFERENCE["attention"]([q, k, np.abs(v), *mask], causal)[0]
    return mean * sizes[..., None], np.abs(out[1]) + sizes


def _attention_backward_scales(args: list[Any], out: Any, causal: bool) -> tuple[np.ndarray, ...]:
    g, q, k, v, lse, delta, *mask = args
    sizes = np.matmul(np.abs(q), np.abs(k).swapaxes(-1, -2)) + np.abs(lse)[..., None] + 1
    weights = np.exp(attention_scores(q, k, mask, causal) - lse[..., None]) * sizes
    ds = weights * (np.matmul(np.abs(g), np.abs(v).swapaxes(-1, -2)) + np.abs(delta)[..., None])
    turned = (x.swapaxes(-1, -2) for x in (ds, weights))
    return np.matmul(ds, np.abs(k)), *(np.matmul(x, np.abs(y)) for x, y in zip(turned, (q, g), strict=True))


_SCALES_OF_PARTS = {"attention": _attention_scales, "attention_backward": _attention_backward_scales}


def _terms(node: Node) -> float:
    """How many numbers are added or multiplied for one element."""
    if node.prim.name == "matmul":
        return node.args[0].shape[-1]
    if node.prim.name == "convolve":
        return node.args[1].size / max(1, node.args[1].shape[0])
    if node.prim.kind == "scan":
        return node.shape[node.attrs]
    return max(a.size for a in node.args) / max(1, node.size)


def _disturbed(x: np.ndarray, scale: np.ndarray, rng: np.random.Generator, amplitude: float) -> np.ndarray:
    noise = rng.uniform(-1, 1, x.shape)
    if x.dtype.kind == "c":
        noise = noise + 1j * rng.uniform(-1, 1, x.shape)
    step = amplitude * np.finfo(x.dtype).eps * noise * scale
    return np.asarray(np.where(np.isfinite(scale), x + step, x)).astype(x.dtype)
