"""Random imperative programs, as Python source: what a user might write, in an order nobody would think of.

`make_program(seed)` is the function to read first: it draws 8 to 25 statements over a handful of small tensors
(operations, views, in-place writes, loops, branches on values, backward passes, reads, memory shared with NumPy, dropped
references) and returns a `Program`. `PRELUDE` holds the functions the text calls; whoever runs a program gives it
`torch`, `np`, `seen` (a list that receives everything observed), `SEED` (of the data, so that one text runs on other
numbers) and `NUDGE` (a disturbance of the data in units of the last place, to tell ill-conditioned programs from wrong
ones).

The statements are chosen so that values stay moderate: a `Var` carries a bound on its elements, and what grows is
passed through tanh. Structure owned here: `Program` (blocks of lines; a block is what a minimiser may drop at once).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

PRELUDE = '''
def data(key, shape, kind):
    """A tensor of random numbers from the stream `key`; kind is a NumPy dtype name."""
    rng = np.random.default_rng([SEED, key])
    if kind == "bool":
        return torch.tensor(np.asarray(rng.integers(0, 2, shape) > 0))
    if kind == "int64":
        return torch.tensor(np.asarray(rng.integers(-4, 5, shape)))
    values = rng.uniform(-2, 2, shape) * (1 + NUDGE * np.finfo(kind).eps * rng.uniform(-1, 1, shape))
    return torch.tensor(np.asarray(values).astype(kind))


def places(key, shape, n):
    """An integer tensor of places in an axis of length n."""
    return torch.tensor(np.asarray(np.random.default_rng([SEED, key]).integers(0, n, shape)))


def order(key, n):
    """The numbers below n in random order."""
    return torch.tensor(np.random.default_rng([SEED, key]).permutation(n))


def num(key):
    """A Python number that is another one for other data."""
    return round(float(np.random.default_rng([SEED, key]).uniform(0.25, 1.5)), 3)


def see(x):
    """Observe a value: tensors as (dtype, shape, requires_grad, elements)."""
    if isinstance(x, torch.Tensor):
        kind = str(x.dtype).split(".")[-1]
        array = np.array(x.tolist(), dtype=kind).reshape(tuple(x.shape))
        seen.append((kind, tuple(x.shape), bool(x.requires_grad), array))
    elif isinstance(x, np.ndarray):
        seen.append((str(x.dtype), x.shape, False, x.copy()))
    else:
        seen.append(x)


def blend(a, b):
    c = (a - b).tanh()
    return a * c + b * (1 - c)


def energy(a):
    return (a.tanh() ** 2).sum() + 0.1 * a.sum()


class Bend(torch.autograd.Function):
    """sin(a) * b with a derivative of its own."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a.sin() * b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g * a.cos() * b, g * a.sin()
'''


@dataclass(frozen=True)
class Var:
    """What is known of a name. kind: NumPy dtype name.  bound: its elements stay below this in magnitude.

    leaf: (a view of) a tensor made with requires_grad, to be changed under no_grad only.  writable: not made by expand.
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


@dataclass
class Program:
    """blocks: top-level statements, each a list of source lines.  pure: PyTorch's results may be compared too
    (nothing was written from outside to memory that a derivative may need).  precise: no float32 anywhere."""

    seed: int
    blocks: list[list[str]] = field(default_factory=list)
    pure: bool = True
    precise: bool = True

    @property
    def source(self) -> str:
        return "\n".join(line for block in self.blocks for line in block) + "\n"

    def script(self, data_seed: int = 0) -> str:
        """A file that runs by itself and prints what was seen."""
        return (
            "import numpy as np\n\nimport adjoint as torch\n\n"
            f"seen, SEED, NUDGE = [], {data_seed}, 0.0\n{PRELUDE}\n\n{self.source}\nfor x in seen:\n    print(x)\n"
        )


def make_program(seed: int, long: float = 0.0) -> Program:
    """The random program of this number; the same number gives the same text.

    long: how often a loop has 300 rounds rather than a few, so that its trace is cut.
    """
    return _Maker(seed, long).make()


INDENT = "    "
LIMIT = 40.0  # elements that may exceed this are passed through tanh
SIZES = ((2, 3, 4), (3, 4, 2), (3, 4, 2), (1, 3, 2), (3, 1, 4), (5, 3, 2), (7, 17, 1), (0, 3, 2), (33, 5, 2))


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    out = []
    for k in range(1, max(len(a), len(b)) + 1):
        n, m = (a[-k] if k <= len(a) else 1), (b[-k] if k <= len(b) else 1)
        if n != m and n != 1 and m != 1:
            return None
        out.append(m if n == 1 else n)
    return tuple(reversed(out))


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


class _Maker:
    """One program in the making: names in scope, lines so far, and the table of statements to draw from."""

    def __init__(self, seed: int, long: float) -> None:
        self.long = long
        self.rng = random.Random(seed)
        self.program = Program(seed)
        self.vars: dict[str, Var] = {}
        self.arrays: dict[str, Var] = {}  # NumPy arrays that share memory with a tensor
        self.count = 0
        self.keys = 0
        self.lines: list[str] = []
        self.backwards = 0
        self.outside = False
        self.deep = 0
        self.loop: str | None = None
        self.kinds: set[str] = set()

    # --- the program as a whole

    def make(self) -> Program:
        rng = self.rng
        self.n, self.m, self.k = rng.choice(SIZES)
        self.main = rng.choice(("float32", "float32", "float32", "float64"))
        for _ in range(rng.randint(1, 2)):
            self.block(self.new_leaf)
        for _ in range(rng.randint(1, 3)):
            self.block(self.new_data)
        menu = [
            (self.bind_expression, 10),
            (self.bind_view, 4),
            (self.write, 6),
            (self.write_part, 4),
            (self.read, 3),
            (self.backward, 3),
            (self.gradient, 1),
            (self.functional, 1),
            (self.step, 2),
            (self.clear_grad, 1),
            (self.branch, 2),
            (self.repeat, 2),
            (self.train, 1),
            (self.optimize, 0.7),
            (self.drop, 1.5),
            (self.new_data, 1),
            (self.new_leaf, 0.6),
            (self.require, 0.6),
            (self.share, 0.7),
            (self.outside_write, 1),
            (self.watch, 0.7),
            (self.touch_grad, 0.7),
            (self.mistake, 0.5),
        ]
        makers, weights = zip(*menu, strict=True)
        for _ in range(rng.randint(5, 16)):
            self.block(rng.choices(makers, weights)[0])
        self.look_at_everything()
        self.program.pure = not self.outside
        self.program.precise = "float32" not in self.kinds
        return self.program

    def block(self, maker: Callable[[], None]) -> None:
        """Run a statement maker and keep what it wrote as one block; some statements take several lines."""
        self.lines = []
        maker()
        if self.lines:
            self.program.blocks.append(self.lines)
        self.lines = []

    def emit(self, line: str) -> None:
        self.lines.append(INDENT * self.deep + line)

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
        assert v is not None  # the first statements make a float leaf, and nothing drops the last float
        return v

    def look_at_everything(self) -> None:
        self.kinds.update(v.kind for v in self.vars.values())
        for v in self.rng.sample(list(self.vars.values()), len(self.vars)):
            self.program.blocks.append([f"see({v.name})"])
            if v.leaf or self.rng.random() < 0.2:
                self.program.blocks.append([f"see({v.name}.grad if {v.name}.is_leaf else None)"])

    # --- making tensors

    def shapes(self) -> list[tuple[int, ...]]:
        n, m, k = self.n, self.m, self.k
        return [(n, m), (n, m), (m,), (n,), (m, n), (m, m), (), (k, n, m), (n, 1), (1, m)]

    def new_leaf(self) -> None:
        shape = self.rng.choice(self.shapes())
        name = self.fresh("w")
        self.emit(f'{name} = data({self.key()}, {shape}, "{self.main}").requires_grad_()')
        self.vars[name] = Var(name, shape, self.main, 2.0, leaf=True)

    def new_data(self) -> None:
        rng = self.rng
        shape = rng.choice(self.shapes())
        kind = rng.choice((self.main, self.main, self.main, self.main, "float64", "float32", "int64", "bool"))
        name = self.fresh("x")
        if kind == self.main and rng.random() < 0.2:
            maker = rng.choice(("zeros", "ones"))
            self.emit(f"{name} = torch.{maker}({shape}, dtype=torch.{kind})")
        else:
            self.emit(f'{name} = data({self.key()}, {shape}, "{kind}")')
        self.vars[name] = Var(name, shape, kind, 4.0 if kind == "int64" else 2.0)

    def number(self) -> str:
        """A Python number of magnitude up to 2: written out, drawn from the data, or the loop's counter."""
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
        b = self.choose(lambda v: v.is_float and _broadcast(a.shape, v.shape) is not None)
        if b is None:
            return None
        shape = _broadcast(a.shape, b.shape)
        return None if shape is None or _size(shape) > 2000 else (a, b, shape)

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
        size = _size(a.shape)
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
            (f"{x}.reshape(-1)", (_size(shape),)) if _size(shape) else (f"{x}.flatten()", (0,)),
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
        if len(out) > 4 or _size(out) > 2000:
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
        if _size(tuple(out)) > 2000:
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
        mask = self.choose(lambda v: v.kind == "bool" and _broadcast(v.shape, a.shape) is not None)
        if mask is None:
            return None
        shape = _broadcast(mask.shape, a.shape)
        if shape is None or _size(shape) > 2000:
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
                ((f"{x}.sum()", "int64", ()), (f"~{x}", "bool", a.shape), (f"{x}.any()", "bool", ()),
                 (f"{x}.float()", "float32", a.shape), (f"{x}.long() + 1", "int64", a.shape))
            )  # fmt: skip
            return text, self.result(shape, kind, 300.0 if shape == () else 2.0)
        text, kind, shape, bound = rng.choice(
            (
                (f"{x} + 3", "int64", a.shape, a.bound + 3),
                (f"{x} * {x}", "int64", a.shape, a.bound**2),
                (f"{x} // 2", "int64", a.shape, a.bound),
                (f"{x} % 3", "int64", a.shape, 3.0),
                (f"{x}.sum()", "int64", (), a.bound * _size(a.shape)),
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
                (f"energy({x})", (), a.bound * _size(a.shape) + 1),
                (f"Bend.apply({x}, {x}.tanh())", a.shape, 1.0),
            )
        )
        if shape == () and not _size(a.shape):
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

    # --- statements

    def bind_expression(self) -> None:
        for _ in range(5):
            got = self.expression()
            if got is not None:
                text, v = got
                old = self.choose(lambda o: not o.leaf and not self.is_shared(o) and (not o.is_float or self.spare()))
                if old is not None and self.rng.random() < 0.15:
                    name = old.name
                else:
                    name = self.fresh()
                self.emit(f"{name} = {text}")
                # detach() keeps the memory, so a leaf's value could be changed through it: leave that to no_grad
                self.vars[name] = replace(v, name=name, writable=".expand" not in text, leaf=".detach()" in text)
                return

    def spare(self) -> bool:
        return sum(v.is_float for v in self.vars.values()) > 2

    def is_shared(self, v: Var) -> bool:
        return any(s.name == v.name for s in self.arrays.values())

    def view_of(self, a: Var) -> tuple[str, tuple[int, ...], bool]:
        """(text, shape, writable) of a random view."""
        rng, x, shape = self.rng, a.name, a.shape
        options: list[tuple[str, tuple[int, ...], bool]] = [(f"{x}.unsqueeze(0)", (1, *shape), True)]
        if _size(shape) == 1:
            options.append((f"{x}.reshape(())" if shape else f"{x}.view(1)", () if shape else (1,), True))
        if shape:
            n, rest = shape[0], shape[1:]
            if n >= 2:
                options += [(f"{x}[1:]", (n - 1, *rest), True), (f"{x}[:-1]", (n - 1, *rest), True)]
                options += [(f"{x}[::2]", (-(-n // 2), *rest), True), (f"{x}[{n - 1}]", rest, True)]
                if self.loop is not None:
                    options += [(f"{x}[{self.loop} % {n}]", rest, True)] * 3
            if n >= 1:
                options += [(f"{x}[0]", rest, True), (f"{x}.narrow(0, 0, 1)", (1, *rest), True)]
            if shape[-1] >= 2:
                options += [(f"{x}[..., 1:]", (*shape[:-1], shape[-1] - 1), True), (f"{x}[..., 0]", shape[:-1], True)]
        if len(shape) == 2:
            options += [(f"{x}.T", shape[::-1], True), (f"{x}.transpose(0, 1)", shape[::-1], True)]
            options += [(f"{x}[:, :1]", (shape[0], min(1, shape[1])), True)]
        if len(shape) == 3:
            options += [(f"{x}.permute(1, 2, 0)", (shape[1], shape[2], shape[0]), True)]
            options += [(f"{x}[:, 0]", (shape[0], shape[2]), True)] if shape[1] else []
        return rng.choice(options)

    def bind_view(self) -> None:
        a = self.choose(lambda v: len(v.shape) <= 3)
        if a is None:
            return
        text, shape, writable = self.view_of(a)
        name = self.fresh("v")
        self.emit(f"{name} = {text}")
        self.vars[name] = replace(a, name=name, shape=shape, writable=writable and a.writable)

    def guarded(self, v: Var, lines: list[str]) -> None:
        """In-place statements, under no_grad where the tensor is (a view of) a leaf."""
        if v.leaf:
            self.emit("with torch.no_grad():")
            for line in lines:
                self.emit(INDENT + line)
        else:
            for line in lines:
                self.emit(line)

    def write(self) -> None:
        """An in-place change of a whole tensor, possibly through a view."""
        rng = self.rng
        a = self.choose(lambda v: v.writable)
        if a is None:
            return
        x = a.name
        if a.kind == "bool":
            lines = [f"{x} |= {x}.flip(0)" if a.shape else f"{x}.logical_not_()"]
        elif a.kind == "int64":
            lines = [rng.choice((f"{x} += 1", f"{x} *= 2", f"{x}.zero_()", f"{x} -= {x} // 2", f"{x} %= 5"))]
        else:
            b = self.choose(lambda v: v.is_float and _broadcast(v.shape, a.shape) == a.shape)
            assert b is not None
            y, c = b.name, self.number()
            lines = [
                rng.choice(
                    (
                        f"{x} += {y}.tanh()",
                        f"{x} -= {y}.sin()",
                        f"{x} *= {y}.cos()",
                        f"{x} *= {rng.choice((c, '0.5'))}" if self.loop is None else f"{x} *= 0.5",
                        f"{x} += {c}",
                        f"{x} /= 2",
                        f"{x}.zero_()",
                        f"{x}.fill_({c})",
                        f"{x}.copy_({y}.tanh())",
                        f"{x}.tanh_()",
                        f"{x}.relu_()",
                        f"{x}.clamp_(-0.75, 1.25)",
                        f"{x}.add_({y}.tanh(), alpha={c})",
                        f"{x}.mul_({y}.sigmoid())",
                        f"{x}.sub_({c})",
                        f"{x}.masked_fill_({x} > 0.123, {c})",
                        f"{x}[...] = {y}.tanh()",
                    )
                )
            ]
        self.guarded(a, lines)
        self.grow(a)

    def grow(self, a: Var) -> None:
        """Everything that may share the memory of `a` is larger now."""
        for name, v in list(self.vars.items()):
            self.vars[name] = replace(v, bound=2 * v.bound + 4 if self.loop is None else 2 * v.bound + 20)

    def write_part(self) -> None:
        rng = self.rng
        a = self.choose(lambda v: v.is_float and v.writable and len(v.shape) >= 1 and v.shape[0] > 0)
        if a is None:
            return
        x, n, c, k = a.name, a.shape[0], self.number(), self.key()
        text, shape, _ = self.view_of(a)
        if "(" in text.replace("narrow(", "") or text.endswith(".T"):
            text, shape = f"{x}[0]", a.shape[1:]
        if "narrow" in text:
            text, shape = f"{x}[:1]", (1, *a.shape[1:])
        options = [
            f"{text} = {c}",
            f"{text} *= {rng.choice(('0.5', '-1', c))}" if self.loop is None else f"{text} *= 0.5",
            f"{text} += {text}.tanh()",
            f"{x}[{x} > 0.123] = {c}",
            f"{x}[{x} < 0] *= 0.5",
            f"{x}[places({k}, (2,), {n})] = {c}",
            f"{x}[order({k}, {n})] = {x}.tanh()",
            f"{x}[order({k}, {n})] += {c}",
            f"{x}.index_add_(0, order({k}, {n}), {x}.sin())",
            f"{x}.index_fill_(0, places({k}, (1,), {n}), 0.5)",
        ]
        b = self.choose(lambda v: v.is_float and _broadcast(v.shape, shape) == shape)
        if b is not None:
            options += [f"{text} = {b.name}.tanh()", f"{text} += {b.name}.sin()", f"{text} -= {b.name}.detach() * 0.1"]
        self.guarded(a, [rng.choice(options)])
        self.grow(a)

    def read(self) -> None:
        rng = self.rng
        a = self.choose()
        assert a is not None
        x = a.name
        size = _size(a.shape)
        options = [
            f"see({x})",
            f"see({x}.tolist() == {x}.tolist())",
            f"see(len(str({x})) > 0)",
            f"see({x}.detach().clone().numpy())",
            f"see(tuple({x}.shape))",
            f"see({x}.requires_grad)",
        ]
        if size:
            if a.is_float:
                options += [f"see({x}.sum().item())", f"see(float({x}.mean()))", f"see(bool({x}.max() > 0.123))"]
                options += [f"see(({x} > 0.123).sum().item())", f"see(({x} < 90).all())"]
                if a.shape:
                    options += [f"see({x}.argmax(-1))" if a.shape[-1] else f"see({x})"]
            elif a.kind == "int64":
                options += [f"see(int({x}.sum()))", f"see({x}.max().item())"]
            else:
                options += [f"see(bool({x}.any()))", f"see({x}.nonzero())" if a.shape else f"see({x}.item())"]
        self.emit(rng.choice(options))

    def loss_of(self, a: Var) -> str:
        text = self.rng.choice(("{}.sum()", "({} * {}).sum()", "{}.tanh().sum()", "({} * 0.5).mean()", "energy({})"))
        if not _size(a.shape) and "mean" in text:
            text = "{}.sum()"
        return text.replace("{}", a.name)

    def backward(self) -> None:
        rng = self.rng
        a = self.float_var()
        self.backwards += 1
        retain = rng.choice(("", "", "retain_graph=True"))
        self.emit(f"if {a.name}.requires_grad:")
        self.emit("    try:")
        if rng.random() < 0.2:
            loss = self.fresh("loss")
            self.emit(f"        {loss} = {self.loss_of(a)}")
            self.emit(f"        {loss}.backward(retain_graph=True)")
            self.emit(f"        {loss}.backward({retain})")
        elif rng.random() < 0.2:
            self.emit(f"        {a.name}.backward(torch.ones_like({a.name}) * {self.number()}, {retain})")
        else:
            self.emit(f"        {self.loss_of(a)}.backward({retain})")
        self.emit("    except RuntimeError:")
        self.emit('        see("refused")')
        if rng.random() < 0.3:
            leaf = self.choose(lambda v: v.leaf)
            if leaf is not None:
                self.emit(f"see({leaf.name}.grad if {leaf.name}.is_leaf else None)")

    def gradient(self) -> None:
        """`autograd.grad`, sometimes of a gradient."""
        a = self.float_var()
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is None:
            return
        self.backwards += 1
        g = self.fresh("g")
        create = self.rng.random() < 0.5
        self.emit(f"if {a.name}.requires_grad and {leaf.name}.requires_grad:")
        self.emit("    try:")
        flags = "allow_unused=True, create_graph=True" if create else "allow_unused=True, retain_graph=True"
        self.emit(f"        ({g},) = torch.autograd.grad({self.loss_of(a)}, [{leaf.name}], {flags})")
        self.emit(f"        see({g} if {g} is None else {g}.detach())")
        if create:
            self.emit(f"        if {g} is not None and {g}.requires_grad:")
            self.emit(f"            ({g} * {g}).sum().backward()")
        self.emit("    except RuntimeError:")
        self.emit('        see("refused")')

    def functional(self) -> None:
        a = self.choose(lambda v: v.is_float and _size(v.shape) > 0)
        if a is None:
            return
        b = self.choose(lambda v: v.kind == a.kind and _broadcast(v.shape, a.shape) is not None)
        assert b is not None
        self.backwards += 1
        x, y = f"{a.name}.detach()", f"{b.name}.detach()"
        product = f"(u.tanh() * {y}).sum()"
        inner = self.rng.choice((product, "energy(u)", f"(u * u).sum() * {self.number()}"))
        text = self.rng.choice(
            (
                f"torch.func.grad(lambda u: {inner})({x})",
                f"torch.func.grad(lambda u: torch.func.grad(lambda u: {inner})(u).sin().sum())({x})",
                f"torch.func.jvp(lambda u: {product}, ({x},), ({x}.cos(),))[1]",
                f"torch.func.vjp(lambda u: {inner}, {x})[1](torch.ones((), dtype=torch.{a.kind}))[0]",
            )
        )
        name = self.fresh("f")
        self.emit(f"{name} = {text}")
        self.emit(f"see({name})")

    def step(self) -> None:
        """Update a leaf by its gradient, as training does."""
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is None:
            return
        w = leaf.name
        update = self.rng.choice(
            (
                f"{w} -= 0.1 * {w}.grad.tanh()",
                f"{w}.sub_({w}.grad.tanh(), alpha={self.number()})",
                f"{w}.copy_({w} - {w}.grad.tanh() * {self.number()})",
                f"{w} *= 0.9",
            )
        )
        self.emit("with torch.no_grad():")
        self.emit(f"    if {w}.grad is not None:")
        self.emit(f"        {update}")
        if self.rng.random() < 0.7:
            self.emit(self.forget_grad(w))
        self.grow(leaf)

    def forget_grad(self, w: str) -> str:
        return self.rng.choice((f"{w}.grad = None", f"{w}.grad = None if {w}.grad is None else {w}.grad.zero_()"))

    def clear_grad(self) -> None:
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is not None:
            self.emit(self.forget_grad(leaf.name))

    def simple(self) -> None:
        """One line that leaves every name with the shape and dtype it had."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            self.write()
        elif kind < 0.55:
            self.write_part()
        elif kind < 0.9:
            a = self.choose(lambda v: not v.leaf and v.writable and not self.is_shared(v))
            if a is not None:
                text, v = self.matching(a)
                if self.loop is not None and v.bound > a.bound:
                    text = f"({text}).tanh()" if a.is_float else f"({text}) % 5" if a.kind == "int64" else text
                self.emit(f"{a.name} = {text}")
                self.vars[a.name] = replace(a, bound=max(a.bound, v.bound, 2.0), leaf=".detach()" in text)
        else:
            self.read()

    def body(self, statements: int) -> None:
        self.deep += 1
        before = len(self.lines)
        for _ in range(statements):
            self.simple()
        if len(self.lines) == before:
            self.emit("pass")
        self.deep -= 1

    def branch(self) -> None:
        if self.deep:
            return
        rng = self.rng
        a = self.float_var()
        x = a.name
        if _size(a.shape):
            test = rng.choice((f"{x}.sum().item() > 0.123", f"bool({x}.max() > 0.7)", f"{x}.mean() < 0.31"))
        else:
            test = f"{x}.sum() > 0.123"
        self.emit(f"if {test}:")
        self.body(rng.randint(1, 2))
        if rng.random() < 0.6:
            self.emit("else:")
            self.body(rng.randint(1, 2))
        elif rng.random() < 0.5:
            self.emit("    see('taken')")

    def repeat(self) -> None:
        if self.deep:
            return
        counter = self.fresh("i")
        rounds = 300 if self.rng.random() < self.long else self.rng.choice((2, 3, 3, 5))
        self.emit(f"for {counter} in range({rounds}):")
        self.loop = counter
        self.body(self.rng.randint(1, 3))
        self.loop = None

    def train(self) -> None:
        """A small training loop."""
        rng = self.rng
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is None:
            return
        w = leaf.name
        b = self.choose(lambda v: v.is_float and _broadcast(v.shape, leaf.shape) is not None)
        assert b is not None
        self.backwards += 1
        i = self.fresh("i")
        loss = self.fresh("loss")
        self.emit(f"for {i} in range({rng.choice((2, 3, 4))}):")
        text = rng.choice(("(({w} * {b}).tanh() - 0.5)", "({w} - {b})", "({w}.sigmoid() + {b}.detach().sin())"))
        text = text.replace("{w}", w).replace("{b}", b.name)
        self.emit("    try:")
        self.emit(f"        {loss} = ({text} ** 2).sum()")
        self.emit(f"        {loss}.backward()")
        self.emit("    except RuntimeError:")
        self.emit('        see("refused")')
        self.emit("    with torch.no_grad():")
        self.emit(f"        if {w}.grad is not None:")
        rate = rng.choice(("0.1", f"0.1 / ({i} + 1)", f"num({self.key()})"))
        self.emit(f"            {w} -= {rate} * {w}.grad.tanh()")
        self.emit(f"    {self.forget_grad(w)}")
        if rng.random() < 0.4:
            self.emit(f"    see({w})")
        self.grow(leaf)

    def optimize(self) -> None:
        """A training loop with an optimizer."""
        rng = self.rng
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is None:
            return
        w, o, i = leaf.name, self.fresh("o"), self.fresh("i")
        b = self.choose(lambda v: v.is_float and _broadcast(v.shape, leaf.shape) is not None)
        assert b is not None
        self.backwards += 1
        maker = rng.choice(("SGD([{}], lr=0.1)", "SGD([{}], lr=0.05, momentum=0.9)", "Adam([{}], lr=0.05, eps=0.1)"))
        self.emit(f"{o} = torch.optim.{maker.format(w)}")
        self.emit(f"for {i} in range({rng.choice((2, 3))}):")
        self.emit(f"    {o}.zero_grad({rng.choice(('', 'set_to_none=False'))})")
        self.emit(f"    (({w} * {b.name}.detach()).tanh() - 0.5).pow(2).sum().backward()")
        self.emit(f"    {o}.step()")
        if rng.random() < 0.3:
            self.emit(f"    see({w})")
        self.grow(leaf)

    def watch(self) -> None:
        """Hooks, and the gradient of a result."""
        a = self.choose(lambda v: v.is_float and not v.name.startswith("w"))
        if a is None:
            return
        self.emit(f"if {a.name}.requires_grad:")
        if self.rng.random() < 0.5:
            self.emit(f"    {a.name}.retain_grad()")
            self.emit(f"    ({a.name} * {self.number()}).sum().backward(retain_graph=True)")
            self.emit(f"    see({a.name}.grad)")
            self.backwards += 1
        else:
            self.emit(f"    {a.name}.register_hook(lambda g: g * 0.5)")

    def touch_grad(self) -> None:
        """Work on a gradient that is kept."""
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if leaf is None:
            return
        w = leaf.name
        self.emit(f"if {w}.grad is not None and not {w}.grad.requires_grad:")
        action = self.rng.choice(("{}.grad *= 0.5", "{}.grad.clamp_(-0.75, 1.25)", "{}.grad = {}.grad.clone()", "see({}.grad)"))
        self.emit(f"    {action.replace('{}', w)}")
        if self.rng.random() < 0.3:
            self.emit(f"kept{w} = {w}.grad")

    def drop(self) -> None:
        """Forget a name, or keep one more reference to its tensor."""
        rng = self.rng
        a = self.choose(lambda v: not v.leaf and (not v.is_float or self.spare()))
        if a is None:
            return
        if rng.random() < 0.4:
            keep = self.fresh("keep")
            self.emit(f"{keep} = [{a.name}, {a.name}]")
        self.emit(f"del {a.name}")
        del self.vars[a.name]
        for name, v in list(self.arrays.items()):
            if v.name == a.name:
                del self.arrays[name]

    def require(self) -> None:
        """Ask for gradients of a tensor that is already in use."""
        a = self.choose(lambda v: v.is_float and v.name.startswith("x") and not v.leaf and not self.is_shared(v))
        if a is None:
            return
        if any(not v.name.startswith("w") for v in self.vars.values() if v != a):
            self.outside = True  # views made before that: PyTorch's own answer depends on which was asked first
        self.emit(f"if not {a.name}.requires_grad:")
        self.emit(f"    {a.name}.requires_grad_()")
        self.vars[a.name] = replace(a, leaf=True)

    def share(self) -> None:
        """Hand memory to NumPy, or take NumPy's."""
        rng = self.rng
        name = self.fresh("a")
        if rng.random() < 0.5:
            a = self.choose(lambda v: v.is_float and not v.leaf and v.writable)
            if a is None:
                return
            self.emit(f"{name} = {a.name}.detach().numpy()")
            self.arrays[name] = a
            return
        shape = rng.choice([s for s in self.shapes() if s])
        t = self.fresh("x")
        self.emit(f'{name} = data({self.key()}, {shape}, "{self.main}").numpy().copy()')
        self.emit(f"{t} = torch.from_numpy({name})")
        self.vars[t] = Var(t, shape, self.main, 4.0)
        self.arrays[name] = self.vars[t]

    def outside_write(self) -> None:
        if not self.arrays:
            return
        name = self.rng.choice(list(self.arrays))
        self.outside = True
        self.emit(self.rng.choice((f"{name} *= 0.5", f"{name}[...] = 0.25", f"np.tanh({name}, out={name})", f"see({name})")))

    def mistake(self) -> None:
        """A call that must be refused and leave everything as it was."""
        rng = self.rng
        a = self.float_var()
        x = a.name
        call, error = rng.choice(
            (
                (f"{x}.reshape(-1) @ torch.ones({_size(a.shape) + 1})", "RuntimeError"),
                (f"{x}.sum({len(a.shape) + 2})", "IndexError"),
                (f"{x}.reshape({_size(a.shape) + 1})", "RuntimeError"),
                (f"torch.cat([{x}.reshape(-1), torch.ones(2, 2)])", "RuntimeError"),
                (f"{x}.detach().sum().backward()", "RuntimeError"),
                (f"torch.arange(3)[places({self.key()}, (2,), 2) + 3].tolist()", "IndexError"),
                (f"{x}.reshape(-1)[{_size(a.shape)}]", "IndexError"),
            )
        )
        self.emit("try:")
        self.emit(f"    {call}")
        self.emit("    see('accepted')")
        self.emit(f"except {error}:")
        self.emit("    see('refused')")
