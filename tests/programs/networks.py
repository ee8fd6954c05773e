"""Programs around layers: dropout, convolutions, batch norm, generative models, transfer, averaging, schedules.

Generators as in `regression`: `yield` ends an iteration, the returned dictionary must agree.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from inputs import draw, draw_integers, fill


def scratch_mlp(torch: Any) -> Any:
    """One hidden layer from nn.Parameter tensors, own relu, minibatches of a shuffled loader without shuffling."""
    nn = torch.nn
    W1, b1 = nn.Parameter(torch.from_numpy(draw(0, 12, 16)) * 0.2), nn.Parameter(torch.zeros(16))
    W2, b2 = nn.Parameter(torch.from_numpy(draw(1, 16, 3)) * 0.2), nn.Parameter(torch.zeros(3))
    params = [W1, b1, W2, b2]
    X, y = torch.from_numpy(draw(2, 48, 3, 4)), torch.from_numpy(draw_integers(3, 3, 48))

    def relu(X: Any) -> Any:
        a = torch.zeros_like(X)
        return torch.max(X, a)

    def net(X: Any) -> Any:
        X = X.reshape((-1, 12))
        H = relu(X @ W1 + b1)
        return H @ W2 + b2

    loss = nn.CrossEntropyLoss(reduction="none")
    updater = torch.optim.SGD(params, lr=0.1)
    totals = []
    for _ in range(4):
        total = 0.0
        for i in range(0, 48, 16):
            lo = loss(net(X[i : i + 16]), y[i : i + 16])
            updater.zero_grad()
            lo.mean().backward()
            updater.step()
            total += float(lo.sum())
        totals.append(total)
        yield
    return {"totals": totals, "W1": W1, "b2": b2}


def dropout_by_mask(torch: Any) -> Any:
    """A module with its own dropout whose masks come from NumPy, train and eval."""
    nn = torch.nn
    rng = np.random.default_rng(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin1, self.lin2 = nn.Linear(6, 20), nn.Linear(20, 2)

        def forward(self, X: Any) -> Any:
            H = torch.relu(self.lin1(X))
            if self.training:
                mask = torch.from_numpy((rng.random(H.shape) > 0.3).astype(np.float32))
                H = mask * H / (1.0 - 0.3)
            return self.lin2(H)

    net = fill(torch, Net())
    X, y = torch.from_numpy(draw(4, 24, 6)), torch.from_numpy(draw(5, 24, 2))
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    out = []
    for _ in range(8):
        net.train()
        opt.zero_grad(set_to_none=True)
        loss = ((net(X) - y) ** 2).mean()
        loss.backward()
        opt.step()
        net.eval()
        with torch.no_grad():
            out.append([loss.item(), ((net(X) - y) ** 2).mean().item()])
        yield
    return {"out": out}


def convolutional_net(torch: Any) -> Any:
    """LeNet-like with batch norm, train and eval modes, running statistics as buffers, accuracy."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2, 2),
        nn.Conv2d(4, 6, kernel_size=3), nn.BatchNorm2d(6), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))  # fmt: skip
    fill(torch, net.double())
    X, y = torch.from_numpy(draw(6, 12, 1, 8, 8, dtype=np.float64)), torch.from_numpy(draw_integers(7, 3, 12))
    opt = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        net.train()
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(X), y, label_smoothing=0.1)
        loss.backward()
        opt.step()
        net.eval()
        with torch.no_grad():
            right = (net(X).argmax(1) == y).sum().item()
        losses.append((loss.item(), right))
        yield
    state = net.state_dict()
    return {
        "losses": losses, "keys": len(state), "mean": state["1.running_mean"], "var": state["5.running_var"],
        "batches": state["10.num_batches_tracked"],
    }  # fmt: skip


def residual_net(torch: Any) -> Any:
    """Blocks with a 1x1 convolution on the shortcut, adaptive pooling, LayerNorm and GroupNorm, cosine schedule."""
    nn = torch.nn
    F = torch.nn.functional

    class Residual(nn.Module):
        def __init__(self, ins: int, outs: int, use_1x1conv: bool = False, strides: int = 1) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(ins, outs, 3, padding=1, stride=strides, bias=False)
            self.conv2 = nn.Conv2d(outs, outs, 3, padding=1)
            self.conv3 = nn.Conv2d(ins, outs, 1, stride=strides) if use_1x1conv else None
            self.bn1, self.bn2 = nn.GroupNorm(2, outs), nn.GroupNorm(2, outs)

        def forward(self, X: Any) -> Any:
            Y = F.relu(self.bn1(self.conv1(X)))
            Y = self.bn2(self.conv2(Y))
            if self.conv3:
                X = self.conv3(X)
            Y += X
            return F.relu(Y)

    net = nn.Sequential(
        Residual(2, 2), Residual(2, 4, use_1x1conv=True, strides=2), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(),
        nn.LayerNorm(4), nn.Linear(4, 2))  # fmt: skip
    fill(torch, net, 1)
    X, y = torch.from_numpy(draw(8, 6, 2, 6, 6)), torch.from_numpy(draw_integers(9, 2, 6))
    opt = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=6)
    losses, rates = [], []
    for _ in range(6):
        opt.zero_grad()
        loss = F.cross_entropy(net(X), y)
        loss.backward()
        opt.step()
        schedule.step()
        losses.append(loss.item())
        rates.append(opt.param_groups[0]["lr"])
        yield
    return {"losses": losses, "rates": rates}


def variational_autoencoder(torch: Any) -> Any:
    """Reparametrised sampling with noise given from outside, binary cross entropy plus closed-form KL."""
    nn = torch.nn
    F = torch.nn.functional

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc21, self.fc22 = nn.Linear(16, 10), nn.Linear(10, 2), nn.Linear(10, 2)
            self.fc3, self.fc4 = nn.Linear(2, 10), nn.Linear(10, 16)

        def encode(self, x: Any) -> Any:
            h1 = F.relu(self.fc1(x))
            return self.fc21(h1), self.fc22(h1)

        def decode(self, z: Any) -> Any:
            return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

        def forward(self, x: Any, eps: Any) -> Any:
            mu, logvar = self.encode(x.view(-1, 16))
            z = mu + eps * torch.exp(0.5 * logvar)
            return self.decode(z), mu, logvar

    model = fill(torch, VAE())
    data = torch.from_numpy((draw(10, 20, 4, 4) > 0).astype(np.float32))
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for k in range(8):
        eps = torch.from_numpy(draw(100 + k, 20, 2))
        opt.zero_grad()
        recon, mu, logvar = model(data, eps)
        bce = F.binary_cross_entropy(recon, data.view(-1, 16), reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        (bce + kld).backward()
        losses.append((bce.item(), kld.item()))
        opt.step()
        yield
    posterior = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(posterior, prior).sum()
    return {"losses": losses, "kl": kl, "kld": kld}


def adversarial_pair(torch: Any) -> Any:
    """GAN: two optimizers, the fake batch detached for one and not for the other."""
    nn = torch.nn
    G = fill(torch, nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 2)), 2)
    D = fill(torch, nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)), 3)
    g_opt = torch.optim.Adam(G.parameters(), lr=0.01, betas=(0.5, 0.999))
    d_opt = torch.optim.Adam(D.parameters(), lr=0.01, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    real = torch.from_numpy(draw(11, 16, 2) @ np.array([[1, 2], [-0.1, 0.5]], np.float32) + 1)
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    history = []
    for k in range(10):
        noise = torch.from_numpy(draw(200 + k, 16, 2))
        d_opt.zero_grad()
        fake = G(noise)
        d_loss = (criterion(D(real), ones) + criterion(D(fake.detach()), zeros)) / 2
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = criterion(D(fake), ones)
        g_loss.backward()
        g_opt.step()
        history.append((d_loss.item(), g_loss.item()))
        yield
    return {"history": history, "fake": G(torch.from_numpy(draw(300, 4, 2)))}


def tied_autoencoder(torch: Any) -> Any:
    """The decoder uses the encoder's weight transposed; a second model shares a Linear by assignment."""
    nn = torch.nn
    F = torch.nn.functional

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(7, 3)
            self.bias = nn.Parameter(torch.zeros(7))

        def forward(self, x: Any) -> Any:
            return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.t(), self.bias)

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 5)
            self.head = nn.Linear(5, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, idx: Any) -> Any:
            return self.head(self.embed(idx))

    auto, language = fill(torch, Tied()), fill(torch, Language(), 1)
    assert len(list(language.parameters())) == 1
    X = torch.from_numpy(draw(12, 15, 7))
    tokens = torch.from_numpy(draw_integers(13, 9, 20))
    opt = torch.optim.RMSprop([*auto.parameters(), *language.parameters()], lr=0.01, alpha=0.9, momentum=0.5)
    losses = []
    for _ in range(10):
        a = F.mse_loss(auto(X), X)
        b = F.cross_entropy(language(tokens[:-1]), tokens[1:])
        opt.zero_grad()
        (a + b).backward()
        opt.step()
        losses.append((a.item(), b.item()))
        yield
    return {"losses": losses, "grad": language.embed.weight.grad, "bias": auto.bias}


def mixup_and_average(torch: Any) -> Any:
    """Mixed examples with soft targets; an exponential moving average of the weights is evaluated."""
    nn = torch.nn
    F = torch.nn.functional
    net = fill(torch, nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 3)))
    shadow = copy.deepcopy(net)
    for p in shadow.parameters():
        p.requires_grad_(False)
    X, y = torch.from_numpy(draw(14, 30, 5)), torch.from_numpy(draw_integers(15, 3, 30))
    opt = torch.optim.SGD(net.parameters(), lr=0.2)
    rng = np.random.default_rng(1)
    out = []
    for _ in range(8):
        lam, order = float(rng.beta(0.4, 0.4)), torch.from_numpy(rng.permutation(30))
        target = F.one_hot(y, 3).float()
        mixed = lam * X + (1 - lam) * X[order]
        soft = lam * target + (1 - lam) * target[order]
        loss = -(soft * F.log_softmax(net(mixed), dim=-1)).sum(-1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for s, p in zip(shadow.parameters(), net.parameters(), strict=True):
                s.mul_(0.9).add_(p, alpha=0.1)
        out.append((loss.item(), F.cross_entropy(shadow(X), y).item()))
        yield
    return {"out": out, "shadow": shadow[0].weight}


def frozen_features(torch: Any) -> Any:
    """Transfer: a body frozen by requires_grad_(False), then unfrozen with its own learning rate."""
    nn = torch.nn
    F = torch.nn.functional
    body = fill(torch, nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU()))
    head = fill(torch, nn.Linear(12, 2), 5)
    body.requires_grad_(False)
    X, y = torch.from_numpy(draw(16, 20, 6)), torch.from_numpy(draw_integers(17, 2, 20))
    opt = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for epoch in range(10):
        if epoch == 5:
            for p in body[2].parameters():
                p.requires_grad = True
            opt.add_param_group({"params": body[2].parameters(), "lr": 0.01})
        opt.zero_grad()
        loss = F.cross_entropy(head(body(X)), y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert body[0].weight.grad is None and body[2].weight.grad is not None
    return {"losses": losses, "frozen": body[0].weight, "thawed": body[2].weight}
    yield


def accumulate_and_clip(torch: Any) -> Any:
    """Gradients of four microbatches added up, clipped by norm, a warm-up schedule by LambdaLR."""
    nn = torch.nn
    net = fill(torch, nn.Sequential(nn.Linear(4, 10), nn.SiLU(), nn.Linear(10, 1)))
    X, y = torch.from_numpy(draw(18, 32, 4)), torch.from_numpy(draw(19, 32, 1) * 3)
    opt = torch.optim.AdamW(net.parameters(), lr=0.05)
    warm = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: min(1.0, (k + 1) / 4) * 0.5 * (1 + math.cos(k / 10)))
    norms, total = [], []
    for _ in range(6):
        opt.zero_grad()
        running = 0.0
        for a, b in zip(X.split(8), y.chunk(4), strict=True):
            loss = nn.functional.smooth_l1_loss(net(a), b) / 4
            loss.backward()
            running += loss.item()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), 0.5)))
        opt.step()
        warm.step()
        total.append(running)
        yield
    return {"norms": norms, "total": total, "rate": warm.get_last_lr()}


def plateau_and_resume(torch: Any) -> Any:
    """ReduceLROnPlateau; model and optimizer states saved in the middle, loaded into new objects, continued."""
    nn = torch.nn

    def make() -> Any:
        net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
        opt = torch.optim.Adam(net.parameters(), lr=0.1)
        return net, opt, torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0, threshold=0.2)

    X, y = torch.from_numpy(draw(20, 16, 3)), torch.from_numpy(draw(21, 16, 1))
    net, opt, schedule = make()
    fill(torch, net)
    losses, rates = [], []

    def step() -> None:
        opt.zero_grad()
        loss = (net(X) - y).pow(2).mean()
        loss.backward()
        opt.step()
        schedule.step(loss.item())
        losses.append(loss.item())
        rates.append(opt.param_groups[0]["lr"])

    for _ in range(8):
        step()
    saved = copy.deepcopy({"net": net.state_dict(), "opt": opt.state_dict(), "schedule": schedule.state_dict()})
    for _ in range(4):
        step()
    first = losses[8:]
    net, opt, schedule = make()
    net.load_state_dict(saved["net"])
    opt.load_state_dict(saved["opt"])
    schedule.load_state_dict(saved["schedule"])
    del losses[8:], rates[8:]
    for _ in range(4):
        step()
    assert np.allclose(first, losses[8:])
    return {"losses": losses, "rates": rates}
    yield
