"""Statements of random programs: bindings, views, writes, reads, derivatives, loops, branches,
memory shared with NumPy.

`Statements` has one method per kind; each emits the lines of one statement and keeps the
description of the names up to date. Names that begin with w are leaves, x data, t results, v views,
a NumPy arrays.
"""

from __future__ import annotations

from dataclasses import replace

from adjoint.testing.program_expressions import Expressions, Var, broadcast, size_of

INDENT = "    "


class Statements(Expressions):
    """The lines written so far and what they do.

    arrays: NumPy arrays that share memory with a tensor.  backwards: how many derivatives were
    taken. outside: memory was written from outside, or something else on which PyTorch need not
    agree.  long: see `make_program`.
    """

    def __init__(self, seed: int, long: float) -> None:
        super().__init__(seed)
        self.long = long
        self.arrays: dict[str, Var] = {}
        self.lines: list[str] = []
        self.deep = 0
        self.backwards = 0
        self.outside = False

    def emit(self, line: str) -> None:
        self.lines.append(INDENT * self.deep + line)

    def new_leaf(self) -> None:
        shape = self.rng.choice(self.shapes())
        name = self.fresh("w")
        self.emit(f'{name} = data({self.key()}, {shape}, "{self.main}").requires_grad_()')
        self.vars[name] = Var(name, shape, self.main, 2.0, leaf=True)

    def new_data(self) -> None:
        rng = self.rng
        shape = rng.choice(self.shapes())
        kind = rng.choice(
            (self.main, self.main, self.main, self.main, "float64", "float32", "int64", "bool")
        )
        name = self.fresh("x")
        if kind == self.main and rng.random() < 0.2:
            maker = rng.choice(("zeros", "ones"))
            self.emit(f"{name} = torch.{maker}({shape}, dtype=torch.{kind})")
        else:
            self.emit(f'{name} = data({self.key()}, {shape}, "{kind}")')
        self.vars[name] = Var(name, shape, kind, 4.0 if kind == "int64" else 2.0)

    def bind_expression(self) -> None:
        for _ in range(5):
            got = self.expression()
            if got is not None:
                text, v = got
                old = self.choose(
                    lambda o: (
                        not o.leaf and not self.is_shared(o) and (not o.is_float or self.spare())
                    )
                )
                if old is not None and self.rng.random() < 0.15:
                    name = old.name
                else:
                    name = self.fresh()
                self.emit(f"{name} = {text}")
                # detach() keeps the memory: a leaf may be changed through it, under no_grad only
                self.vars[name] = replace(
                    v, name=name, writable=".expand" not in text, leaf=".detach()" in text
                )
                return

    def spare(self) -> bool:
        return sum(v.is_float for v in self.vars.values()) > 2

    def is_shared(self, v: Var) -> bool:
        return any(s.name == v.name for s in self.arrays.values())

    def view_of(self, a: Var) -> tuple[str, tuple[int, ...], bool]:
        """(text, shape, writable) of a random view."""
        rng, x, shape = self.rng, a.name, a.shape
        options: list[tuple[str, tuple[int, ...], bool]] = [
            (f"{x}.unsqueeze(0)", (1, *shape), True)
        ]
        if size_of(shape) == 1:
            options.append(
                (f"{x}.reshape(())" if shape else f"{x}.view(1)", () if shape else (1,), True)
            )
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
                options += [
                    (f"{x}[..., 1:]", (*shape[:-1], shape[-1] - 1), True),
                    (f"{x}[..., 0]", shape[:-1], True),
                ]
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
        a = self.choose(lambda v: v.writable and (v.is_float or v.kind in ("bool", "int64")))
        if a is None:
            return
        x = a.name
        if a.kind == "bool":
            lines = [f"{x} |= {x}.flip(0)" if a.shape else f"{x}.logical_not_()"]
        elif a.kind == "int64":
            lines = [
                rng.choice(
                    (f"{x} += 1", f"{x} *= 2", f"{x}.zero_()", f"{x} -= {x} // 2", f"{x} %= 5")
                )
            ]
        else:
            b = self.choose(lambda v: v.is_float and broadcast(v.shape, a.shape) == a.shape)
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
            self.vars[name] = replace(
                v, bound=2 * v.bound + 4 if self.loop is None else 2 * v.bound + 20
            )

    def write_part(self) -> None:
        rng = self.rng
        a = self.choose(
            lambda v: v.is_float and v.writable and len(v.shape) >= 1 and v.shape[0] > 0
        )
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
        b = self.choose(lambda v: v.is_float and broadcast(v.shape, shape) == shape)
        if b is not None:
            options += [
                f"{text} = {b.name}.tanh()",
                f"{text} += {b.name}.sin()",
                f"{text} -= {b.name}.detach() * 0.1",
            ]
        self.guarded(a, [rng.choice(options)])
        self.grow(a)

    def read(self) -> None:
        rng = self.rng
        a = self.choose()
        assert a is not None
        x = a.name
        size = size_of(a.shape)
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
                options += [
                    f"see({x}.sum().item())",
                    f"see(float({x}.mean()))",
                    f"see(bool({x}.max() > 0.123))",
                ]
                options += [f"see(({x} > 0.123).sum().item())", f"see(({x} < 90).all())"]
                if a.shape:
                    options += [f"see({x}.argmax(-1))" if a.shape[-1] else f"see({x})"]
            elif a.kind == "int64":
                options += [f"see(int({x}.sum()))", f"see({x}.max().item())"]
            else:
                options += [
                    f"see(bool({x}.any()))",
                    f"see({x}.nonzero())" if a.shape else f"see({x}.item())",
                ]
        self.emit(rng.choice(options))

    def loss_of(self, a: Var) -> str:
        text = self.rng.choice(
            ("{}.sum()", "({} * {}).sum()", "{}.tanh().sum()", "({} * 0.5).mean()", "energy({})")
        )
        if not size_of(a.shape) and "mean" in text:
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
            self.emit(
                f"        {a.name}.backward(torch.ones_like({a.name}) * {self.number()}, {retain})"
            )
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
        flags = (
            "allow_unused=True, create_graph=True"
            if create
            else "allow_unused=True, retain_graph=True"
        )
        self.emit(
            f"        ({g},) = torch.autograd.grad({self.loss_of(a)}, [{leaf.name}], {flags})"
        )
        self.emit(f"        see({g} if {g} is None else {g}.detach())")
        if create:
            self.emit(f"        if {g} is not None and {g}.requires_grad:")
            self.emit(f"            ({g} * {g}).sum().backward()")
        self.emit("    except RuntimeError:")
        self.emit('        see("refused")')

    def functional(self) -> None:
        a = self.choose(lambda v: v.is_float and size_of(v.shape) > 0)
        if a is None:
            return
        b = self.choose(lambda v: v.kind == a.kind and broadcast(v.shape, a.shape) is not None)
        assert b is not None
        self.backwards += 1
        x, y = f"{a.name}.detach()", f"{b.name}.detach()"
        product = f"(u.tanh() * {y}).sum()"
        inner = self.rng.choice((product, "energy(u)", f"(u * u).sum() * {self.number()}"))
        text = self.rng.choice(
            (
                f"torch.func.grad(lambda u: {inner})({x})",
                f"torch.func.grad(lambda u: torch.func.grad(lambda u: {inner})(u)"
                f".sin().sum())({x})",
                f"torch.func.jvp(lambda u: {product}, ({x},), ({x}.cos(),))[1]",
                f"torch.func.vjp(lambda u: {inner}, {x})[1]"
                f"(torch.ones((), dtype=torch.{a.kind}))[0]",
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
        return self.rng.choice(
            (f"{w}.grad = None", f"{w}.grad = None if {w}.grad is None else {w}.grad.zero_()")
        )

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
                    text = (
                        f"({text}).tanh()"
                        if a.is_float
                        else f"({text}) % 5"
                        if a.kind == "int64"
                        else text
                    )
                self.emit(f"{a.name} = {text}")
                self.vars[a.name] = replace(
                    a, bound=max(a.bound, v.bound, 2.0), leaf=".detach()" in text
                )
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
        if size_of(a.shape):
            test = rng.choice(
                (f"{x}.sum().item() > 0.123", f"bool({x}.max() > 0.7)", f"{x}.mean() < 0.31")
            )
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
        b = self.choose(lambda v: v.is_float and broadcast(v.shape, leaf.shape) is not None)
        assert b is not None
        self.backwards += 1
        i = self.fresh("i")
        loss = self.fresh("loss")
        self.emit(f"for {i} in range({rng.choice((2, 3, 4))}):")
        text = rng.choice(
            ("(({w} * {b}).tanh() - 0.5)", "({w} - {b})", "({w}.sigmoid() + {b}.detach().sin())")
        )
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
        b = self.choose(lambda v: v.is_float and broadcast(v.shape, leaf.shape) is not None)
        assert b is not None
        self.backwards += 1
        maker = rng.choice(
            (
                "SGD([{}], lr=0.1)",
                "SGD([{}], lr=0.05, momentum=0.9)",
                "Adam([{}], lr=0.05, eps=0.1)",
            )
        )
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
        self.outside = True  # PyTorch crashes on hooks of views that were written to
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
        action = self.rng.choice(
            (
                "{}.grad *= 0.5",
                "{}.grad.clamp_(-0.75, 1.25)",
                "{}.grad = {}.grad.clone()",
                "see({}.grad)",
            )
        )
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
        a = self.choose(
            lambda v: v.is_float and v.name.startswith("x") and not v.leaf and not self.is_shared(v)
        )
        if a is None:
            return
        if any(not v.name.startswith("w") for v in self.vars.values() if v != a):
            self.outside = True  # of views made before, PyTorch's answer depends on what is asked
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
        self.emit(
            self.rng.choice(
                (
                    f"{name} *= 0.5",
                    f"{name}[...] = 0.25",
                    f"np.tanh({name}, out={name})",
                    f"see({name})",
                )
            )
        )

    def mistake(self) -> None:
        """A call that must be refused and leave everything as it was."""
        rng = self.rng
        a = self.float_var()
        x = a.name
        call, error = rng.choice(
            (
                (f"{x}.reshape(-1) @ torch.ones({size_of(a.shape) + 1})", "RuntimeError"),
                (f"{x}.sum({len(a.shape) + 2})", "IndexError"),
                (f"{x}.reshape({size_of(a.shape) + 1})", "RuntimeError"),
                (f"torch.cat([{x}.reshape(-1), torch.ones(2, 2)])", "RuntimeError"),
                (f"{x}.detach().sum().backward()", "RuntimeError"),
                (f"torch.arange(3)[places({self.key()}, (2,), 2) + 3].tolist()", "IndexError"),
                (f"{x}.reshape(-1)[{size_of(a.shape)}]", "IndexError"),
            )
        )
        self.emit("try:")
        self.emit(f"    {call}")
        self.emit("    see('accepted')")
        self.emit(f"except {error}:")
        self.emit("    see('refused')")
