"""Statements of random programs about training: modules, hooks on them, optimizers, schedules.

`Training` keeps the modules (what they take) and optimizers (which leaves they own) in scope. Modules get their
parameters from the program's data (`fill` of the prelude), so that every library starts from the same numbers, and
optimizers have an eps that keeps their steps well-conditioned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from adjoint.testing.program_expressions import Var, size_of
from adjoint.testing.program_statements import Statements


@dataclass(frozen=True)
class Network:
    """A module in scope. takes: its last axes, where that is fixed, else its number of axes.  gives: their length
    afterwards; None keeps the shape."""

    name: str
    takes: int
    gives: int | None
    rank: int | None = None


OPTIMIZERS = (
    "SGD({}, lr=0.1)",
    "SGD({}, lr=0.05, momentum=0.9)",
    "SGD({}, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "SGD({}, lr=0.05, momentum=0.8, dampening=0.5, maximize=True)",
    "Adam({}, lr=0.05, eps=0.1)",
    "Adam({}, lr=0.05, eps=0.1, amsgrad=True, weight_decay=0.1)",
    "AdamW({}, lr=0.05, eps=0.1)",
    "RMSprop({}, lr=0.02, eps=0.1)",
    "RMSprop({}, lr=0.02, eps=0.1, momentum=0.5, centered=True)",
    "Adagrad({}, lr=0.1, eps=0.1)",
    "Adadelta({}, lr=0.5, eps=0.1)",
    "Adamax({}, lr=0.05, eps=0.1)",
    "NAdam({}, lr=0.05, eps=0.1)",
)
SCHEDULES = (
    "StepLR({}, step_size=2, gamma=0.5)",
    "ExponentialLR({}, gamma=0.8)",
    "CosineAnnealingLR({}, T_max=5)",
    "LambdaLR({}, lambda epoch: 1 / (1 + epoch))",
)


class Training(Statements):
    """modules: name -> what it takes and gives.  optimizers: names."""

    def __init__(self, seed: int, long: float) -> None:
        super().__init__(seed, long)
        self.modules: dict[str, Network] = {}
        self.optimizers: dict[str, str] = {}

    # --- modules

    def make_module(self) -> None:
        rng = self.rng
        a = self.choose(lambda v: v.kind == self.main and len(v.shape) >= 1 and v.shape[-1] > 0)
        if a is None:
            return
        n, out = a.shape[-1], rng.choice((1, 2, 3, self.m))
        act = rng.choice(("Tanh()", "ReLU()", "GELU()", "Sigmoid()", "SiLU()", "Softplus()", "LeakyReLU(0.1)"))
        bias = rng.choice(("", "", ", bias=False"))
        options: list[tuple[str, int, int | None, int | None]] = [
            (f"nn.Linear({n}, {out}{bias})", n, out, None),
            (f"nn.Linear({n}, {n}{bias})", n, n, None),
            (f"nn.Sequential(nn.Linear({n}, 4), nn.{act}, nn.Linear(4, {out}))", n, out, None),
            (f"nn.Sequential(nn.Linear({n}, {n}), nn.{act}, nn.Dropout(0.0))", n, n, None),
            (f"nn.LayerNorm({n}, eps=0.1)", n, None, None),
            (f"Tied({n})", n, None, None),
            (f"Counting({n})", n, None, None),
            (f"Residual({n}, nn.{act})", n, None, None),
            (f"nn.ModuleList([nn.Linear({n}, {n}), nn.{act}, nn.Linear({n}, {out})])", n, out, -1),
            (f"nn.PReLU({rng.choice((1, 1))})", n, None, None),
        ]
        if len(a.shape) == 2:
            options += [(f"nn.BatchNorm1d({n}, eps=0.1)", n, None, 2), (f"nn.GroupNorm(1, {n}, eps=0.1)", n, None, 2)]
            options += [(f"Rows(nn.Conv1d({n}, {out}, 3, padding=1))", n, out, 2)]
            options += [(f"Rows(nn.Conv1d({n}, {n}, 2, stride=1, padding='same'))", n, None, 2)]
            options += [(f"nn.GRUCell({n}, {out})", n, out, 2), (f"Image(nn.Conv2d(1, 2, 2, padding=1{bias}))", n, n, 2)]
        text, takes, gives, rank = rng.choice(options)
        name = self.fresh("m")
        self.emit(f'{name} = fill({text}, {self.key()}, "{self.main}")')
        self.modules[name] = Network(name, takes, gives, rank)

    def fitting(self, m: Network) -> Var | None:
        """A tensor that the module takes; of matrices, one with two rows, for statistics over them."""

        def fits(v: Var) -> bool:
            shaped = m.rank in (None, -1) or (len(v.shape) == m.rank and v.shape[0] > 1)
            return v.kind == self.main and len(v.shape) >= 1 and v.shape[-1] == m.takes and shaped

        return self.choose(fits)

    def call_module(self) -> None:
        """A module on a tensor that fits."""
        if not self.modules:
            return self.make_module()
        m = self.rng.choice(list(self.modules.values()))
        a = self.fitting(m)
        if a is None:
            return None
        shape = a.shape if m.gives is None else (*a.shape[:-1], m.gives)
        name = self.fresh()
        text = f"{m.name}({a.name})" if m.rank != -1 else f"chain({m.name}, {a.name})"
        self.emit(f"{name} = {text}.tanh()")
        self.vars[name] = Var(name, shape, self.main, 1.0)
        return None

    def tend_module(self) -> None:
        """What is done with modules besides calling them."""
        if not self.modules:
            return self.make_module()
        rng = self.rng
        m = rng.choice(list(self.modules))
        other = self.fresh("m")
        options = [
            [f"{m}.eval()"],
            [f"{m}.train()"],
            [f"{m}.zero_grad()"],
            [f"{m}.zero_grad(set_to_none=False)"],
            [f"for p in {m}.parameters():", "    see(p.grad)"],
            [f"see([name for name, p in {m}.named_parameters()])"],
            [f"see(sum(p.numel() for p in {m}.parameters()))"],
            [f"for name, value in {m}.state_dict().items():", "    see((name, tuple(value.shape)))", "    see(value)"],
            [f"{m}.load_state_dict({{k: v.clone() * 0.5 for k, v in {m}.state_dict().items()}})"],
            [f"{other} = copy.deepcopy({m})", f"{other}.load_state_dict({m}.state_dict())"],
            [f"{m}.requires_grad_(False)"],
            [f"{m}.requires_grad_(True)"],
            [f"{m}.register_forward_hook(lambda module, given, out: out * 0.5)"],
            [f"{m}.register_forward_pre_hook(lambda module, given: (given[0] + 0.25,))"],
            [f"{m}.register_forward_hook(lambda module, given, out: see(tuple(out.shape)))"],
            ["with torch.no_grad():", f"    for p in {m}.parameters():", f"        p.mul_({self.number()})"],
            [f"nn.utils.clip_grad_norm_({m}.parameters(), 0.7)"],
            [f"see(nn.utils.parameters_to_vector({m}.parameters()))"],
        ]
        for line in rng.choice(options):
            self.emit(line)
        return None

    # --- optimizers

    def owned(self) -> str | None:
        """Text of a list of parameters."""
        rng = self.rng
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        if self.modules and (leaf is None or rng.random() < 0.6):
            m = rng.choice(list(self.modules))
            text = f"[p for p in {m}.parameters()]"
            return text if leaf is None or rng.random() < 0.6 else f"{text} + [{leaf.name}]"
        return None if leaf is None else f"[{leaf.name}]"

    def make_optimizer(self) -> None:
        rng = self.rng
        owned = self.owned()
        if owned is None:
            return
        name = self.fresh("o")
        if rng.random() < 0.2:
            owned = f'[{{"params": {owned}, "lr": 0.02}}]'
        self.emit(f"{name} = torch.optim.{rng.choice(OPTIMIZERS).format(owned)}")
        self.optimizers[name] = owned

    def losses(self) -> list[str]:
        """Expressions of a few live results, to be differentiated."""
        found = [v for v in self.vars.values() if v.is_float and size_of(v.shape)]
        picked = self.rng.sample(found, min(len(found), self.rng.randint(1, 2)))
        return [f"({v.name}.tanh() ** 2).sum()" for v in picked]

    def forward(self) -> str | None:
        """A loss through a module or a leaf, as text that can be evaluated again and again."""
        rng = self.rng
        for _ in range(4):
            if self.modules and rng.random() < 0.7:
                m = rng.choice(list(self.modules.values()))
                a = self.fitting(m)
                if a is not None and m.rank != -1:
                    return f"({m.name}({a.name}.detach()) - 0.3).pow(2).mean()" if size_of(a.shape) else None
            leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
            if leaf is not None:
                b = self.float_var()
                return f"({leaf.name} * {b.name}.detach().sum().tanh() - 0.5).tanh().pow(2).sum()"
        return None

    def train_network(self) -> None:
        """A training loop as people write it."""
        rng = self.rng
        loss = self.forward()
        if loss is None:
            return None
        if not self.optimizers or rng.random() < 0.3:
            self.make_optimizer()
        if not self.optimizers:
            return None
        self.backwards += 1
        o, i = rng.choice(list(self.optimizers)), self.fresh("i")
        schedule = self.fresh("s") if rng.random() < 0.25 else None
        if schedule is not None:
            self.emit(f"{schedule} = torch.optim.lr_scheduler.{rng.choice(SCHEDULES).format(o)}")
        if rng.random() < 0.2:
            return self.train_with_closure(o, i, loss)
        self.emit(f"for {i} in range({rng.choice((2, 3, 4))}):")
        if rng.random() < 0.9:
            self.emit(f"    {o}.zero_grad({rng.choice(('', '', 'set_to_none=False'))})")
        self.emit(f"    loss = {loss}")
        self.emit("    if loss.requires_grad:")
        self.emit("        loss.backward()")
        self.emit(f"    {o}.step()")
        extra = rng.random()
        if schedule is not None:
            self.emit(f"    {schedule}.step()")
        elif extra < 0.2:
            self.emit(f'    {o}.param_groups[0]["lr"] = 0.1 / ({i} + 2)')
        elif extra < 0.3:
            self.emit(f"    {o}.load_state_dict({o}.state_dict())")
        elif extra < 0.4:
            self.emit(f"    {o}.load_state_dict(copy.deepcopy({o}.state_dict()))")
        if rng.random() < 0.4:
            self.emit("    see(loss)")
        self.see_parameters(o)
        return None

    def train_with_closure(self, o: str, i: str, loss: str) -> None:
        if self.main == "float64" and self.rng.random() < 0.6:  # float32 is too coarse for its differences
            o = self.fresh("o")
            self.emit(f"{o} = torch.optim.LBFGS({self.owned()}, lr=0.1, max_iter=2)")
        self.emit(f"def closure{i}():")
        self.emit(f"    {o}.zero_grad()")
        self.emit(f"    loss = {loss}")
        self.emit("    if loss.requires_grad:")
        self.emit("        loss.backward()")
        self.emit("    return loss")
        self.emit(f"for {i} in range(2):")
        self.emit(f"    see({o}.step(closure{i}).detach())")
        self.see_parameters(o)

    def see_parameters(self, o: str) -> None:
        for name, v in list(self.vars.items()):
            self.vars[name] = replace(v, bound=2 * v.bound + 4)
        if self.rng.random() < 0.5:
            self.emit(f'for p in {o}.param_groups[0]["params"]:')
            self.emit("    see(p)")

    def tend_optimizer(self) -> None:
        if not self.optimizers:
            return self.make_optimizer()
        o = self.rng.choice(list(self.optimizers))
        leaf = self.choose(lambda v: v.leaf and v.name.startswith("w"))
        options = [
            f"{o}.step()",
            f"{o}.zero_grad()",
            f"{o}.zero_grad(set_to_none=False)",
            f'{o}.param_groups[0]["lr"] *= 0.5',
            f"{o} = copy.deepcopy({o})",
            f"{o}.load_state_dict({o}.state_dict())",
            f'see(len({o}.state_dict()["state"]))',
        ]
        if leaf is not None:
            w = leaf.name
            options.append(f'attempt(lambda: {o}.add_param_group({{"params": [{w}], "lr": 0.01}}))')
        self.emit(self.rng.choice(options))
        return None
