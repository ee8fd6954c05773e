"""One training step of a small transformer on characters: 4 layers, 4 heads, width 128, context 64, batch 12, AdamW.

The model is the decoder of A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): layer norm
before each part, the exact GELU, no biases in the products. Scores, mask, softmax and the product with the values are
written out, as in most code that teaches it; what a library fuses, it has to find by itself.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Ask, Case, Workload
from .training import training

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
# With the usual 1e-8 the first steps of Adam are rate times sign, also where rounding decides the sign of a gradient.
RATE, BETAS, EPS, DECAY = 1e-4, (0.9, 0.99), 1e-4, 0.1


def _shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters, weights as (outputs, inputs), in the order of `parameters()`."""
    shapes: dict[str, tuple[int, ...]] = {"token": (VOCABULARY, WIDTH), "position": (CONTEXT, WIDTH)}
    for i in range(LAYERS):
        shapes |= {
            f"{i}.norm1.weight": (WIDTH,), f"{i}.norm1.bias": (WIDTH,), f"{i}.qkv": (3 * WIDTH, WIDTH),
            f"{i}.out": (WIDTH, WIDTH), f"{i}.norm2.weight": (WIDTH,), f"{i}.norm2.bias": (WIDTH,),
            f"{i}.up": (4 * WIDTH, WIDTH), f"{i}.down": (WIDTH, 4 * WIDTH),
        }  # fmt: skip
    return shapes | {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,), "head": (VOCABULARY, WIDTH)}


SHAPES = _shapes()


def make(rng: np.random.Generator) -> Arrays:
    data: Arrays = {
        "x": rng.integers(0, VOCABULARY, (BATCH, CONTEXT)),
        "y": rng.integers(0, VOCABULARY, (BATCH, CONTEXT)),
    }
    for name, shape in SHAPES.items():
        values = rng.normal(0, 0.02, shape)
        if "norm" in name and "weight" in name:
            values += 1
        data[name] = values.astype(np.float32)
    return data


def network(torch: ModuleType, data: Arrays):
    """The model with the given parameters, as ordinary modules."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.out = nn.Linear(WIDTH, WIDTH, bias=False)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
            self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)
            self.register_buffer("mask", torch.tril(torch.ones(CONTEXT, CONTEXT)) == 0)

        def attention(self, x):
            batch, length, width = x.shape
            q, k, v = self.qkv(x).split(width, dim=2)
            q, k, v = (t.view(batch, length, HEADS, width // HEADS).transpose(1, 2) for t in (q, k, v))
            scores = (q @ k.transpose(-2, -1)) * (width // HEADS) ** -0.5
            scores = scores.masked_fill(self.mask[:length, :length], float("-inf"))
            mixed = F.softmax(scores, dim=-1) @ v
            return self.out(mixed.transpose(1, 2).contiguous().view(batch, length, width))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Embedding(VOCABULARY, WIDTH)
            self.position = nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, indices, targets):
            x = self.token(indices) + self.position(torch.arange(indices.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = self.head(self.norm(x))
            return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    net = GPT()
    with torch.no_grad():
        for p, name in zip(net.parameters(), SHAPES, strict=True):
            p.copy_(torch.tensor(data[name]))
    return net


def _training(torch: ModuleType, data: Arrays, compile_loss: bool) -> Case:
    net = network(torch, data)
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    objective = torch.compile(net) if compile_loss else net
    return training(net, optimizer, objective, x, y)


def eager(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, False)


def compiled(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, True)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    jnp = jax.numpy
    params = {name: jnp.asarray(data[name]) for name in SHAPES}
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])
    hidden = jnp.tril(jnp.ones((CONTEXT, CONTEXT))) == 0

    def norm(p, name, h):
        h = h - h.mean(-1, keepdims=True)
        return h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def attention(p, i, h):
        parts = jnp.split(h @ p[f"{i}.qkv"].T, 3, axis=-1)
        q, k, v = (t.reshape(BATCH, CONTEXT, HEADS, -1).transpose(0, 2, 1, 3) for t in parts)
        scores = jnp.where(hidden, -jnp.inf, q @ k.swapaxes(-2, -1) * (WIDTH // HEADS) ** -0.5)
        mixed = jax.nn.softmax(scores) @ v
        return mixed.transpose(0, 2, 1, 3).reshape(BATCH, CONTEXT, WIDTH) @ p[f"{i}.out"].T

    def objective(p):
        h = p["token"][x] + p["position"][jnp.arange(CONTEXT)]
        for i in range(LAYERS):
            h = h + attention(p, i, norm(p, f"{i}.norm1", h))
            up = jax.nn.gelu(norm(p, f"{i}.norm2", h) @ p[f"{i}.up"].T, approximate=False)
            h = h + up @ p[f"{i}.down"].T
        logits = jax.nn.log_softmax(norm(p, "norm", h) @ p["head"].T)
        return -jnp.take_along_axis(logits, y[..., None], -1).mean()

    @jax.jit
    def update(params, first, second, count):
        loss, slopes = jax.value_and_grad(objective)(params)
        count = count + 1
        tree = jax.tree_util.tree_map
        first = tree(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, slopes)
        second = tree(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, second, slopes)
        rate, root = RATE / (1 - BETAS[0] ** count), jnp.sqrt(1 - BETAS[1] ** count)
        params = tree(
            lambda p, m, v: p * (1 - RATE * DECAY) - rate * m / (jnp.sqrt(v) / root + EPS), params, first, second
        )
        return loss, (params, first, second, count)

    zeros = {name: jnp.zeros_like(value) for name, value in params.items()}
    state: Any = (None, (params, zeros, zeros, jnp.float32(0)))

    def step() -> None:
        nonlocal state
        state = update(*state[1])

    return Case(step, lambda: [np.asarray(state[0])] + [np.asarray(state[1][0][name]) for name in SHAPES])


GPT = Workload(
    name="gpt",
    title="GPT of 4 layers, 4 heads, width 128, context 64, batch 12, AdamW training step",
    target=1.5,
    peers=("torch",),
    further=(Ask(1.2, ("torch", "torch.compile", "jax")),),
    make=make,
    builders={"adjoint": eager, "torch": eager, "torch.compile": compiled, "jax": jitted},
    rtol=1e-4,
    atol=(1e-4, 1e-5),
    check_steps=3,
    repeats=False,
)
