"""Programs of a first course: regression, classification, clustering, decompositions, second-order methods.

Each function takes the library and is a generator: `yield` marks the end of an iteration whose work is the same every
time, the returned dictionary is what must agree between libraries and modes.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from inputs import draw, draw_integers, fill


def linear_regression(torch: Any) -> Any:
    """From scratch: a data iterator over shuffled indices, squared loss, minibatch SGD."""
    features = torch.from_numpy(draw(0, 100, 2))
    labels = features @ torch.tensor([2, -3.4]) + 4.2 + 0.01 * torch.from_numpy(draw(1, 100))

    def data_iter(epoch: int) -> Any:
        order = np.random.default_rng(epoch).permutation(100).tolist()
        for i in range(0, 100, 10):
            batch = torch.tensor(order[i : min(i + 10, 100)])
            yield features[batch], labels[batch]

    def linreg(X: Any, w: Any, b: Any) -> Any:
        return torch.matmul(X, w) + b

    def squared_loss(y_hat: Any, y: Any) -> Any:
        return (y_hat - y.reshape(y_hat.shape)) ** 2 / 2

    def sgd(params: Any, lr: float, batch_size: int) -> None:
        with torch.no_grad():
            for param in params:
                param -= lr * param.grad / batch_size
                param.grad.zero_()

    w = torch.full((2, 1), 0.01, requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    history = []
    for epoch in range(3):
        for X, y in data_iter(epoch):
            loss = squared_loss(linreg(X, w, b), y)
            loss.sum().backward()
            sgd([w, b], 0.03, 10)
        with torch.no_grad():
            train_l = squared_loss(linreg(features, w, b), labels)
            history.append(float(train_l.mean()))
        yield
    return {"w": w, "b": b, "history": history}


def ridge_with_loader(torch: Any) -> Any:
    """Concise: TensorDataset, DataLoader, weight decay per parameter group."""
    nn = torch.nn
    X = torch.from_numpy(draw(2, 40, 30))
    y = X @ torch.full((30, 1), 0.01) + 0.05 + 0.01 * torch.from_numpy(draw(3, 40, 1))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=5, shuffle=False)
    net = fill(torch, nn.Sequential(nn.Linear(30, 1)))
    loss = nn.MSELoss(reduction="none")
    trainer = torch.optim.SGD([{"params": net[0].weight, "weight_decay": 3.0}, {"params": net[0].bias}], lr=0.01)
    norms = []
    for _ in range(4):
        for a, b in loader:
            trainer.zero_grad()
            loss(net(a), b).mean().backward()
            trainer.step()
        norms.append(net[0].weight.norm().item())
        yield
    return {"norms": norms, "bias": net[0].bias}


def logistic_regression(torch: Any) -> Any:
    """Full-batch gradient descent; the gradient is also written by hand and compared inside."""
    X = torch.from_numpy(draw(4, 60, 3, dtype=np.float64))
    y = (X[:, 0] - 2 * X[:, 1] + 0.5 > 0).double()
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    worst, losses = 0.0, []
    for _ in range(25):
        z = X @ w + b
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
        gw, gb = torch.autograd.grad(loss, [w, b])
        by_hand = X.T @ (torch.sigmoid(z) - y) / len(y)
        worst = max(worst, (gw - by_hand).abs().max().item())
        with torch.no_grad():
            w -= 0.5 * gw
            b -= 0.5 * gb
        losses.append(loss.item())
        yield
    assert worst < 1e-12
    accuracy = ((X @ w + b > 0) == y.bool()).double().mean()
    return {"w": w, "losses": losses, "accuracy": accuracy}


def softmax_regression(torch: Any) -> Any:
    """From scratch as books do it: own softmax, own cross entropy with fancy indexing, accuracy counters."""
    X = torch.from_numpy(draw(5, 64, 8))
    y = torch.from_numpy(draw_integers(6, 4, 64))
    W = (torch.from_numpy(draw(7, 8, 4)) * 0.01).requires_grad_()
    b = torch.zeros(4, requires_grad=True)

    def softmax(O: Any) -> Any:
        X_exp = torch.exp(O)
        return X_exp / X_exp.sum(1, keepdim=True)

    def cross_entropy(y_hat: Any, y: Any) -> Any:
        return -torch.log(y_hat[range(len(y_hat)), y])

    def accuracy(y_hat: Any, y: Any) -> float:
        if len(y_hat.shape) > 1 and y_hat.shape[1] > 1:
            y_hat = y_hat.argmax(axis=1)
        cmp = y_hat.type(y.dtype) == y
        return float(cmp.type(y.dtype).sum())

    metric = []
    for _ in range(3):
        right = total = 0.0
        for i in range(0, 64, 16):
            a, t = X[i : i + 16], y[i : i + 16]
            y_hat = softmax(torch.matmul(a.reshape((-1, W.shape[0])), W) + b)
            cross_entropy(y_hat, t).mean().backward()
            with torch.no_grad():
                for p in (W, b):
                    p -= 0.5 * p.grad
                    p.grad.zero_()
            right += accuracy(y_hat, t)
            total += t.numel()
        metric.append(right / total)
        yield
    return {"W": W, "metric": metric}


def early_stopping(torch: Any) -> Any:
    """Polynomial fit; the best state is kept by deepcopy and restored when the validation loss stops falling."""
    nn = torch.nn
    x = torch.from_numpy(np.linspace(-1, 1, 60))
    features = torch.stack([x**k for k in range(10)], dim=1)
    y = torch.sin(3 * x).unsqueeze(1) + 0.3 * torch.from_numpy(draw(8, 60, 1, dtype=np.float64))
    train, test = slice(0, None, 2), slice(1, None, 2)
    net = fill(torch, nn.Linear(10, 1, bias=False).double())
    opt = torch.optim.Adam(net.parameters(), lr=0.1)
    best, best_state, wait, curve = float("inf"), None, 0, []
    for _ in range(60):
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(features[train]), y[train])
        loss.backward()
        opt.step()
        net.eval()
        with torch.no_grad():
            held_out = nn.functional.mse_loss(net(features[test]), y[test]).item()
        net.train()
        curve.append((loss.item(), held_out))
        if held_out < best:
            best, wait = held_out, 0
            best_state = copy.deepcopy(net.state_dict())
        else:
            wait += 1
            if wait >= 4:
                break
        yield
    net.load_state_dict(best_state)
    with torch.no_grad():
        again = nn.functional.mse_loss(net(features[test]), y[test]).item()
    return {"curve": curve, "best": best, "again": again, "weight": net.weight}


def k_means(torch: Any) -> Any:
    """Lloyd's algorithm until the assignment stands still: boolean masks of changing size."""
    points = torch.from_numpy(draw(9, 90, 2) + np.repeat(np.array([[0, 0], [5, 5], [-5, 5]], np.float32), 30, 0))
    centres = points[[0, 1, 2]].clone()
    assignment = torch.full((90,), -1)
    rounds = 0
    while True:
        distance = torch.cdist(points, centres) if rounds % 2 else ((points[:, None] - centres[None]) ** 2).sum(-1)
        new = distance.argmin(1)
        rounds += 1
        if torch.equal(new, assignment):
            break
        assignment = new
        for k in range(3):
            mask = assignment == k
            if mask.any():
                centres[k] = points[mask].mean(0)
    inertia = ((points - centres[assignment]) ** 2).sum()
    return {"centres": centres, "counts": torch.bincount(assignment, minlength=3), "rounds": rounds, "inertia": inertia}
    yield


def principal_components(torch: Any) -> Any:
    """PCA by SVD against the eigenvalues of the covariance; reconstruction error by rank."""
    X = torch.from_numpy(draw(10, 40, 6, dtype=np.float64) @ np.diag([5.0, 3, 2, 1, 0.5, 0.1]))
    centred = X - X.mean(0, keepdim=True)
    U, S, Vh = torch.linalg.svd(centred, full_matrices=False)
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(X) - 1))
    errors = [torch.linalg.norm(centred - (U[:, :k] * S[:k]) @ Vh[:k]).item() for k in range(1, 7)]
    scores = centred @ Vh[:2].T
    return {
        "S": S, "values": values.flip(0), "errors": errors, "scores": scores.abs(),
        "same": torch.allclose(values.flip(0), S**2 / (len(X) - 1)), "vectors": vectors.abs(),
    }  # fmt: skip
    yield


def gaussian_process(torch: Any) -> Any:
    """Marginal likelihood of an RBF kernel maximised through a Cholesky factor, then the posterior."""
    x = torch.linspace(0, 5, 20, dtype=torch.float64)
    y = torch.sin(x) + 0.1 * torch.from_numpy(draw(11, 20, dtype=np.float64))
    log_length = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_noise = torch.full((), -1.0, dtype=torch.float64, requires_grad=True)
    opt = torch.optim.Adam([log_length, log_noise], lr=0.05)

    def kernel(a: Any, b: Any) -> Any:
        return torch.exp(-0.5 * (a[:, None] - b[None, :]) ** 2 / torch.exp(log_length) ** 2)

    values = []
    for _ in range(15):
        opt.zero_grad()
        K = kernel(x, x) + torch.exp(log_noise) ** 2 * torch.eye(20, dtype=torch.float64)
        L = torch.linalg.cholesky(K)
        alpha = torch.cholesky_solve(y[:, None], L)
        nll = 0.5 * (y @ alpha[:, 0]) + torch.log(torch.diagonal(L)).sum() + 10 * np.log(2 * np.pi)
        nll.backward()
        opt.step()
        values.append(nll.item())
        yield
    with torch.no_grad():
        new = torch.linspace(0, 5, 7, dtype=torch.float64)
        K = kernel(x, x) + torch.exp(log_noise) ** 2 * torch.eye(20, dtype=torch.float64)
        mean = kernel(new, x) @ torch.linalg.solve(K, y)
        v = torch.linalg.solve_triangular(torch.linalg.cholesky(K), kernel(x, new), upper=False)
        variance = 1 - (v**2).sum(0)
    return {"values": values, "mean": mean, "variance": variance, "length": log_length.exp()}


def newton(torch: Any) -> Any:
    """Newton's method with a Hessian from func.hessian, and the same Hessian row by row with create_graph."""

    def rosenbrock(v: Any) -> Any:
        return (100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2).sum()

    v = torch.tensor([-0.5, 0.8, 1.2], dtype=torch.float64)
    path, worst = [], 0.0
    for _ in range(8):
        v = v.detach().requires_grad_(True)
        value = rosenbrock(v)
        (g,) = torch.autograd.grad(value, v, create_graph=True)
        rows = [torch.autograd.grad(g[i], v, retain_graph=True)[0] for i in range(3)]
        H = torch.func.hessian(rosenbrock)(v.detach())
        worst = max(worst, (torch.stack(rows) - H).abs().max().item())
        v = v.detach() - torch.linalg.solve(H, g.detach())
        path.append(value.item())
        yield
    assert worst < 1e-9
    return {"path": path, "v": v}


def l_bfgs(torch: Any) -> Any:
    """A closure optimizer with a line search, on nonlinear least squares."""
    t = torch.linspace(0, 3, 30, dtype=torch.float64)
    y = 2.5 * torch.exp(-1.3 * t) + 0.01 * torch.from_numpy(draw(12, 30, dtype=np.float64))
    p = torch.nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))
    opt = torch.optim.LBFGS([p], lr=1, max_iter=8, line_search_fn="strong_wolfe")
    losses = []

    def closure() -> Any:
        opt.zero_grad()
        loss = ((p[0] * torch.exp(-p[1] * t) - y) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        losses.append(float(opt.step(closure)))
    return {"p": p, "losses": losses}
    yield
