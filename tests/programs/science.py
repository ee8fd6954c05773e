"""Programs beyond networks: differential equations, sampling, filters, reinforcement, custom derivatives, hooks.

Generators as in `regression`: `yield` ends an iteration, the returned dictionary must agree. Chaotic ones use float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from inputs import draw, draw_integers, fill


def scalar_engine(torch: Any) -> Any:
    """micrograd's sanity check and a net of single neurons, all 0-d tensors."""
    a = torch.tensor(-4.0, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g = g + 10.0 / f
    g.backward()

    class Neuron:
        def __init__(self, seed: int, n: int) -> None:
            self.w = [torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for v in draw(seed, n)]
            self.b = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)

        def __call__(self, x: Any) -> Any:
            return sum((w * v for w, v in zip(self.w, x, strict=True)), self.b).tanh()

    neurons = [Neuron(k, 3) for k in range(4)]
    out = Neuron(9, 4)
    params = [p for n in [*neurons, out] for p in [*n.w, n.b]]
    xs, ys = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0]], [1.0, -1.0, -1.0]
    losses = []
    for k in range(5):
        pred = [out([n(x) for n in neurons]) for x in xs]
        loss = sum((p - y) ** 2 for p, y in zip(pred, ys, strict=True))
        for p in params:
            p.grad = None
        loss.backward()
        for p in params:
            p.data += -(0.1 - 0.01 * k) * p.grad
        losses.append(loss.item())
        yield
    return {"g": g, "da": a.grad, "db": b.grad, "losses": losses}


def physics_informed(torch: Any) -> Any:
    """u'' + u = 0 with boundary values: second derivatives inside the loss, Adam."""
    nn = torch.nn
    net = fill(torch, nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 1)).double())
    x = torch.linspace(0, math.pi / 2, 20, dtype=torch.float64).reshape(-1, 1).requires_grad_(True)
    ends, values = torch.tensor([[0.0], [math.pi / 2]]).double(), torch.tensor([[0.0], [1.0]]).double()
    opt = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        opt.zero_grad()
        u = net(x)
        du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
        d2u = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
        loss = ((d2u + u) ** 2).mean() + ((net(ends) - values) ** 2).mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        yield
    return {"losses": losses, "u": u, "d2u": d2u}


def meta_learning(torch: Any) -> Any:
    """MAML: an inner step by autograd.grad with create_graph, the outer loss through it."""
    w = torch.tensor([0.5, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    outer = torch.optim.SGD([w], lr=0.05)
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def model(w: Any, x: Any) -> Any:
        return w[0] + w[1] * x + w[2] * torch.sin(3 * x)

    losses = []
    for _ in range(6):
        outer.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for phase in (0.3, 1.1, 2.0):
            target = torch.sin(x + phase)
            fast = w
            for _ in range(2):
                inner = ((model(fast, x) - target) ** 2).mean()
                (g,) = torch.autograd.grad(inner, fast, create_graph=True)
                fast = fast - 0.1 * g
            total = total + ((model(fast, x + 0.1) - torch.sin(x + 0.1 + phase)) ** 2).mean()
        total.backward()
        outer.step()
        losses.append(total.item())
        yield
    return {"losses": losses, "w": w}


def custom_function(torch: Any) -> Any:
    """autograd.Function with saved tensors and context values: a straight-through rounding and an exponential."""

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, i: Any) -> Any:
            result = i.exp()
            ctx.save_for_backward(result)
            return result

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            (result,) = ctx.saved_tensors
            return grad_output * result

    class RoundThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, levels: int) -> Any:
            ctx.levels = levels
            ctx.save_for_backward(x)
            return torch.round(x * levels) / levels

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.where(x.abs() <= 1, g, torch.zeros_like(g)) * (ctx.levels / 4), None

    p = torch.from_numpy(draw(0, 6) * 0.8).requires_grad_()
    target = torch.from_numpy(draw(1, 6))
    losses = []
    for _ in range(6):
        loss = ((Exp.apply(RoundThrough.apply(p, 4)) - target) ** 2).mean()
        p.grad = None
        loss.backward()
        with torch.no_grad():
            p.sub_(0.05 * p.grad)
        losses.append(loss.item())
        yield
    return {"p": p, "losses": losses}


def hooks_and_probes(torch: Any) -> Any:
    """Tensor hooks that rescale, retain_grad, forward hooks that collect activations, full backward hooks."""
    nn = torch.nn
    net = fill(torch, nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)))
    seen: list = []
    handle = net[1].register_forward_hook(lambda m, i, o: seen.append(o.detach().mean().item()))
    net[0].weight.register_hook(lambda g: g.clamp(-0.05, 0.05))
    X = torch.from_numpy(draw(2, 9, 4))
    norms, middle = [], []
    for k in range(5):
        if k == 1:
            handle.remove()
        hidden = net[0](X)
        hidden.retain_grad()
        hidden.register_hook(lambda g: g * 2)
        loss = net[2](net[1](hidden)).pow(2).mean()
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
        norms.append(net[0].weight.grad.abs().max().item())
        middle.append(hidden.grad.norm().item())
        if k > 1:  # without the hook it is another program
            yield
    return {"seen": seen, "norms": norms, "middle": middle, "weight": net[0].weight}


def markov_chain(torch: Any) -> Any:
    """Stationary distribution by powers, by eigenvectors and by a linear system; empirical counts of a walk."""
    P = torch.from_numpy(np.abs(draw(3, 5, 5, dtype=np.float64)))
    P = P / P.sum(1, keepdim=True)
    state = torch.full((5,), 0.2, dtype=torch.float64)
    steps = 0
    while True:
        new = state @ P
        steps += 1
        if (new - state).abs().sum() < 1e-12:
            break
        state = new
    A = torch.cat([P.T - torch.eye(5, dtype=torch.float64), torch.ones(1, 5, dtype=torch.float64)])
    b = torch.zeros(6, dtype=torch.float64)
    b[-1] = 1
    solved = torch.linalg.lstsq(A, b.unsqueeze(1)).solution.squeeze(1)
    uniform = np.random.default_rng(4).random(300)
    cumulative = P.cumsum(1)
    place, counts = 0, torch.zeros(5, dtype=torch.long)
    for u in uniform:
        place = min(4, int(torch.searchsorted(cumulative[place], float(u))))
        counts[place] += 1
    return {"new": new, "steps": steps, "solved": solved, "power": torch.linalg.matrix_power(P, 50)[0], "counts": counts}
    yield


def metropolis(torch: Any) -> Any:
    """Random-walk Metropolis on a banana: log densities, acceptance by a data-dependent branch, running moments."""
    steps = torch.from_numpy(draw(5, 120, 2, dtype=np.float64))
    uniform = np.random.default_rng(6).random(120)

    def log_density(v: Any) -> Any:
        return -0.5 * v[0] ** 2 - 2 * (v[1] - v[0] ** 2) ** 2

    x = torch.zeros(2, dtype=torch.float64)
    current = log_density(x)
    samples, accepted = [], 0
    for k in range(120):
        proposal = x + 0.7 * steps[k]
        candidate = log_density(proposal)
        if math.log(uniform[k]) < (candidate - current).item():
            x, current = proposal, candidate
            accepted += 1
        samples.append(x)
        if k > 3:
            yield
    chain = torch.stack(samples)
    return {"accepted": accepted, "mean": chain.mean(0), "cov": torch.cov(chain.T), "last": x}


def hamiltonian(torch: Any) -> Any:
    """Hamiltonian Monte Carlo: leapfrog steps with gradients from autograd, a distribution's log_prob as target."""
    D = torch.distributions
    scale = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    target = D.MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale)

    def gradient(q: Any) -> Any:
        q = q.detach().requires_grad_(True)
        return torch.autograd.grad(target.log_prob(q), q)[0]

    q = torch.tensor([1.0, -1.0], dtype=torch.float64)
    chain, energies = [], []
    for k in range(12):
        p = torch.from_numpy(draw(60 + k, 2, dtype=np.float64))
        before = 0.5 * (p**2).sum() - target.log_prob(q)
        new = q.clone()
        p = p + 0.1 * gradient(new)
        for _ in range(4):
            new = new + 0.2 * p
            p = p + 0.2 * gradient(new)
        new = new + 0.2 * p
        p = p + 0.1 * gradient(new)
        after = 0.5 * (p**2).sum() - target.log_prob(new)
        if (before - after).exp() > 0.5:
            q = new
        chain.append(q)
        energies.append((after - before).item())
        yield
    return {"chain": torch.stack(chain), "energies": energies}


def kalman_filter(torch: Any) -> Any:
    """Constant-velocity tracking in a loop of small matrices, and the noise level learnt through it."""
    F_ = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    H = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    measurements = torch.from_numpy(np.cumsum(np.ones(15)) + draw(7, 15, dtype=np.float64))
    log_q = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    opt = torch.optim.SGD([log_q], lr=0.1)
    values = []
    for _ in range(4):
        x, P = torch.zeros(2, 1, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
        nll = 0.0
        for z in measurements:
            x = F_ @ x
            P = F_ @ P @ F_.T + torch.exp(log_q) * torch.eye(2, dtype=torch.float64)
            S = H @ P @ H.T + 1.0
            K = P @ H.T @ torch.linalg.inv(S)
            r = z - (H @ x)
            x = x + K @ r
            P = (torch.eye(2, dtype=torch.float64) - K @ H) @ P
            nll = nll + 0.5 * (r**2 / S + torch.log(S)).sum()
        opt.zero_grad()
        nll.backward()
        opt.step()
        values.append(nll.item())
        yield
    return {"values": values, "x": x, "P": P, "log_q": log_q}


def lorenz(torch: Any) -> Any:
    """Runge-Kutta integration, in-place writes into a trajectory buffer, a stopping rule that depends on data."""

    def field(s: Any) -> Any:
        x, y, z = s.unbind()
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    state = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    trajectory = torch.empty(200, 3, dtype=torch.float64)
    h = 0.01
    n = 0
    for n in range(200):
        k1 = field(state)
        k2 = field(state + h / 2 * k1)
        k3 = field(state + h / 2 * k2)
        k4 = field(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        trajectory[n] = state
        if state[2] > 45:
            break
        if n > 3:
            yield
    return {"n": n, "trajectory": trajectory[: n + 1], "largest": trajectory[: n + 1].abs().amax(0)}


def neural_equation(torch: Any) -> Any:
    """Neural ODE: a module integrated by Heun's method, fitted to a spiral, with an adjoint-free backward."""
    nn = torch.nn
    F = torch.nn.functional
    times = np.linspace(0, 2, 9)
    truth = torch.tensor(2 * np.exp(-0.1 * times) * np.stack([np.cos(2 * times), -np.sin(2 * times)])).T
    field = fill(torch, nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 2)).double())
    opt = torch.optim.Adam(field.parameters(), lr=0.02)
    losses = []
    for _ in range(4):
        y = truth[0]
        path = [y]
        for a, b in zip(times, times[1:], strict=False):
            h = float(b - a)
            k = field(y)
            y = y + h / 2 * (k + field(y + h * k))
            path.append(y)
        loss = F.mse_loss(torch.stack(path), truth)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        yield
    return {"losses": losses, "path": torch.stack(path)}


def policy_gradient(torch: Any) -> Any:
    """REINFORCE on a chain of states: Categorical.log_prob of actions chosen by outside uniforms, returns, baseline."""
    policy = fill(torch, torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)))
    opt = torch.optim.Adam(policy.parameters(), lr=0.05)
    eye = torch.eye(5)
    rng = np.random.default_rng(8)
    scores, entropies = [], []
    for _ in range(6):
        state, log_probs, rewards, entropy = 2, [], [], 0.0
        for _ in range(6):
            dist = torch.distributions.Categorical(logits=policy(eye[state]))
            action = torch.tensor(int(rng.random() > dist.probs[0].item()))
            log_probs.append(dist.log_prob(action))
            entropy = entropy + dist.entropy()
            state = max(0, min(4, state + 2 * int(action) - 1))
            rewards.append(1.0 if state == 4 else -0.1)
        returns, R = [], 0.0
        for r in rewards[::-1]:
            R = r + 0.9 * R
            returns.insert(0, R)
        returns = torch.tensor(returns)
        returns = (returns - returns.mean()) / (returns.std() + 1e-6)
        loss = torch.stack([-lp * g for lp, g in zip(log_probs, returns, strict=True)]).sum() - 0.01 * entropy
        opt.zero_grad()
        loss.backward()
        opt.step()
        scores.append(sum(rewards))
        entropies.append(float(entropy))
        yield
    return {"scores": scores, "entropies": entropies, "weight": policy[0].weight}


def numpy_in_the_loop(torch: Any) -> Any:
    """A simulation whose environment is NumPy: shared memory both ways, writes seen from either side."""
    shared = np.zeros(4)
    t = torch.from_numpy(shared)
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    log = []
    for k in range(8):
        shared += np.sin(k + np.arange(4))
        loss = ((t * w - 1) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.05 * w.grad
        w.grad.zero_()
        t.mul_(0.9)
        view = w.detach().numpy()
        log.append(float(np.dot(view, shared)))
        yield
    array = np.asarray(torch.arange(3) + 1)
    return {"shared": shared, "log": log, "w": w, "array": array, "mixed": torch.tensor(array) * 2}


def running_buffers(torch: Any) -> Any:
    """Buffers updated in place through views, slices, masks and index_put; replay memory as a ring."""
    nn = torch.nn

    class Statistics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("ring", torch.zeros(5, 3))
            self.register_buffer("count", torch.tensor(0))
            self.register_buffer("best", torch.full((3,), -float("inf")))

        def forward(self, row: Any) -> Any:
            self.ring[int(self.count) % 5] = row
            self.count += 1
            better = row > self.best
            self.best[better] = row[better]
            n = min(int(self.count), 5)
            return (row - self.ring[:n].mean(0)) / (self.ring[:n].std(0, unbiased=False) + 1)

    module = Statistics()
    outs = []
    for k in range(12):
        outs.append(module(torch.from_numpy(draw(80 + k, 3))))
    grid = torch.zeros(4, 4)
    grid[1:3, 1:3] += 1
    grid.diagonal().fill_(7)
    grid.view(-1)[::5] -= 1
    grid[torch.tensor([0, 1]), torch.tensor([3, 2])] = torch.tensor([5.0, 6.0])
    grid.index_add_(0, torch.tensor([0, 0, 3]), torch.ones(3, 4))
    row = grid[2]
    row *= 2
    grid.T[0].copy_(torch.arange(4.0))
    return {"outs": torch.stack(outs), "state": module.state_dict()["ring"], "best": module.best, "grid": grid}
    yield


def game_of_life(torch: Any) -> Any:
    """A loop of convolutions and comparisons until the board repeats; integers and booleans only at the edges."""
    board = torch.from_numpy((draw_integers(9, 3, 10, 10) == 0).astype(np.float32))
    kernel = torch.ones(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 0
    seen: dict = {}
    generation = 0
    while generation < 30:
        key = tuple(board.flatten().int().tolist())
        if key in seen:
            break
        seen[key] = generation
        neighbours = torch.nn.functional.conv2d(board[None, None], kernel, padding=1)[0, 0]
        board = ((neighbours == 3) | ((board == 1) & (neighbours == 2))).float()
        generation += 1
        if generation > 3:
            yield
    return {"board": board, "generation": generation, "alive": int(board.sum())}


def adversarial_example(torch: Any) -> Any:
    """Gradients with respect to the input: FGSM, saliency, and a batch Jacobian with func.vmap-free loops."""
    nn = torch.nn
    net = fill(torch, nn.Sequential(nn.Linear(6, 10), nn.ELU(), nn.Linear(10, 3)))
    x = torch.from_numpy(draw(10, 4, 6))
    y = torch.tensor([0, 2, 1, 0])
    delta = torch.zeros_like(x, requires_grad=True)
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(net(x + delta), y)
        loss.backward()
        delta.data = (delta + 0.02 * delta.grad.detach().sign()).clamp(-0.1, 0.1)
        delta.grad.zero_()
        losses.append(loss.item())
        yield
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v).softmax(-1), x[0])
    forward = torch.func.jacfwd(lambda v: net(v).softmax(-1))(x[0])
    return {"losses": losses, "delta": delta, "jacobian": jacobian, "forward": forward}
