"""What the text of random programs calls: data by number, observation, and the functions, modules and derivatives
that are worth having under a name.

`PRELUDE` is source, executed once for each run with `torch`, `np`, `seen`, `SEED` and `NUDGE` given (`programs.py`
says what they are), so that one text runs on any library with PyTorch's names.
"""

PRELUDE = '''
import copy, pickle, threading

nn = torch.nn

def data(key, shape, kind):
    """A tensor of random numbers from the stream `key`; kind is a NumPy dtype name."""
    rng = np.random.default_rng([SEED, key])
    if kind == "bool":
        return torch.tensor(np.asarray(rng.integers(0, 2, shape) > 0))
    if kind == "int64":
        return torch.tensor(np.asarray(rng.integers(-4, 5, shape)))
    if kind.startswith(("int", "uint")):
        return torch.tensor(np.asarray(rng.integers(0, 9, shape) - (0 if kind == "uint8" else 3)).astype(kind))
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
        array = np.array(x.tolist(), dtype="float32" if kind == "bfloat16" else kind).reshape(tuple(x.shape))
        seen.append((kind, tuple(x.shape), bool(x.requires_grad), array))
    elif isinstance(x, np.ndarray):
        seen.append((str(x.dtype), x.shape, False, x.copy()))
    elif isinstance(x, (list, tuple)) and any(isinstance(part, torch.Tensor) for part in x):
        for part in x:
            see(part)
    else:
        seen.append(x)


def attempt(f):
    """What f returns, or None after observing the type of what it raised."""
    try:
        return f()
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        see("caught " + type(error).__name__)


def look(x):
    """Observe what can be seen of a tensor's place in memory: strides where they matter."""
    strides = tuple(s for s, n in zip(x.stride(), x.shape) if n > 1 and x.numel())
    see((strides, x.is_contiguous(), x.is_leaf, x.requires_grad))


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


class Cube(torch.autograd.Function):
    """c * a ** 3, by its result and a number."""

    @staticmethod
    def forward(ctx, a, c):
        ctx.c = c
        ctx.save_for_backward(a)
        return c * a * a * a

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return 3 * ctx.c * g * a * a, None


class Straight(torch.autograd.Function):
    """Rounding that passes gradients on."""

    @staticmethod
    def forward(ctx, a):
        return a.round()

    @staticmethod
    def backward(ctx, g):
        return g


class Pair(torch.autograd.Function):
    """Two results, and one without a derivative."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        above = a > b
        ctx.mark_non_differentiable(above)
        return a * b, a + b, above

    @staticmethod
    def backward(ctx, g, h, nothing):
        a, b = ctx.saved_tensors
        return (g * b + h if ctx.needs_input_grad[0] else None), (g * a + h if ctx.needs_input_grad[1] else None)


class Quiet(torch.autograd.Function):
    """The identity, without a gradient."""

    @staticmethod
    def forward(ctx, a):
        return a * 1

    @staticmethod
    def backward(ctx, g):
        return None


class Nested(torch.autograd.Function):
    """sin(a * a), with a derivative that differentiates."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return (a * a).sin()

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        with torch.enable_grad():
            u = a.detach().requires_grad_()
            (d,) = torch.autograd.grad((u * u).sin().sum(), [u])
        return g * d


def slope(u):
    """The sum of a gradient, by a leaf of its own."""
    v = u.detach().clone().requires_grad_()
    (v.tanh() ** 2).sum().backward()
    return v.grad.sum()


def slope_of_slope(f, x):
    u = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(u), [u], create_graph=True)
    return torch.autograd.grad((g * g).sum(), [u])[0]


@torch.no_grad()
def quietly(u):
    return u.tanh() * 0.5


def descend(u, n):
    return u.tanh() if n == 0 else descend(u * 0.75 + 0.1, n - 1) * 0.9


def unfolding(u):
    while True:
        u = (u * 0.5 + 0.1).tanh()
        yield u


def growing(u):
    total = u * 0
    for k in range(50):
        total = (total + u / (k + 1)).tanh()
        yield total


class Within:
    """Somebody's context manager."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def in_threads(work, inputs):
    """work of each input, in a thread each."""
    out = [None] * len(inputs)

    def run(k):
        try:
            out[k] = work(inputs[k])
        except Exception as error:
            out[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(inputs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for value in out:
        if isinstance(value, Exception):
            raise value
    return out


def fill(module, key, kind):
    """The module with parameters from the stream `key`."""
    module = module.to(getattr(torch, kind))
    with torch.no_grad():
        for k, p in enumerate(module.parameters()):
            p.copy_(data(1000 * key + k, tuple(p.shape), kind) * 0.4)
    return module


def chain(layers, x):
    for layer in layers:
        x = layer(x)
    return x


class Tied(nn.Module):
    """One weight used twice, under two names."""

    def __init__(self, n):
        super().__init__()
        self.first = nn.Linear(n, n)
        self.second = nn.Linear(n, n, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh()) + x


class Counting(nn.Module):
    """A parameter, a buffer that follows the data, and a count; behaves differently in evaluation."""

    def __init__(self, n):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        if self.training and x.numel():
            with torch.no_grad():
                self.mean *= 0.5
                self.mean += 0.5 * x.detach().reshape(-1, x.shape[-1]).mean(0).to(self.mean.dtype)
                self.count += 1
        return (x - self.mean) * self.scale


class Residual(nn.Module):
    def __init__(self, n, act):
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(n, eps=0.1), nn.Linear(n, n), act)

    def forward(self, x):
        return x + self.inner(x) * 0.5


class Rows(nn.Module):
    """A convolution along the rows of a matrix."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.T.unsqueeze(0))[0].T


class Image(nn.Module):
    """A convolution of a matrix as a picture."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x[None, None]).sum(1)[0, : x.shape[0], : x.shape[1]]
'''
