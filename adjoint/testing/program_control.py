"""Statements of random programs about Python itself: closures, generators, recursion, exceptions in the middle,
threads, copies and pickles, lists of views; and tensors of odd kinds: mixed dtypes, no elements, no axes.

`Control` holds one method per kind. What both libraries refuse goes through `attempt` of the prelude, which records
the type of the exception and goes on.
"""

from __future__ import annotations

from dataclasses import replace

from adjoint.testing.program_expressions import Var, broadcast, size_of
from adjoint.testing.program_statements import Statements


class Control(Statements):
    """functions: names of closures that take and return a tensor of one axis or more."""

    def __init__(self, seed: int, long: float) -> None:
        super().__init__(seed, long)
        self.functions: list[str] = []
        self.generators: dict[str, Var] = {}

    def bound_name(self, v: Var, text: str, prefix: str = "t") -> None:
        name = self.fresh(prefix)
        self.emit(f"{name} = {text}")
        self.vars[name] = replace(v, name=name, leaf=False, writable=True)

    # --- functions

    def closure(self) -> None:
        """A function that reads names of the program when it is called, not when it is made."""
        if self.functions and self.rng.random() < 0.6:
            a = self.float_var()
            f = self.rng.choice(self.functions)
            self.bound_name(replace(a, bound=1.0), f"{f}({a.name})")
            return
        b = self.choose(lambda v: v.is_float and size_of(v.shape) > 0)
        if b is None:
            return
        name, key, c = self.fresh("f"), self.key(), self.number()
        self.emit(f"def {name}(u, c={c}, held=[{b.name}]):")
        body = self.rng.choice(
            (
                "    return (u * c + held[0].detach().sum().tanh()).tanh()",
                "    held[0] = held[0] * 0.5\n    return (u + held[0].sum().tanh().to(u.dtype)).tanh()",
                f"    return descend(u, {self.rng.randint(1, 4)}) * num({key}).__float__()",
                "    with torch.no_grad():\n        s = u.abs().sum().tanh()\n    return (u * s).sin()",
                "    held.append(u)\n    return (sum(h.sum() for h in held).to(u.dtype) + u).tanh()",
            )
        )
        for line in body.split("\n"):
            self.emit(line)
        self.functions.append(name)

    def generator(self) -> None:
        """Values made one by one, with other statements between them."""
        rng = self.rng
        if self.generators and rng.random() < 0.7:
            name = rng.choice(list(self.generators))
            self.bound_name(replace(self.generators[name], bound=1.0), f"next({name})")
            return
        a = self.float_var()
        name = self.fresh("gen")
        self.emit(f"{name} = {rng.choice(('unfolding', 'growing'))}({a.name})")
        self.generators[name] = a

    def interrupted(self) -> None:
        """User code raises between operations; what was done before stays done."""
        rng = self.rng
        a = self.choose(lambda v: v.is_float and v.writable)
        if a is None:
            return
        x, c = a.name, self.number()
        self.emit("try:")
        opened = rng.choice(("torch.no_grad()", "torch.no_grad()", "torch.enable_grad()", "Within()"))
        if a.leaf:
            opened = "torch.no_grad()"
        self.emit(f"    with {opened}:")
        self.emit(f"        {x}{rng.choice((' *= 0.5', f' += {c}', '.tanh_()', '.clamp_(-0.75, 1.25)'))}")
        action = rng.choice(
            (
                'raise ValueError("mine")',
                f"{x}.reshape({size_of(a.shape) + 1})",
                f"u = {x}.sum({len(a.shape) + 3})",
                f"see(torch.arange(3)[places({self.key()}, (2,), 2) + 7].sum())",
                f"{x}.add_(torch.ones({size_of(a.shape) + 2}, 3))",
                f"{x}.item() if {x}.numel() != 1 else [][1]",
                "[].pop()",
                "next(iter([]))",
            )
        )
        self.emit(f"        {action}")
        self.emit("except Exception as error:")
        self.emit("    see(type(error).__name__)")
        self.emit("see(torch.is_grad_enabled())")
        self.grow(a)

    def recursion(self) -> None:
        a = self.float_var()
        self.bound_name(replace(a, bound=1.0), f"descend({a.name}, {self.rng.randint(1, 5)})")

    def threads(self) -> None:
        """Two threads that work on tensors of their own, and what they made, used here."""
        rng = self.rng
        a, b = self.float_var(), self.float_var()
        work = rng.choice(
            (
                "(u.tanh() * 0.5).sum() + u.mean() if u.numel() else u.sum()",
                "slope(u)",
                "(u.detach().clone().add_(1) * 2).tanh().sum()",
                "descend(u, 3).sum()",
            )
        )
        name = self.fresh("t")
        pending = rng.choice((f"({a.name} * 0.5)", a.name, f"{a.name}.detach()"))
        self.emit(f"{name} = in_threads(lambda u: {work}, [{pending}, {b.name}.cos()])")
        kind = self.meet(replace(a, shape=()), replace(b, shape=()))
        self.emit(f"{name} = ({name}[0] + {name}[1]).tanh()")
        self.kinds.add(kind)
        self.vars[name] = Var(name, (), kind, 1.0)

    # --- objects

    def copying(self) -> None:
        rng = self.rng
        a = self.choose(lambda v: not v.leaf)
        if a is None:
            return
        x = a.name
        text = rng.choice(
            (
                f"copy.deepcopy({x}.detach())",
                f"pickle.loads(pickle.dumps({x}.detach()))",
                f"pickle.loads(pickle.dumps({x}.detach() * 1))",
                f"copy.deepcopy([{x}.detach(), {x}.detach()])[1]",
                f"{x}.clone()",
                f"{x}.data",
                f"torch.tensor({x}.tolist(), dtype={x}.dtype).reshape({a.shape})",
                f"torch.from_numpy({x}.detach().numpy().copy())",
                f"torch.zeros_like({x}).copy_({x})",
                f"{x}.new_zeros({a.shape}) + {x}",
                f"torch.as_tensor({x}.detach().numpy())",
                f"{x}.contiguous()",
                f"{x}.type_as({x})",
            )
        )
        shared = ".data" in text or "numpy())" in text or "contiguous" in text or "type_as" in text
        if shared and ".numpy())" in text:
            self.outside = True
        self.bound_name(a, text)
        if shared:
            name = next(reversed(self.vars))
            self.vars[name] = replace(self.vars[name], writable=False)

    def pieces(self) -> None:
        """Several views at once."""
        a = self.choose(lambda v: len(v.shape) >= 1 and v.shape[0] >= 2)
        if a is None:
            return
        rng, x, n, rest = self.rng, a.name, a.shape[0], a.shape[1:]
        name = self.fresh("v")
        kind = rng.randrange(5)
        if kind == 0:
            self.emit(f"{name}, *others{name} = {x}.unbind(0)")
            shape: tuple[int, ...] = rest
        elif kind == 1:
            self.emit(f"{name} = {x}.chunk(2)[0]")
            shape = (-(-n // 2), *rest)
        elif kind == 2:
            self.emit(f"others{name} = {x}.split(1)")
            self.emit(f"{name} = others{name}[-1]")
            shape = (1, *rest)
        elif kind == 3:
            self.emit(f"{name} = {x}.unfold(0, 2, 1).clone()")
            shape = (n - 1, *rest, 2)
        else:
            self.emit(f"{name} = torch.stack([row for row in {x}]).flip(0)")
            shape = a.shape
        writable = a.writable and kind == 4
        self.vars[name] = replace(a, name=name, shape=shape, writable=writable, leaf=a.leaf and kind != 4)
        if a.writable and not a.leaf and a.is_float and kind in (0, 1, 2) and rng.random() < 0.5:
            self.emit(f"if not {x}.requires_grad:")
            self.emit(f"    {name} += {self.number()}")
            self.grow(a)

    def layout(self) -> None:
        """Strides as they can be seen, of views of a tensor that lies in order."""
        a = self.choose(lambda v: len(v.shape) <= 3)
        if a is None:
            return
        text, _, _ = self.view_of(replace(a, name="u"))
        if self.loop is not None and self.loop in text:
            return
        self.emit(f"u = {a.name}.clone() if {a.name}.is_contiguous() else {a.name}.flatten().clone().reshape({a.shape})")
        self.emit(f"u = {text}")
        self.emit("look(u)")
        if self.rng.random() < 0.5:
            self.emit("see(u.reshape(-1))")
            self.emit("attempt(lambda: see(u.view(-1)))")

    # --- odd kinds

    def odd_data(self) -> None:
        rng = self.rng
        shape = rng.choice([*self.shapes(), (), (1,)])
        kind = rng.choice(("int32", "uint8", "int16", "int8", "bool", "int64", "float64", "float32"))
        name = self.fresh("x")
        self.emit(f'{name} = data({self.key()}, {shape}, "{kind}")')
        self.vars[name] = Var(name, shape, kind, 8.0)

    def mixed(self) -> None:
        """Operations between dtypes: the result's dtype is part of what is compared."""
        rng = self.rng
        a = self.choose()
        b = self.choose(lambda v: a is not None and broadcast(v.shape, a.shape) is not None)
        if a is None or b is None or size_of(broadcast(a.shape, b.shape) or ()) > 2000:
            return
        x, y = a.name, b.name
        casts = ("float()", "double()", "to(torch.float32)", f"to(torch.{self.main})")
        exact = not (a.is_float or b.is_float)
        options = [f"{x} + {y}", f"{x} * {y}", f"torch.where({y} > 0, {x}, {y})", f"{x}.{rng.choice(casts)}"]
        options += [f"({x} < {y})", f"({x} == {y}) | ({x} > 1)", f"{x} * 2.5", f"{x} + True", f"{x} * 3"]
        options += [f"torch.maximum({x}, {y})", f"torch.stack([{x}.sum(), {x}.sum() * 2])", f"{x} ** 2", f"{x} / 2"]
        if exact:
            options += [f"{x} // 2", f"{x} % 3", f"{x} & {y}", f"{x} ^ {y}", f"~{x}", f"{x} << 1", f"{x}.sum()"]
            options += [f"{x}.to(torch.{rng.choice(('int64', 'int32', 'uint8', 'int16', 'bool', 'int8'))})"]
            options += [f"{x} - {y}", f"-{x}", f"{x}.prod()", f"{x}.cumsum(0)" if a.shape else f"{x}.abs()"]
        name = self.fresh("q")
        self.emit(f"{name} = attempt(lambda: {rng.choice(options)})")
        self.emit(f"see({name})")
        if rng.random() < 0.4 and a.writable and not a.leaf:
            op = rng.choice(("+=", "*=", "-=", "&=" if exact else "+="))
            grown = broadcast(b.shape, a.shape) == a.shape
            self.emit(f"if not {x}.requires_grad:" if grown else f"if not {y}.requires_grad and not {x}.requires_grad:")
            self.emit(f"    {name} = attempt(lambda: {x}.{'add_' if op == '+=' else 'mul_' if op == '*=' else 'sub_' if op == '-=' else 'bitwise_and_'}({y}.clone()) * 1)")
            self.emit(f"    see({x})")
            self.grow(a)
            self.vars[x] = replace(self.vars[x], bound=self.vars[x].bound * (b.bound + 1))

    def narrow_kinds(self) -> None:
        """Halves and complex numbers of whole numbers, whose arithmetic is exact; views of them, and writes through those."""
        rng = self.rng
        shape = rng.choice([s for s in self.shapes() if s] or [(3,)])
        kind = rng.choice(("float16", "bfloat16", "complex64", "complex128"))
        h, v = self.fresh("h"), self.fresh("v")
        self.emit(f'{h} = data({self.key()}, {shape}, "int64").to(torch.{kind}) * {rng.choice(("1", "0.5", "2"))}')
        parts: tuple[str, ...] = (f"{h}[..., :1]", f"{h}.T" if len(shape) == 2 else f"{h}[1:]", f"{h}.reshape(-1)", f"{h}[0]")
        made = [f"{h} + {h}", f"{h} * 3 - 1", f"{h} / 4", f"{h}.sum(0)", f"torch.cat([{h}, {h}])", f"({h} == 1)", f"{h} + 2.5"]
        if kind[0] == "c":
            parts += (f"{h}.real", f"{h}.imag", f"torch.view_as_real({h})")
            made += [f"{h}.conj() * {h}", f"{h} * 1j", f"{h}.real * {h}.imag", f"attempt(lambda: {h} < 1)"]
        else:
            made += [f"torch.maximum({h}, {h} * 2)", f"{h}.float() / 3", f"{h}.amax(0)", f"{h}.relu()", f"{h}.argmax()"]
        self.emit(f"{v} = attempt(lambda: {rng.choice(parts)})")
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.5:
                self.emit(f"see(attempt(lambda: {rng.choice(made)}))")
            else:
                target = rng.choice((h, v))
                change = rng.choice(("mul_(2)", "add_(1)", "zero_()", "add_(0.25)", f"sub_({target})", "neg_()"))
                self.emit(f"attempt(lambda: {target}.{change})")
        if rng.random() < 0.4:
            leaf = self.fresh("h")
            self.emit(f"{leaf} = {h}.clone().requires_grad_()")
            self.emit(f"({leaf} * {leaf} * 2).{'abs().' if kind[0] == 'c' and rng.random() < 0.2 else 'real.' if kind[0] == 'c' else ''}sum().backward()")
            self.emit(f"see({leaf}.grad)")
        self.emit(f"see({h})")
        self.emit(f"see({v})")

    def empty(self) -> None:
        """Tensors without elements, and the ends of axes."""
        a = self.choose(lambda v: v.is_float and len(v.shape) >= 1)
        if a is None:
            return
        x, rest = a.name, a.shape[1:]
        text, shape = self.rng.choice(
            (
                (f"{x}[:0]", (0, *rest)),
                (f"{x}[:0].sum(0)", rest),
                (f"torch.cat([{x}[:0], {x}])", a.shape),
                (f"{x}[:0] * 2", (0, *rest)),
                (f"{x}[1:1].tanh()", (0, *rest)),
                (f"{x}[:0].prod(0)", rest),
                (f"({x}[:0].reshape(0, {size_of(rest)}).T @ {x}[:0].reshape(0, {size_of(rest)})).sum()", ()),
                (f"{x}[:0].flatten().sum()", ()),
                (f"{x}.sum() * torch.zeros(0, 2, dtype={x}.dtype)", (0, 2)),
                (f"{x}[:0].sum() + {x}.sum()", ()),
                (f"{x}[places({self.key()}, (0,), 1)]", (0, *rest)),
            )
        )
        self.bound_name(Var("", shape, a.kind, a.bound * max(1, size_of(a.shape))), f"({text}).tanh()")
        if self.rng.random() < 0.4:
            self.emit(f"attempt(lambda: {x}[:0].{self.rng.choice(('max()', 'argmax()', 'amax(0)', 'mean()', 'std()', 'min(0)'))})")
