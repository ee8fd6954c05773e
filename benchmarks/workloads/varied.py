"""Loops of which no iteration is like the last: words fed back by chance, layers left out, trees, text that grows.

Every library draws the same choices, from a generator of its own with the same seed.
"""

from __future__ import annotations

import importlib
import random
from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable
from .training import training

WIDTH, WORDS, BATCH, LENGTH = 64, 30, 16, 20
LAYERS, ROWS, KEPT = 12, 32, 0.7
LEAVES, CLASSES = 25, 2
BLOCKS, HEADS, TEXT = 4, 4, 64
VOCABULARY, LONGEST = 65, 128
EXPERTS = 4


def _parts(torch: ModuleType) -> tuple[Any, Any]:
    return importlib.import_module(torch.__name__ + ".nn"), importlib.import_module(torch.__name__ + ".nn.functional")


def _filled(torch: ModuleType, *modules: Any) -> Any:
    """Modules as one, with the same parameters for every library."""
    rng, net = np.random.default_rng(1), importlib.import_module(torch.__name__ + ".nn").ModuleList(modules)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.tensor(0.1 * rng.normal(size=tuple(p.shape)).astype(np.float32)))
    return net


# --- words fed back by chance ---------------------------------------------------------------------------------------------


def make_words(rng: np.random.Generator) -> Arrays:
    return {"source": rng.integers(0, WORDS, (8, BATCH, LENGTH)), "target": rng.integers(0, WORDS, (8, BATCH, LENGTH))}


def decoder(torch: ModuleType, data: Arrays) -> Case:
    nn, F = _parts(torch)
    words, encode, decode, out = nn.Embedding(WORDS, WIDTH), nn.GRUCell(WIDTH, WIDTH), nn.GRUCell(WIDTH, WIDTH), nn.Linear(WIDTH, WORDS)
    net = _filled(torch, words, encode, decode, out)
    sources, targets, choice = torch.tensor(data["source"]), torch.tensor(data["target"]), random.Random(0)

    def loss_of_next() -> Any:
        k = choice.randrange(8)
        x, y, h = sources[k], targets[k], torch.zeros(BATCH, WIDTH)
        for t in range(LENGTH):
            h = encode(words(x[:, t]), h)
        word, loss = torch.zeros(BATCH, dtype=torch.int64), 0.0
        for t in range(LENGTH):
            h = decode(words(word), h)
            scores = out(h)
            loss = loss + F.cross_entropy(scores, y[:, t])
            word = y[:, t] if choice.random() < 0.5 else scores.argmax(1)
        return loss / LENGTH

    return training(net, torch.optim.SGD(net.parameters(), lr=0.1), loss_of_next, look=True)


# --- layers left out ------------------------------------------------------------------------------------------------------


def make_rows(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(8, ROWS, WIDTH)).astype(np.float32), "y": rng.integers(0, 10, (8, ROWS))}


def dropped(torch: ModuleType, data: Arrays) -> Case:
    nn, F = _parts(torch)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(LAYERS)]
    head = nn.Linear(WIDTH, 10)
    net = _filled(torch, *layers, head)
    xs, ys, choice = torch.tensor(data["x"]), torch.tensor(data["y"]), random.Random(0)

    def loss_of_next() -> Any:
        k = choice.randrange(8)
        x = xs[k]
        for layer in layers:
            if choice.random() < KEPT:
                x = x + layer(x)
        return F.cross_entropy(head(x), ys[k])

    return training(net, torch.optim.Adam(net.parameters(), lr=1e-3), loss_of_next, look=True)


# --- trees ----------------------------------------------------------------------------------------------------------------


def make_nothing(rng: np.random.Generator) -> Arrays:
    return {}


def trees(torch: ModuleType, data: Arrays) -> Case:
    nn, F = _parts(torch)
    leaf, join, out = nn.Embedding(50, WIDTH), nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
    net = _filled(torch, leaf, join, out)
    choice = random.Random(0)

    def grown(leaves: int) -> Any:
        if leaves == 1:
            return choice.randrange(50)
        left = choice.randint(1, leaves - 1)
        return grown(left), grown(leaves - left)

    def value(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return torch.tanh(join(torch.cat([value(tree[0]), value(tree[1])])))
        return leaf(torch.tensor(tree))

    def loss_of_next() -> Any:
        tree = grown(choice.randint(5, LEAVES))
        return F.cross_entropy(out(value(tree))[None], torch.tensor([choice.randrange(CLASSES)]))

    return training(net, torch.optim.SGD(net.parameters(), lr=0.01), loss_of_next, look=True)


# --- a router that sends rows to experts ------------------------------------------------------------------------------------


def make_routed(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=(64, ROWS, WIDTH)).astype(np.float32), "y": rng.integers(0, 10, (64, ROWS))}


def experts(torch: ModuleType, data: Arrays) -> Case:
    """Two of four networks for every row, which the router chooses: how many rows each has is another number every time."""
    nn, F = _parts(torch)
    routers = [nn.Linear(WIDTH, EXPERTS) for _ in range(BLOCKS)]
    networks = [[nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH)) for _ in range(EXPERTS)] for _ in range(BLOCKS)]
    head = nn.Linear(WIDTH, 10)
    net = _filled(torch, *routers, *[network for some in networks for network in some], head)
    xs, ys, choice = torch.tensor(data["x"]), torch.tensor(data["y"]), random.Random(0)

    def loss_of_next() -> Any:
        k = choice.randrange(len(xs))
        x = xs[k]
        for router, some in zip(routers, networks, strict=True):
            shares, chosen = router(x).softmax(-1).topk(2)
            total = torch.zeros_like(x)
            for number, network in enumerate(some):
                rows, place = torch.where(chosen == number)
                if rows.numel():
                    total = total.index_add(0, rows, network(x[rows]) * shares[rows, place, None])
            x = x + total
        return F.cross_entropy(head(x), ys[k])

    return training(net, torch.optim.AdamW(net.parameters(), lr=1e-4), loss_of_next, look=True)


# --- text of any length ---------------------------------------------------------------------------------------------------


def _transformer(torch: ModuleType, most: int) -> tuple[Any, Any, Any]:
    """A transformer: its parameters, what it makes of texts of up to so many words, and its scores of that."""
    nn, F = _parts(torch)
    width = 128

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.three, self.mixed = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.second, self.wide = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            n, length, _ = x.shape
            three = [t.view(n, length, HEADS, width // HEADS).transpose(1, 2) for t in self.three(self.first(x)).split(width, 2)]
            seen = F.scaled_dot_product_attention(*three, is_causal=True).transpose(1, 2).reshape(n, length, width)
            x = x + self.mixed(seen)
            return x + self.wide(self.second(x))

    words, places, blocks = nn.Embedding(VOCABULARY, width), nn.Embedding(most, width), [Block() for _ in range(BLOCKS)]
    last, head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY)

    def read(text: Any) -> Any:
        x = words(text) + places(torch.arange(text.shape[1]))
        for block in blocks:
            x = block(x)
        return x

    def scores(x: Any) -> Any:
        return head(last(x))

    return _filled(torch, words, places, *blocks, last, head), read, scores


def text(torch: ModuleType, data: Arrays) -> Case:
    """A transformer that reads the whole text for every word."""
    _, read, scores_of = _transformer(torch, TEXT)

    def generate() -> Results:
        found = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            while found.shape[1] < TEXT:
                scores = scores_of(read(found)[:, -1])
                found = torch.cat([found, scores.argmax(-1, keepdim=True)], 1)
                if found[0, -1].item() < 0:  # an end of the text, which is asked for after every word
                    break
        return [found.numpy(), scores.numpy()]

    return repeatable(generate)


def make_texts(rng: np.random.Generator) -> Arrays:
    return {"text": rng.integers(0, VOCABULARY, (12, LONGEST + 1))}


def lengths(torch: ModuleType, data: Arrays) -> Case:
    """The same transformer, trained on batches of texts that are cut to another length every time."""
    _, F = _parts(torch)
    net, read, scores_of = _transformer(torch, LONGEST)
    texts, choice = torch.tensor(data["text"]), random.Random(0)

    def loss_of_next() -> Any:
        length = choice.randint(LONGEST // 4, LONGEST)
        scores = scores_of(read(texts[:, :length]))
        return F.cross_entropy(scores.reshape(-1, VOCABULARY), texts[:, 1 : length + 1].reshape(-1))

    return training(net, torch.optim.SGD(net.parameters(), lr=0.01), loss_of_next, look=True)


def _workload(name: str, title: str, make: Any, build: Any, steps: int) -> Workload:
    return Workload(
        name=name, title=title, target=1.0, peers=("torch",), make=make, builders={"adjoint": build, "torch": build},
        rtol=1e-3, atol=(1e-4,), check_steps=steps, repeats=False,
    )  # fmt: skip


VARIED = (
    _workload("decoder_by_chance", "GRU decoder of 20 words, width 64, batch 16, fed its own word or the right one by chance, SGD step", make_words, decoder, 40),
    _workload("dropped_layers", "12 residual layers of width 64, batch 32, each left out by chance, Adam step", make_rows, dropped, 40),
    _workload("trees", "a network over trees of 5 to 25 leaves, width 64, ever other trees, SGD step", make_nothing, trees, 200),
    _workload("experts", "4 layers of width 64, batch 32, in each a router that sends every row to 2 of 4 networks, AdamW step", make_routed, experts, 100),
    _workload("growing_text", "63 words of a transformer (4 layers, width 128) that reads the whole text for each", make_nothing, text, 80),
    _workload("lengths", "transformer of 4 layers, width 128, batch 12, texts of 32 to 128 words, another length every time, SGD step", make_texts, lengths, 40),
)
