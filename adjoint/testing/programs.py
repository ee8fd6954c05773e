"""Random imperative programs, as Python source: what a user might write, in an order nobody would
think of.

`make_program(seed)` is the function to read first: it draws statements over a handful of small
tensors and returns a `Program`. Most programs are short and of few kinds of statements, so that
these meet each other in every way; one in five is long and takes from all. The kinds are methods of
`Statements` (operations, views, in-place writes, loops, branches on values, backward passes, reads,
memory shared with NumPy, dropped references), `Training` (modules, optimizers), `Control`
(closures, exceptions, threads, copies, odd dtypes and shapes) and `Derivatives` (second order,
custom functions, hooks). `PRELUDE` holds what the text calls; whoever runs a program gives it
`torch`, `np`, `seen` (a list that receives everything observed), `SEED` (of the data, so that one
text runs on other numbers) and `NUDGE` (a disturbance of the data in units of the last place, to
tell ill-conditioned programs from wrong ones).

The statements are chosen so that values stay moderate: a `Var` carries a bound on its elements, and
what grows is passed through tanh. Structure owned here: `Program` (blocks of lines).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from adjoint.testing.program_control import Control
from adjoint.testing.program_derivatives import Derivatives
from adjoint.testing.program_prelude import PRELUDE
from adjoint.testing.program_statements import Statements
from adjoint.testing.program_training import Training


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
KEPT = {True: 0.75, False: 0.3}  # of the kinds of statements, in a short program: of those in focus, and of others


class _Maker(Training, Control, Derivatives):
    """One program in the making: the statements to draw from, and how often."""

    def __init__(self, seed: int, long: float) -> None:
        super().__init__(seed, long)
        self.program = Program(seed)

    def make(self) -> Program:
        rng = self.rng
        self.n, self.m, self.k = rng.choice(SIZES)
        self.main = rng.choice(("float32", "float32", "float32", "float64"))
        short = rng.random() < 0.8
        for _ in range(1 if short else rng.randint(1, 2)):
            self.block(self.new_leaf)
        for _ in range(1 if short else rng.randint(1, 3)):
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
            (self.make_module, 1),
            (self.call_module, 3),
            (self.tend_module, 1.5),
            (self.make_optimizer, 0.5),
            (self.train_network, 1.5),
            (self.tend_optimizer, 2),
            (self.closure, 1),
            (self.generator, 1),
            (self.interrupted, 1),
            (self.recursion, 0.5),
            (self.threads, 0.4),
            (self.copying, 1),
            (self.pieces, 1),
            (self.layout, 0.7),
            (self.odd_data, 0.7),
            (self.mixed, 1.5),
            (self.narrow_kinds, 0.7),
            (self.empty, 1),
            (self.second, 0.7),
            (self.penalty, 0.7),
            (self.custom, 1),
            (self.hook, 0.7),
            (self.flip, 1),
        ]
        if short:  # few kinds of statements, so that those meet each other
            focus = vars(rng.choice((Training, Control, Derivatives, Statements)))
            menu = [row for row in menu if rng.random() < KEPT[row[0].__name__ in focus]] or menu
        makers, weights = zip(*menu, strict=True)
        for _ in range(rng.randint(2, 6) if short else rng.randint(5, 16)):
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
