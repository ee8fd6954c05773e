"""Statements of random programs about derivatives: second order, custom functions, hooks, and switching gradients on
and off for tensors that are in use.
"""

from __future__ import annotations

from dataclasses import replace

from adjoint.testing.program_expressions import Var, size_of
from adjoint.testing.program_statements import Statements

CUSTOM = (
    ("Bend.apply({x}, {x}.tanh())", 1.0),
    ("Cube.apply({x}.tanh(), {c})", 2.0),
    ("Straight.apply({x})", 50.0),
    ("Pair.apply({x}, {x}.cos())[0].tanh()", 1.0),
    ("sum(Pair.apply({x}.sin(), {x}.cos())[:2])", 4.0),
    ("Quiet.apply({x}.tanh())", 1.0),
    ("Nested.apply({x}.tanh())", 1.0),
)


class Derivatives(Statements):
    def smooth(self) -> Var | None:
        return self.choose(lambda v: v.is_float and 0 < size_of(v.shape) <= 24)

    def second(self) -> None:
        """Hessians and their products, in all the ways there are to ask for them."""
        a = self.smooth()
        if a is None:
            return
        rng, x, c = self.rng, f"{a.name}.detach()", self.number()
        f = rng.choice(
            (
                "lambda u: (u.tanh() ** 2).sum()",
                f"lambda u: (u * u * {c}).sin().sum()",
                "lambda u: energy(u)",
                "lambda u: (u.exp().clamp(max=9) / (1 + u * u)).sum()",
                "lambda u: torch.logsumexp(u.flatten(), 0)",
                "lambda u: torch.nn.functional.softmax(u.flatten(), 0).prod() * 10",
                f"lambda u: Cube.apply(u, {c}).sum()",
                "lambda u: (u.flatten()[0] * u.sum()).sin()",
            )
        )
        text = rng.choice(
            (
                f"torch.func.hessian({f})({x})",
                f"torch.func.jacrev(torch.func.grad({f}))({x})",
                f"torch.func.jacfwd(torch.func.grad({f}))({x})",
                f"torch.func.grad(lambda u: (torch.func.grad({f})(u) ** 2).sum())({x})",
                f"torch.func.jvp(torch.func.grad({f}), ({x},), ({x}.cos(),))[1]",
                f"torch.autograd.functional.hvp({f}, {x}, {x}.cos())[1]",
                f"torch.autograd.functional.hessian({f}, {x})",
                f"slope_of_slope({f}, {x})",
            )
        )
        if "Cube" in f and ("jvp" in text or "func" in text):
            text = f"slope_of_slope({f}, {x})"
        if not a.shape and any(name in text for name in ("jacfwd", "func.hessian", "func.jvp")):
            text += f".to({a.name}.dtype)"  # forward mode of PyTorch raises float32 without axes to float64
        self.backwards += 1
        name = self.fresh("h")
        self.emit(f"{name} = {text}")
        self.emit(f"see({name})")

    def penalty(self) -> None:
        """A loss that contains its own gradient."""
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w") and size_of(v.shape) > 0)
        if leaf is None:
            return
        a = self.float_var()
        w, g = leaf.name, self.fresh("g")
        self.backwards += 1
        self.emit(f"if {w}.requires_grad:")
        self.emit(f"    loss = (({w} * {a.name}.detach().sum().tanh()).sin() + {w}.tanh() ** 2).sum()")
        self.emit(f"    ({g},) = torch.autograd.grad(loss, [{w}], create_graph=True)")
        ending = self.rng.choice(
            (
                f"(loss + 0.1 * ({g} ** 2).sum()).backward()",
                f"({g}.tanh().sum() * 0.5).backward()",
                f"torch.autograd.grad({g}.sum(), [{w}])[0].sum().item()",
                f"see(torch.autograd.grad({g}, [{w}], grad_outputs=torch.ones_like({g}))[0])",
                f"torch.autograd.backward([{g}.sin().sum(), loss])",
            )
        )
        self.emit(f"    {ending}")
        self.emit(f"    see({w}.grad)")

    def custom(self) -> None:
        """A result of a function with a derivative of its own."""
        a = self.float_var()
        text, bound = self.rng.choice(CUSTOM)
        name = self.fresh()
        if self.rng.random() < 0.2:
            self.define_function()
            text, bound = "Local.apply({x})", 1.0
        self.emit(f"{name} = {text.format(x=a.name, c=self.number())}")
        self.vars[name] = Var(name, a.shape, a.kind, min(bound, max(bound, a.bound)))

    def define_function(self) -> None:
        factor = self.number()
        for line in (
            "class Local(torch.autograd.Function):",
            "    @staticmethod",
            "    def forward(ctx, a):",
            f"        ctx.factor = {factor}",
            "        out = (a * ctx.factor).sin()",
            "        ctx.save_for_backward(a, out)",
            "        return out",
            "    @staticmethod",
            "    def backward(ctx, g):",
            "        a, out = ctx.saved_tensors",
            "        return g * ctx.factor * (a * ctx.factor).cos() + 0 * out",
        ):
            self.emit(line)

    def hook(self) -> None:
        """Hooks on leaves and results; some are removed again, some only look."""
        rng = self.rng
        a = self.float_var()
        x, h = a.name, self.fresh("h")
        if not a.name.startswith("w"):
            self.outside = True  # PyTorch crashes on hooks of views that were written to
        self.emit(f"if {x}.requires_grad:")
        function = rng.choice(
            ("lambda g: g * 0.5", "lambda g: None", "lambda g: g.clamp(-0.5, 0.5)", "lambda g: see(tuple(g.shape))", "lambda g: see(g.detach())")
        )
        self.emit(f"    {h} = {x}.register_hook({function})")
        if rng.random() < 0.4:
            self.emit(f"    ({x} * {self.number()}).sum().backward(retain_graph=True)")
            self.backwards += 1
        if rng.random() < 0.5:
            self.emit(f"    {h}.remove()")

    def flip(self) -> None:
        """Gradients switched on and off."""
        rng = self.rng
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        a = self.float_var()
        name = self.fresh()
        options = [
            [f"with torch.no_grad():\n    {name} = ({a.name} * 0.5).tanh()"],
            [f"with torch.no_grad():\n    with torch.enable_grad():\n        {name} = ({a.name} * 0.5).tanh()"],
            [f"with torch.set_grad_enabled({rng.choice(('True', 'False'))}):\n    {name} = {a.name}.tanh()"],
            [f"{name} = quietly({a.name})"],
            [f"{name} = {a.name}.tanh().detach().requires_grad_()"],
            [f"{name} = {a.name}.tanh().detach()", f"{name} *= 0.5"],
            [f"{name} = {a.name}.tanh().detach_()"],
        ]
        for text in rng.choice(options):
            for line in text.split("\n"):
                self.emit(line)
        self.vars[name] = replace(a, name=name, bound=1.0, leaf=True, writable=True)
        if leaf is not None and rng.random() < 0.3:
            self.emit(f"{leaf.name}.requires_grad_({rng.choice(('False', 'True'))})")
