"""Programs over sequences: recurrent nets, attention, a small language model, search, word vectors.

Generators as in `regression`: `yield` ends an iteration, the returned dictionary must agree.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from inputs import draw, draw_integers, fill

TEXT = "the time machine by h g wells the time traveller for so it will be convenient to speak of him was expounding "


def encoded() -> tuple[np.ndarray, int]:
    letters = sorted(set(TEXT))
    return np.array([letters.index(c) for c in TEXT]), len(letters)


def recurrent_from_scratch(torch: Any) -> Any:
    """One-hot characters, an explicit time loop, state detached between batches, clipping by hand, perplexity."""
    F = torch.nn.functional
    corpus, vocab = encoded()
    corpus, hidden = torch.from_numpy(corpus), 8
    shapes = [(vocab, hidden), (hidden, hidden), (hidden,), (hidden, vocab), (vocab,)]
    params = [(torch.from_numpy(draw(k, *s)) * 0.1).requires_grad_(True) for k, s in enumerate(shapes)]
    W_xh, W_hh, b_h, W_hq, b_q = params

    def rnn(inputs: Any, state: Any) -> Any:
        (H,) = state
        outputs = []
        for X in inputs:
            H = torch.tanh(torch.mm(X, W_xh) + torch.mm(H, W_hh) + b_h)
            outputs.append(torch.mm(H, W_hq) + b_q)
        return torch.cat(outputs, dim=0), (H,)

    def grad_clipping(theta: float) -> None:
        norm = torch.sqrt(sum(torch.sum(p.grad**2) for p in params))
        if norm > theta:
            for p in params:
                p.grad[:] *= theta / norm

    perplexity, state = [], None
    for i in range(8):
        window = corpus[i * 10 : i * 10 + 22]
        X, Y = window[:20].reshape(4, 5), window[1:21].reshape(4, 5)
        state = (torch.zeros(4, hidden),) if state is None else tuple(s.detach() for s in state)
        y_hat, state = rnn(F.one_hot(X.T, vocab).type(torch.float32), state)
        loss = F.cross_entropy(y_hat, Y.T.reshape(-1).long()).mean()
        for p in params:
            p.grad = None
        loss.backward()
        grad_clipping(0.5)
        with torch.no_grad():
            for p in params:
                p -= 1.0 * p.grad
        perplexity.append(math.exp(loss.item()))
        yield
    return {"perplexity": perplexity, "b_q": b_q, "state": state[0]}


def gated_text(torch: Any) -> Any:
    """Embedding, two-layer LSTM and a GRU side by side, lengths masked with ignore_index."""
    nn = torch.nn
    F = torch.nn.functional
    corpus, vocab = encoded()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocab, 6)
            self.lstm = nn.LSTM(6, 7, num_layers=2, batch_first=True)
            self.gru = nn.GRU(6, 5, batch_first=True, bidirectional=True)
            self.head = nn.Linear(17, vocab)

        def forward(self, idx: Any) -> Any:
            e = self.embed(idx)
            a, (h, c) = self.lstm(e)
            b, hn = self.gru(e)
            return self.head(torch.cat((a, b), dim=-1)), h[-1].sum() + c.sum() + hn.sum()

    model = fill(torch, Model())
    idx = torch.from_numpy(corpus[:48].reshape(6, 8))
    target = torch.from_numpy(corpus[1:49].reshape(6, 8).copy())
    for row, length in enumerate([8, 5, 7, 3, 8, 6]):
        target[row, length:] = -100
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(4):
        opt.zero_grad()
        logits, extra = model(idx)
        loss = F.cross_entropy(logits.transpose(1, 2), target, ignore_index=-100) + 1e-3 * extra
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.05)
        opt.step()
        losses.append(loss.item())
        yield
    return {"losses": losses, "embed": model.embed.weight}


def sentiment(torch: Any) -> Any:
    """Text classification: padded batches, masked mean of embeddings, lengths, binary loss, batches of other sizes."""
    nn = torch.nn
    F = torch.nn.functional
    rng = np.random.default_rng(3)
    sentences = [rng.integers(1, 20, rng.integers(3, 9)).tolist() for _ in range(22)]
    labels = [float(sum(s) % 2) for s in sentences]

    class Bag(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(sentences)

        def __getitem__(self, i: int) -> Any:
            return torch.tensor(sentences[i]), labels[i]

    def collate(batch: Any) -> Any:
        longest = 9
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for k, (s, _) in enumerate(batch):
            ids[k, : len(s)] = s
            mask[k, : len(s)] = True
        return ids, mask, torch.tensor([label for _, label in batch])

    loader = torch.utils.data.DataLoader(Bag(), batch_size=8, collate_fn=collate)
    embed, out = fill(torch, nn.Embedding(20, 4, padding_idx=0), 1), fill(torch, nn.Linear(4, 1), 2)
    opt = torch.optim.Adagrad([*embed.parameters(), *out.parameters()], lr=0.3)
    curve = []
    for _ in range(3):
        for ids, mask, target in loader:
            vectors = embed(ids).masked_fill(~mask.unsqueeze(-1), 0.0)
            pooled = vectors.sum(1) / mask.sum(1, keepdim=True)
            loss = F.binary_cross_entropy_with_logits(out(pooled).squeeze(1), target)
            opt.zero_grad()
            loss.backward()
            opt.step()
            curve.append(loss.item())
        yield
    return {"curve": curve, "padding": embed.weight[0], "grad": embed.weight.grad[0]}


def attention_pooling(torch: Any) -> Any:
    """Nadaraya-Watson kernel regression, then masked softmax and additive attention with queries, keys and values."""
    nn = torch.nn
    x = torch.from_numpy(np.sort(draw(5, 20)))
    y = 2 * torch.sin(x) + x.clamp(min=0.1) ** 0.8
    w = torch.ones((), requires_grad=True)
    losses = []
    for _ in range(5):
        weights = nn.functional.softmax(-(((x[:, None] - x[None, :]) * w) ** 2) / 2, dim=1)
        weights = weights * (1 - torch.eye(20))
        weights = weights / weights.sum(1, keepdim=True)
        loss = ((torch.bmm(weights.unsqueeze(0), y.reshape(1, 20, 1)).squeeze() - y) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.02 * w.grad
            w.grad = None
        losses.append(loss.item())
        yield

    def masked_softmax(X: Any, valid_lens: Any) -> Any:
        shape = X.shape
        if valid_lens.dim() == 1:
            valid_lens = torch.repeat_interleave(valid_lens, shape[1])
        else:
            valid_lens = valid_lens.reshape(-1)
        flat = X.reshape(-1, shape[-1])
        mask = torch.arange(flat.size(1), dtype=torch.float32)[None, :] < valid_lens[:, None]
        flat[~mask] = -1e6
        return nn.functional.softmax(flat.reshape(shape), dim=-1)

    queries, keys = torch.from_numpy(draw(6, 2, 1, 20)), torch.ones((2, 10, 2))
    values = torch.arange(40, dtype=torch.float32).reshape(1, 10, 4).repeat(2, 1, 1)
    W_k, W_q, w_v = (fill(torch, m, k) for k, m in enumerate((nn.Linear(2, 8), nn.Linear(20, 8), nn.Linear(8, 1))))
    features = torch.tanh(W_q(queries).unsqueeze(2) + W_k(keys).unsqueeze(1))
    scores = w_v(features).squeeze(-1)
    attention = masked_softmax(scores, torch.tensor([2, 6]))
    return {"losses": losses, "attention": attention, "out": torch.bmm(attention, values)}


def small_gpt(torch: Any) -> Any:
    """Causal self-attention with a registered mask, pre-norm blocks, AdamW with decay groups, greedy generation."""
    nn = torch.nn
    F = torch.nn.functional
    corpus, vocab = encoded()
    width, heads, block = 12, 3, 8

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.register_buffer("mask", torch.tril(torch.ones(block, block)).view(1, 1, block, block))

        def forward(self, x: Any) -> Any:
            B, T, C = x.size()
            q, k, v = self.qkv(x).split(width, dim=2)
            k = k.view(B, T, heads, C // heads).transpose(1, 2)
            q = q.view(B, T, heads, C // heads).transpose(1, 2)
            v = v.view(B, T, heads, C // heads).transpose(1, 2)
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            return self.proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Attention()
            self.mlp = nn.ModuleDict({"fc": nn.Linear(width, 2 * width), "proj": nn.Linear(2 * width, width)})

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp["proj"](F.gelu(self.mlp["fc"](self.ln_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(block, width)
            self.h = nn.ModuleList([Block() for _ in range(2)])
            self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

        def forward(self, idx: Any, targets: Any = None) -> Any:
            _, t = idx.size()
            x = self.wte(idx) + self.wpe(torch.arange(0, t, dtype=torch.long).unsqueeze(0))
            for layer in self.h:
                x = layer(x)
            logits = self.head(self.ln_f(x))
            if targets is None:
                return logits, None
            return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

    model = fill(torch, GPT())
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.95)
    )
    data = torch.from_numpy(corpus)
    losses = []
    for k in range(5):
        starts = draw_integers(50 + k, len(corpus) - block - 1, 4).tolist()
        x = torch.stack([data[i : i + block] for i in starts])
        y = torch.stack([data[i + 1 : i + 1 + block] for i in starts])
        _, loss = model(x, y)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
        yield
    model.eval()
    idx = data[:3].unsqueeze(0)
    with torch.no_grad():
        for _ in range(10):
            cond = idx if idx.size(1) <= block else idx[:, -block:]
            logits, _ = model(cond)
            logits = logits[:, -1, :] / 0.8
            v, _ = torch.topk(logits, 5)
            logits[logits < v[:, [-1]]] = -float("inf")
            nxt = F.softmax(logits, dim=-1).argmax(-1, keepdim=True)
            idx = torch.cat((idx, nxt), dim=1)
    return {"losses": losses, "generated": idx, "parameters": sum(p.numel() for p in model.parameters())}


def beam_search(torch: Any) -> Any:
    """Beams over a fixed transition table: topk, gather, cat and index bookkeeping."""
    table = torch.log_softmax(torch.from_numpy(draw(7, 9, 9) * 2), dim=-1)
    beams, scores = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1)
    for _ in range(6):
        total = scores[:, None] + table[beams[:, -1]]
        scores, flat = total.reshape(-1).topk(min(4, total.numel()))
        rows, words = torch.div(flat, 9, rounding_mode="floor"), flat % 9
        beams = torch.cat([beams[rows], words[:, None]], dim=1)
    best = beams[scores.argmax()].tolist()
    check = sum(table[a, b].item() for a, b in zip(best, best[1:], strict=False))
    return {"beams": beams, "scores": scores, "check": check}
    yield


def skip_grams(torch: Any) -> Any:
    """word2vec with negative samples: gathered rows, batched dot products, masked loss, cosine neighbours."""
    F = torch.nn.functional
    corpus, vocab = encoded()
    rng = np.random.default_rng(5)
    centre = torch.from_numpy(corpus[2:-2])
    context = torch.from_numpy(np.stack([corpus[k : len(corpus) - 4 + k] for k in (0, 1, 3, 4)], 1))
    negative = torch.from_numpy(rng.integers(0, vocab, (len(centre), 6)))
    joined = torch.cat((context, negative), 1)
    mask = torch.ones(joined.shape)
    mask[::3, -2:] = 0
    labels = torch.cat((torch.ones(context.shape), torch.zeros(negative.shape)), 1)
    v = (torch.from_numpy(draw(8, vocab, 5)) * 0.3).requires_grad_()
    u = (torch.from_numpy(draw(9, vocab, 5)) * 0.3).requires_grad_()
    opt = torch.optim.Adam([v, u], lr=0.05)
    losses = []
    for _ in range(5):
        pred = torch.bmm(v[centre].unsqueeze(1), u[joined].permute(0, 2, 1)).squeeze(1)
        out = F.binary_cross_entropy_with_logits(pred, labels, weight=mask, reduction="none")
        loss = (out.mean(dim=1) / mask.sum(dim=1) * mask.shape[1]).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        yield
    with torch.no_grad():
        x = v[3]
        cos = torch.mv(v, x) / torch.sqrt(torch.sum(v * v, dim=1) * torch.sum(x * x) + 1e-9)
        near = torch.topk(cos, k=4)[1]
    return {"losses": losses, "near": near, "cos": cos}


def encoder_decoder(torch: Any) -> Any:
    """nn.Transformer's parts as ready layers: TransformerEncoderLayer and MultiheadAttention with masks."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True, norm_first=True)
    encoder = fill(torch, nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False))
    cross = fill(torch, nn.MultiheadAttention(8, 2, batch_first=True), 3)
    head = fill(torch, nn.Linear(8, 4), 4)
    source, target = torch.from_numpy(draw(10, 3, 6, 8)), torch.from_numpy(draw(11, 3, 5, 8))
    goal = torch.from_numpy(draw_integers(12, 4, 3, 5))
    pad = torch.zeros(3, 6, dtype=torch.bool)
    pad[1, 4:] = True
    opt = torch.optim.NAdam([*encoder.parameters(), *cross.parameters(), *head.parameters()], lr=0.01)
    losses = []
    for _ in range(4):
        opt.zero_grad()
        memory = encoder(source, src_key_padding_mask=pad)
        out, weights = cross(target, memory, memory, key_padding_mask=pad)
        loss = nn.functional.nll_loss(torch.log_softmax(head(out), -1).flatten(0, 1), goal.flatten())
        loss.backward()
        opt.step()
        losses.append(loss.item())
        yield
    return {"losses": losses, "weights": weights}
