"""Expressions of random programs: text, with the shape, dtype and bound of the result.

`Expressions` keeps the names in scope (`Var`) and offers one method per family of operations; each
returns (text, description of the result), or None if nothing in scope fits. Read `expression`
first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

LIMIT = 40.0  # elements that may exceed this are passed through tanh


@dataclass(frozen=True)
class Var:
    """What is known of a name. kind: NumPy dtype name.  bound: its elements stay below this in
    magnitude.

    leaf: (a view of) a tensor made with requires_grad, to be changed under no_grad only.  writable:
    not made by expand.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    bound: float
    leaf: bool = False
    writable: bool = True

    @property
    def is_float(self) -> bool:
        return self.kind.startswith("float")


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    out = []
    for k in range(1, max(len(a), len(b)) + 1):
        n, m = (a[-k] if k <= len(a) else 1), (b[-k] if k <= len(b) else 1)
        if n != m and n != 1 and m != 1:
            return None
        out.append(m if n == 1 else n)
    return tuple(reversed(out))


def size_of(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


class Expressions:
    """Names in scope, the random numbers, and the expressions that can be made of them.

    n, m, k: the sizes that shapes are made of.  main: the program's usual dtype.  loop: name of the
    counter while the body of a loop is written.
    """

    n: int
    m: int
    k: int
    main: str

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.vars: dict[str, Var] = {}
        self.kinds: set[str] = set()
        self.count = 0
        self.keys = 0
        self.loop: str | None = None

    def fresh(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def key(self) -> int:
        self.keys += 1
        return self.keys

    def choose(self, accept: Callable[[Var], bool] = lambda v: True) -> Var | None:
        self.kinds.update(v.kind for v in self.vars.values())
        names = [v for v in self.vars.values() if accept(v)]
        if not names:
            return None
        if self.rng.random() < 0.5:
            return self.rng.choice(names[-4:])
        return self.rng.choice(names)

    def float_var(self) -> Var:
        v = self.choose(lambda v: v.is_float)
        assert (
            v is not None
        )  # the first statements make a float leaf, and nothing drops the last float
        return v

    def shapes(self) -> list[tuple[int, ...]]:
        n, m, k = self.n, self.m, self.k
        return [(n, m), (n, m), (m,), (n,), (m, n), (m, m), (), (k, n, m), (n, 1), (1, m)]

    def number(self) -> str:
        """A Python number of magnitude up to 2: written out, drawn from the data, or the loop's
        counter."""
        rng = self.rng
        if self.loop is not None and rng.random() < 0.5:
            return rng.choice((f"(0.5 + 0.25 * {self.loop})", f"(1.0 / ({self.loop} + 1))"))
        if rng.random() < 0.3:
            return f"num({self.key()})"
        return rng.choice(("0.5", "1.5", "-0.75", "2", "0.1", "-1"))

    # --- expressions: each returns (text, Var with the result's description) or None

    def expression(self) -> tuple[str, Var] | None:
        makers = (
            (self.unary, 5),
            (self.binary, 7),
            (self.with_number, 4),
            (self.reduction, 4),
            (self.product, 2),
            (self.movement, 3),
            (self.joining, 1.5),
            (self.picking, 2.5),
            (self.scanning, 1),
            (self.choosing, 1.5),
            (self.integers, 1),
            (self.composite, 1.5),
        )
        functions, weights = zip(*makers, strict=True)
        got = self.rng.choices(functions, weights)[0]()
        if got is None:
            return None
        text, v = got
        if v.is_float and v.bound > LIMIT:
            return f"({text}).tanh()", replace(v, bound=1.0)
        if v.kind == "int64" and v.bound > 1000:
            return f"({text}) % 7", replace(v, bound=7.0)
        return text, v

    @staticmethod
    def result(shape: tuple[int, ...], kind: str, bound: float) -> Var:
        return Var("", tuple(shape), kind, bound)

    def unary(self) -> tuple[str, Var] | None:
        a = self.float_var()
        x = a.name
        text, bound = self.rng.choice(
            (
                (f"{x}.tanh()", 1.0),
                (f"torch.tanh({x})", 1.0),
                (f"{x}.sin()", 1.0),
                (f"{x}.cos()", 1.0),
                (f"{x}.sigmoid()", 1.0),
                (f"{x}.relu()", a.bound),
                (f"torch.relu({x})", a.bound),
                (f"{x}.abs()", a.bound),
                (f"-{x}", a.bound),
                (f"({x} * {x} + 1).sqrt()", a.bound + 1),
                (f"({x}.abs() + 0.5).log()", 4.0),
                (f"(-{x}.abs()).exp()", 1.0),
                (f"({x} * {x}).log1p()", 8.0),
                (f"torch.erf({x})", 1.0),
                (f"({x} ** 2 + 0.5).rsqrt()", 2.0),
                (f"{x}.detach()", a.bound),
                (f"{x}.clone()", a.bound),
                (f"{x}.sign()", 1.0),
                (f"({x} * 3.3).floor()", 3.3 * a.bound + 1),
                (f"{x}.atan()", 2.0),
                (f"1 / (1 + {x} * {x})", 1.0),
                (f"{x}.clamp(-0.75, 1.25)", 1.25),
            )
        )
        return text, self.result(a.shape, a.kind, bound)

    def meet(self, a: Var, b: Var) -> str:
        """Dtype of an operation on two float tensors."""
        if a.kind == b.kind:
            return a.kind
        if a.shape and not b.shape:
            return a.kind
        if b.shape and not a.shape:
            return b.kind
        return "float64"

    def pair(self) -> tuple[Var, Var, tuple[int, ...]] | None:
        a = self.float_var()
        b = self.choose(lambda v: v.is_float and broadcast(a.shape, v.shape) is not None)
        if b is None:
            return None
        shape = broadcast(a.shape, b.shape)
        return None if shape is None or size_of(shape) > 2000 else (a, b, shape)

    def binary(self) -> tuple[str, Var] | None:
        got = self.pair()
        if got is None:
            return None
        a, b, shape = got
        x, y = a.name, b.name
        total = a.bound + b.bound
        text, bound = self.rng.choice(
            (
                (f"{x} + {y}", total),
                (f"{x} + {y}", total),
                (f"{x} - {y}", total),
                (f"{x} * {y}", a.bound * b.bound),
                (f"{x} * {y}", a.bound * b.bound),
                (f"{x} / ({y} * {y} + 1)", a.bound),
                (f"torch.maximum({x}, {y})" if a.kind == b.kind else f"{x} + {y}", total),
                (f"torch.minimum({x}, {y})" if a.kind == b.kind else f"{x} - {y}", total),
                (f"torch.where({x} > 0.123, {x}, {y})", total),
                (f"torch.add({x}, {y}, alpha=2)", a.bound + 2 * b.bound),
                (f"blend({x}, {y})", 2 * total),
                (f"{x}.tanh() * {y}.cos()", 1.0),
            )
        )
        return text, self.result(shape, self.meet(a, b), bound)

    def with_number(self) -> tuple[str, Var] | None:
        a = self.float_var()
        x, c = a.name, self.number()
        text, bound = self.rng.choice(
            (
                (f"{x} * {c}", 2 * a.bound),
                (f"{x} + {c}", a.bound + 2),
                (f"{c} - {x}", a.bound + 2),
                (f"{c} * {x}", 2 * a.bound),
                (f"{x} / 2", a.bound),
                (f"{x} ** 2", a.bound**2),
                (f"{x} ** 3", a.bound**3),
                (f"{c} / (1.5 + {x}.cos())", 4.0),
                (f"({x}.abs() + 0.5) ** {c}", (a.bound + 2) ** 2),
                (f"{x} - {c}", a.bound + 2),
            )
        )
        return text, self.result(a.shape, a.kind, bound)

    def axis(self, a: Var) -> tuple[int, tuple[int, ...]] | None:
        """A random axis that is not empty, and the shape without it."""
        axes = [d for d, n in enumerate(a.shape) if n]
        if not axes:
            return None
        d = self.rng.choice(axes)
        return d - (len(a.shape) if self.rng.random() < 0.3 else 0), a.shape[:d] + a.shape[d + 1 :]

    def reduction(self) -> tuple[str, Var] | None:
        rng = self.rng
        a = self.float_var()
        x = a.name
        size = size_of(a.shape)
        if not size or rng.random() < 0.35:
            name = rng.choice(("sum", "mean")) if size else "sum"
            bound = a.bound * size if name == "sum" else a.bound
            return f"{x}.{name}()", self.result((), a.kind, bound)
        got = self.axis(a)
        if got is None:
            return None
        d, rest = got
        n = a.shape[d]
        kept = list(a.shape)
        kept[d] = 1
        text, shape, bound = rng.choice(
            (
                (f"{x}.sum({d})", rest, n * a.bound),
                (f"{x}.sum(dim={d}, keepdim=True)", tuple(kept), n * a.bound),
                (f"{x}.mean({d})", rest, a.bound),
                (f"{x}.mean(dim={d}, keepdim=True)", tuple(kept), a.bound),
                (f"{x}.amax({d})", rest, a.bound),
                (f"{x}.max({d})[0]", rest, a.bound),
                (f"{x}.min(dim={d}).values", rest, a.bound),
                (f"{x}.var({d}, unbiased=False)", rest, 4 * a.bound**2),
                (f"{x}.logsumexp({d})", rest, a.bound + 8),
                (f"{x}.tanh().prod({d})", rest, 1.0),
                (f"{x}.max()", (), a.bound),
            )
        )
        return text, self.result(shape, a.kind, bound)

    def product(self) -> tuple[str, Var] | None:
        a = self.choose(lambda v: v.is_float and 1 <= len(v.shape) <= 3)
        if a is None:
            return None
        n = a.shape[-1]
        b = self.choose(
            lambda v: v.kind == a.kind and 1 <= len(v.shape) <= 2 and n in (v.shape[-1], v.shape[0])
        )
        if b is None:
            return None
        inner = b.shape[0] if len(b.shape) == 1 else b.shape[-2]
        text, shape = f"{a.name} @ {b.name}", b.shape
        if inner != n:
            text, shape = f"{a.name} @ {b.name}.T", tuple(reversed(b.shape))
        out = a.shape[:-1] + shape[1:]
        return text, self.result(out, a.kind, a.bound * b.bound * max(n, 1))

    def movement(self) -> tuple[str, Var] | None:
        rng = self.rng
        a = self.choose()
        assert a is not None
        x, shape = a.name, a.shape
        options: list[tuple[str, tuple[int, ...]]] = [
            (f"{x}.reshape(-1)", (size_of(shape),)) if size_of(shape) else (f"{x}.flatten()", (0,)),
            (f"{x}.unsqueeze(0)", (1, *shape)),
            (f"{x}.unsqueeze(-1).expand{(*shape, 2)}", (*shape, 2)),
        ]
        if len(shape) >= 1:
            d = rng.randrange(len(shape))
            options.append((f"{x}.flip({d})", shape))
            options.append((f"{x}.roll(1, {d})", shape))
            options.append((f"{x}.repeat{(2,) * len(shape)}", tuple(2 * s for s in shape)))
        if len(shape) == 2:
            options += [(f"{x}.T", shape[::-1]), (f"{x}.t().contiguous()", shape[::-1])]
            options += [(f"{x}.tril()", shape), (f"{x}.triu(1)", shape)]
        if len(shape) == 3:
            options.append((f"{x}.permute(2, 0, 1)", (shape[2], shape[0], shape[1])))
            options.append((f"{x}.flatten(1)", (shape[0], shape[1] * shape[2])))
        text, out = rng.choice(options)
        if len(out) > 4 or size_of(out) > 2000:
            return None
        return text, self.result(out, a.kind, a.bound)

    def joining(self) -> tuple[str, Var] | None:
        a = self.choose(lambda v: len(v.shape) >= 1)
        if a is None:
            return None
        b = self.choose(lambda v: v.shape == a.shape and v.kind == a.kind)
        assert b is not None
        bound = max(a.bound, b.bound)
        d = self.rng.randrange(len(a.shape))
        if self.rng.random() < 0.5 and len(a.shape) < 4:
            return f"torch.stack([{a.name}, {b.name}])", self.result((2, *a.shape), a.kind, bound)
        out = list(a.shape)
        out[d] *= 2
        if size_of(tuple(out)) > 2000:
            return None
        return f"torch.cat([{a.name}, {b.name}], dim={d})", self.result(tuple(out), a.kind, bound)

    def picking(self) -> tuple[str, Var] | None:
        """Gathers, scatters and masks."""
        rng = self.rng
        a = self.choose(lambda v: v.is_float and len(v.shape) >= 1 and v.shape[0] > 0)
        if a is None:
            return None
        x, n, rest = a.name, a.shape[0], a.shape[1:]
        k = self.key()
        last = a.shape[-1]
        options = [
            (f"{x}[places({k}, (4,), {n})]", (4, *rest), a.bound),
            (f"{x}.index_select(0, places({k}, (3,), {n}))", (3, *rest), a.bound),
            (f"{x}.masked_fill({x} > 0.123, 0.5)", a.shape, a.bound + 1),
            (f"torch.zeros_like({x}).index_add(0, order({k}, {n}), {x})", a.shape, a.bound),
            (f"{x}[[0, -1]]", (2, *rest), a.bound),
        ]
        if last:
            options.append((f"{x}.sort(dim=-1)[0]", a.shape, a.bound))
            options.append((f"{x}.topk(1, dim=-1)[0]", (*a.shape[:-1], 1), a.bound))
            shape = (*a.shape[:-1], 2)
            options.append((f"{x}.gather(-1, places({k}, {shape}, {last}))", shape, a.bound))
            if last > 1:
                add = f"{x}.scatter_add(-1, places({k}, {a.shape}, {last}), {x}.tanh())"
                options.append((add, a.shape, a.bound + last))
        if len(a.shape) == 1:
            options.append((f"{x}[{x} > 5.5].sum()", (), a.bound * n))
        text, shape, bound = rng.choice(options)
        return text, self.result(shape, a.kind, bound)

    def scanning(self) -> tuple[str, Var] | None:
        a = self.choose(lambda v: v.is_float and len(v.shape) >= 1 and all(v.shape))
        if a is None:
            return None
        d = self.rng.randrange(len(a.shape))
        if self.rng.random() < 0.7:
            return f"{a.name}.cumsum({d})", self.result(a.shape, a.kind, a.bound * a.shape[d])
        return f"{a.name}.tanh().cumprod({d})", self.result(a.shape, a.kind, 1.0)

    def choosing(self) -> tuple[str, Var] | None:
        """Masks and selections by them."""
        rng = self.rng
        a = self.float_var()
        if rng.random() < 0.4:
            op = rng.choice((">", "<", ">=", "<="))
            return f"{a.name} {op} 0.123", self.result(a.shape, "bool", 1.0)
        mask = self.choose(lambda v: v.kind == "bool" and broadcast(v.shape, a.shape) is not None)
        if mask is None:
            return None
        shape = broadcast(mask.shape, a.shape)
        if shape is None or size_of(shape) > 2000:
            return None
        text = rng.choice(
            (
                f"torch.where({mask.name}, {a.name}, {self.number()})",
                f"{a.name} * {mask.name}",
                f"torch.where(~{mask.name}, {a.name}.sin(), {a.name})",
            )
        )
        return text, self.result(shape, a.kind, 2 * a.bound)

    def integers(self) -> tuple[str, Var] | None:
        a = self.choose(lambda v: v.kind in ("int64", "bool"))
        if a is None:
            return None
        x, rng = a.name, self.rng
        if a.kind == "bool":
            text, kind, shape = rng.choice(
                (
                    (f"{x}.sum()", "int64", ()),
                    (f"~{x}", "bool", a.shape),
                    (f"{x}.any()", "bool", ()),
                    (f"{x}.float()", "float32", a.shape),
                    (f"{x}.long() + 1", "int64", a.shape),
                )
            )
            return text, self.result(shape, kind, 300.0 if shape == () else 2.0)
        text, kind, shape, bound = rng.choice(
            (
                (f"{x} + 3", "int64", a.shape, a.bound + 3),
                (f"{x} * {x}", "int64", a.shape, a.bound**2),
                (f"{x} // 2", "int64", a.shape, a.bound),
                (f"{x} % 3", "int64", a.shape, 3.0),
                (f"{x}.sum()", "int64", (), a.bound * size_of(a.shape)),
                (f"{x} > 1", "bool", a.shape, 1.0),
                (f"{x}.to(torch.{self.main})", self.main, a.shape, a.bound),
                (f"{x} * 0.5", "float32", a.shape, a.bound),
                (f"({x} == 2) | ({x} < 0)", "bool", a.shape, 1.0),
            )
        )
        return text, self.result(shape, kind, bound)

    def composite(self) -> tuple[str, Var] | None:
        rng = self.rng
        a = self.choose(lambda v: v.is_float and len(v.shape) >= 1 and v.shape[-1] > 0)
        if a is None:
            return None
        x, F = a.name, "torch.nn.functional"
        text, shape, bound = rng.choice(
            (
                (f"{F}.softmax({x}, dim=-1)", a.shape, 1.0),
                (f"{F}.log_softmax({x}, dim=-1)", a.shape, 2 * a.bound + 8),
                (f"{F}.gelu({x})", a.shape, a.bound),
                (f"{F}.softplus({x})", a.shape, a.bound + 1),
                (f"{F}.layer_norm({x}, ({a.shape[-1]},), eps=0.1)", a.shape, 8.0),
                (f"{F}.mse_loss({x}.tanh(), {x} * 0.5)", (), a.bound**2 + 4),
                (f"energy({x})", (), a.bound * size_of(a.shape) + 1),
                (f"Bend.apply({x}, {x}.tanh())", a.shape, 1.0),
                (f"Bend.apply({x}.cos(), {x})", a.shape, a.bound),
            )
        )
        if shape == () and not size_of(a.shape):
            return None
        return text, self.result(shape, a.kind, bound)

    def matching(self, target: Var) -> tuple[str, Var]:
        """An expression of the target's shape and dtype."""
        for _ in range(12):
            got = self.expression()
            if got is not None and got[1].shape == target.shape and got[1].kind == target.kind:
                return got
        if not target.is_float:
            return f"{target.name}.clone()", target
        text = self.rng.choice(("{}.tanh()", "{} * 0.5", "{}.sin() + {}.cos()"))
        return text.replace("{}", target.name), replace(target, bound=max(2.0, target.bound))
