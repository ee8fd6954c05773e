"""A hand model's kinematics in tiny matrices: rotations filled element by element, and a Jacobian row by row.

Each of twenty joints turns its bone by three angles. The rotation matrices are written one element at a time, as such
models are written down, and multiplied along the chain; the residuals are distances of five fingers' ends from their
measured places. The Jacobian by all angles is one backward pass for each residual.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

JOINTS = 20
EVERY = 4  # a measured point at every fourth joint


def make(rng: np.random.Generator) -> Arrays:
    return {
        "angles": rng.uniform(-0.5, 0.5, size=(JOINTS, 3)),
        "bones": rng.normal(size=(JOINTS, 3)),
        "points": rng.normal(size=(JOINTS // EVERY, 3)),
    }


def rotation(torch: ModuleType, angles):
    """The matrix of three turns, about x, then y, then z, as its nine elements."""
    a, b, c = angles[0], angles[1], angles[2]
    sa, ca = torch.sin(a), torch.cos(a)
    sb, cb = torch.sin(b), torch.cos(b)
    sc, cc = torch.sin(c), torch.cos(c)
    R = torch.zeros(3, 3, dtype=torch.float64)
    R[0, 0] = cb * cc
    R[0, 1] = sa * sb * cc - ca * sc
    R[0, 2] = ca * sb * cc + sa * sc
    R[1, 0] = cb * sc
    R[1, 1] = sa * sb * sc + ca * cc
    R[1, 2] = ca * sb * sc - sa * cc
    R[2, 0] = -sb
    R[2, 1] = sa * cb
    R[2, 2] = ca * cb
    return R


def residuals(torch: ModuleType, angles, bones, points):
    turned = torch.eye(3, dtype=torch.float64)
    place = torch.zeros(3, dtype=torch.float64)
    found = []
    for j in range(JOINTS):
        turned = turned @ rotation(torch, angles[j])
        place = place + turned @ bones[j]
        if j % EVERY == EVERY - 1:
            found.append(place - points[j // EVERY])
    return torch.cat(found)


def eager(torch: ModuleType, data: Arrays) -> Case:
    angles = torch.tensor(data["angles"], requires_grad=True)
    bones, points = torch.tensor(data["bones"]), torch.tensor(data["points"])

    def step() -> Results:
        y = residuals(torch, angles, bones, points)
        rows = []
        for i in range(len(y)):
            angles.grad = None
            y[i].backward(retain_graph=True)
            rows.append(angles.grad.reshape(-1))
        return y.detach().numpy(), torch.stack(rows).numpy()

    return repeatable(step)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    jnp = jax.numpy
    angles, bones, points = (jnp.asarray(data[name]) for name in ("angles", "bones", "points"))

    def value(angles):
        turned, place, found = jnp.eye(3), jnp.zeros(3), []
        for j in range(JOINTS):
            (sa, sb, sc), (ca, cb, cc) = jnp.sin(angles[j]), jnp.cos(angles[j])
            R = jnp.array(
                [
                    [cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc],
                    [cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc],
                    [-sb, sa * cb, ca * cb],
                ]
            )
            turned = turned @ R
            place = place + turned @ bones[j]
            if j % EVERY == EVERY - 1:
                found.append(place - points[j // EVERY])
        y = jnp.concatenate(found)
        return y, y

    jacobian = jax.jit(jax.jacrev(value, has_aux=True))

    def step() -> Results:
        jac, y = jacobian(angles)
        return np.asarray(y), np.asarray(jac).reshape(len(y), -1)

    return repeatable(step)


HAND = Workload(
    name="hand",
    title="hand model: 20 joints with 3x3 matrices filled element by element, Jacobian row by row (15 rows)",
    target=8.0,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "torch": eager},
    rtol=1e-9,
    atol=(1e-9,),
)
