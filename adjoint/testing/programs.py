"""Random imperative programs, as Python source: what a user might write, in an order nobody would
think of.

`make_program(seed)` is the function to read first: it draws 8 to 25 statements over a handful of
small tensors (operations, views, in-place writes, loops, branches on values, backward passes,
reads, memory shared with NumPy, dropped references) and returns a `Program`. `PRELUDE` holds the
functions the text calls; whoever runs a program gives it `torch`, `np`, `seen` (a list that
receives everything observed), `SEED` (of the data, so that one text runs on other numbers) and
`NUDGE` (a disturbance of the data in units of the last place, to tell ill-conditioned programs from
wrong ones).

The statements are chosen so that values stay moderate: a `Var` carries a bound on its elements, and
what grows is passed through tanh (`program_expressions`, `program_statements`). Structure owned
here: `Program` (blocks of lines; a block is what a minimiser may drop at once).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from adjoint.testing.program_statements import Statements

PRELUDE = '''
def data(key, shape, kind):
    """A tensor of random numbers from the stream `key`; kind is a NumPy dtype name."""
    rng = np.random.default_rng([SEED, key])
    if kind == "bool":
        return torch.tensor(np.asarray(rng.integers(0, 2, shape) > 0))
    if kind == "int64":
        return torch.tensor(np.asarray(rng.integers(-4, 5, shape)))
    values = rng.uniform(-2, 2, shape)
    values = values * (1 + NUDGE * np.finfo(kind).eps * rng.uniform(-1, 1, shape))
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


@dataclass
class Program:
    """blocks: top-level statements, each a list of source lines.  pure: PyTorch's results may be
    compared too (nothing was written from outside to memory that a derivative may need).  precise:
    no float32 anywhere."""

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
            f"seen, SEED, NUDGE = [], {data_seed}, 0.0\n{PRELUDE}\n\n"
            f"{self.source}\nfor x in seen:\n    print(x)\n"
        )


def make_program(seed: int, long: float = 0.0) -> Program:
    """The random program of this number; the same number gives the same text.

    long: how often a loop has 300 rounds rather than a few, so that its trace is cut.
    """
    return _Maker(seed, long).make()


SIZES = (
    (2, 3, 4),
    (3, 4, 2),
    (3, 4, 2),
    (1, 3, 2),
    (3, 1, 4),
    (5, 3, 2),
    (7, 17, 1),
    (0, 3, 2),
    (33, 5, 2),
)


class _Maker(Statements):
    """One program in the making: the statements to draw from, and how often."""

    def __init__(self, seed: int, long: float) -> None:
        super().__init__(seed, long)
        self.program = Program(seed)

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
        """Run a statement maker and keep what it wrote as one block; some statements take several
        lines."""
        self.lines = []
        maker()
        if self.lines:
            self.program.blocks.append(self.lines)
        self.lines = []

    def look_at_everything(self) -> None:
        self.kinds.update(v.kind for v in self.vars.values())
        for v in self.rng.sample(list(self.vars.values()), len(self.vars)):
            self.program.blocks.append([f"see({v.name})"])
            if v.leaf or self.rng.random() < 0.2:
                self.program.blocks.append([f"see({v.name}.grad if {v.name}.is_leaf else None)"])
