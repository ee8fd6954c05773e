"""Computes the polynomial coefficients of `adjoint.codegen.vecmath` and writes `vecmath_tables.py`.

Lives here: `FITS`, the table of every polynomial the vector mathematics evaluates (what is
approximated, on which interval, with which error weight, how many coefficients for float and for
double), and `remez`, the exchange algorithm that computes them. Read `FITS` first.

    python tools/minimax.py            write all tables
    python tools/minimax.py tan erf    print only these, with their error in bits

Each polynomial minimises max |weight(u) * (P(u) - target(u))| over the interval. The weight turns
an error of the polynomial into a relative error of the function that is built from it. The exchange
(E. Remez, 1934) runs on a dense grid of Chebyshev points in 200-bit arithmetic. Coefficients are
then rounded one at a time, the constant term first, and the remaining ones are fitted again, so
that later terms take up the rounding of earlier ones.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mpmath import mp, mpf

Function = Callable[[mpf], mpf]
TABLES = Path(__file__).resolve().parent.parent / "adjoint" / "codegen" / "vecmath_tables.py"


class Fit(NamedTuple):
    """One polynomial: `counts` is the number of coefficients per element type."""

    what: str
    target: Function
    weight: Function
    low: str
    high: str
    counts: dict[str, int]


def remez(target: Sequence, weight: Sequence, grid: Sequence, count: int) -> tuple[list, mpf]:
    """Best `count` coefficients on the grid, and the largest weighted error."""
    size = len(grid)
    marks = [round((size - 1) * (1 - mp.cos(mp.pi * i / count)) / 2) for i in range(count + 1)]
    best: tuple[list, mpf] = ([], mp.inf)
    for _ in range(30):
        rows, sides = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
        for i, mark in enumerate(marks):
            power = weight[mark]
            for j in range(count):
                rows[i, j] = power
                power *= grid[mark]
            rows[i, count] = (-1) ** i
            sides[i] = weight[mark] * target[mark]
        solution = mp.lu_solve(rows, sides)
        coefficients, level = list(solution[:count]), abs(solution[count])
        errors = [
            w * (mp.polyval(coefficients[::-1], u) - t)
            for w, u, t in zip(weight, grid, target, strict=True)
        ]
        worst = max(abs(e) for e in errors)
        if worst < best[1]:
            best = (coefficients, worst)
        if worst <= level * mpf("1.0001"):
            break
        marks = exchange(errors, count + 1)
    return best


def exchange(errors: Sequence, wanted: int) -> list[int]:
    """Positions of `wanted` alternating extremes of the error curve, the smallest ones dropped."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (error > 0) == (errors[peaks[-1]] > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > wanted:
        if len(peaks) == wanted + 1:  # only an end may go, or the signs would no longer alternate
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
            continue
        least = min(range(len(peaks)), key=lambda i: abs(errors[peaks[i]]))
        if least in (0, len(peaks) - 1):
            peaks.pop(least)
        else:
            other = (
                least - 1
                if abs(errors[peaks[least - 1]]) < abs(errors[peaks[least + 1]])
                else least + 1
            )
            for i in sorted((least, other), reverse=True):
                peaks.pop(i)
    if len(peaks) < wanted:  # a flat curve: spread the marks again
        size = len(errors)
        return [round((size - 1) * i / (wanted - 1)) for i in range(wanted)]
    return peaks


def round_to(value: mpf, element: str) -> float:
    """The nearest float or double."""
    return (
        struct.unpack("<f", struct.pack("<f", float(value)))[0]
        if element == "float"
        else float(value)
    )


def coefficients(fit: Fit, element: str) -> tuple[list[float], float]:
    """Rounded coefficients, constant term first, and the error they leave in bits."""
    count, low, high = (
        fit.counts[element],
        mp.mpf(mp.mpmathify(fit.low)),
        mp.mpf(mp.mpmathify(fit.high)),
    )
    points = 24 * count + 100
    grid = [
        (low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * points))
        for i in range(points)
    ]
    target, weight = [fit.target(u) for u in grid], [fit.weight(u) for u in grid]
    rest, scale = list(target), list(weight)
    found: list[float] = []
    for left in range(count, 0, -1):
        # Only the first terms are large enough for their rounding to be worth a new fit.
        if len(found) < 6:
            exact, _ = remez(rest, scale, grid, left)
        found.append(round_to(exact.pop(0), element))
        rest = [(t - found[-1]) / u for t, u in zip(rest, grid, strict=True)]
        scale = [w * u for w, u in zip(scale, grid, strict=True)]
    worst = max(
        abs(w * (mp.polyval(found[::-1], u) - t))
        for w, u, t in zip(weight, grid, target, strict=True)
    )
    return found, float(-mp.log(worst, 2))


def near_zero(function: Function, series: Function) -> Function:
    """`function`, and `series` where the closed form would cancel."""
    return lambda u: series(u) if abs(u) < mpf(2) ** -40 else function(u)


def both(single: int, double: int) -> dict[str, int]:
    return {"float": single, "double": double}


def root(function: Function) -> Function:
    """A function of z = x*x written with x."""
    return lambda z: function(mp.sqrt(z))


def erfcx(a: mpf) -> mpf:
    return mp.exp(a * a) * mp.erfc(a)


def erfc_ratio(u: mpf) -> mpf:
    """exp(a*a) * erfc(a) * (1 + a/4) as a function of 1/(1 + a/4) - 15/32."""
    a = 4 / (u + mpf(15) / 32) - 4
    return erfcx(a) * (1 + a / 4)


def erfinv_over(w: mpf) -> mpf:
    """erfinv(x) / x as a function of w = -log(1 - x*x)."""
    if w < mpf(2) ** -60:
        return mp.sqrt(mp.pi) / 2
    complement = -mp.expm1(-w)  # x*x
    x = mp.sqrt(complement)
    small = mp.exp(-w) / (1 + x)  # 1 - x
    y = mp.sqrt(w) * mpf("0.9") if w > 1 else x * mpf("0.9")
    for _ in range(60):  # Halley's method on erfc(y) - (1 - x)
        f = (mp.erfc(y) - small) / (-2 / mp.sqrt(mp.pi) * mp.exp(-y * y))
        step = f / (1 + y * f)
        y -= step
        if abs(step) < abs(y) * mpf(2) ** -120:
            break
    return y / x


LN2, PI = "log(2)", "pi"

FITS: dict[str, Fit] = {
    # exp(r) = 1 + r + r*r*P(r)
    "exp": Fit(
        "(exp(r) - 1 - r) / r**2",
        near_zero(lambda r: (mp.expm1(r) - r) / r**2, lambda r: mpf(1) / 2),
        lambda r: r * r * mp.exp(-r),
        "-0.3475",
        "0.3475",
        both(5, 10),
    ),
    # 2**r = 1 + r*P(r)
    "exp2": Fit(
        "(2**r - 1) / r",
        near_zero(lambda r: mp.expm1(r * mp.ln2) / r, lambda r: mp.ln2),
        lambda r: r * mpf(2) ** -r,
        "-0.502",
        "0.502",
        both(6, 11),
    ),
    # log(1 + f) = f - f*f/2 + f**3*P(f)
    "log": Fit(
        "(log(1+f) - f + f*f/2) / f**3",
        near_zero(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, lambda f: mpf(1) / 3),
        lambda f: f**3 / mp.log1p(f),
        "-0.2932",
        "0.4145",
        {"float": 8},
    ),
    # log(1 + f) = 2*s + s*z*P(z) with s = f / (2 + f), z = s*s
    "log_ratio": Fit(
        "(2*atanh(s)/s - 2) / z, z = s*s",
        root(lambda s: (2 * mp.atanh(s) / s - 2) / s**2),
        lambda z: z,
        "1e-12",
        "0.02945",
        {"double": 7},
    ),
    # atanh(s)/s = 1 + z/3 + z*z*P(z), scaled to base 2, for the extended logarithm of pow
    "log_pow": Fit(
        "2/log(2) * (atanh(s)/s - 1 - z/3) / z**2",
        root(lambda s: 2 / mp.ln2 * (mp.atanh(s) / s - 1 - s**2 / 3) / s**4),
        lambda z: z * z,
        "1e-12",
        "0.02945",
        both(3, 8),
    ),
    "sin": Fit(
        "(sin(r)/r - 1) / z, z = r*r",
        root(lambda r: (mp.sin(r) / r - 1) / r**2),
        lambda z: z,
        "1e-12",
        "0.63",
        both(3, 6),
    ),
    "cos": Fit(
        "(cos(r) - 1 + z/2) / z**2",
        root(lambda r: (mp.cos(r) - 1 + r * r / 2) / r**4),
        lambda z: z * z,
        "1e-12",
        "0.63",
        both(3, 6),
    ),
    "tan": Fit(
        "(tan(r)/r - 1) / z",
        root(lambda r: (mp.tan(r) / r - 1) / r**2),
        lambda z: z,
        "1e-12",
        "0.63",
        both(7, 14),
    ),
    "asin": Fit(
        "(asin(x)/x - 1) / z",
        root(lambda x: (mp.asin(x) / x - 1) / x**2),
        lambda z: z,
        "1e-12",
        "0.25",
        both(5, 12),
    ),
    "atan": Fit(
        "(atan(x)/x - 1) / z",
        root(lambda x: (mp.atan(x) / x - 1) / x**2),
        lambda z: z,
        "1e-12",
        "1",
        both(9, 20),
    ),
    "sinh": Fit(
        "(sinh(x)/x - 1) / z",
        root(lambda x: (mp.sinh(x) / x - 1) / x**2),
        lambda z: z,
        "1e-12",
        "1",
        both(4, 7),
    ),
    "tanh": Fit(
        "(tanh(x)/x - 1) / z",
        root(lambda x: (mp.tanh(x) / x - 1) / x**2),
        lambda z: z,
        "1e-12",
        "0.36",
        both(5, 11),
    ),
    # erf(x) = x + x*P(z)
    "erf": Fit(
        "erf(x)/x - 1",
        root(lambda x: mp.erf(x) / x - 1),
        root(lambda x: x / mp.erf(x)),
        "1e-12",
        "1",
        both(7, 13),
    ),
    # erf(x) = 1 - exp(-x * P(x)) for 1 <= x
    "erf_tail": Fit(
        "-log(erfc(x)) / x",
        lambda x: -mp.log(mp.erfc(x)) / x,
        lambda x: x * mp.erfc(x) / mp.erf(x),
        "0.999",
        "6",
        both(6, 17),
    ),
    # erfc(a) = exp(-a*a) * q * P(q - 15/32), q = 1 / (1 + a/4), for 0.8 <= a
    "erfc": Fit(
        "exp(a*a)*erfc(a)/q at q = u + 15/32, q = 1/(1 + a/4)",
        erfc_ratio,
        lambda u: 1 / erfc_ratio(u),
        "-0.3414",
        "0.3647",
        both(11, 25),
    ),
    # erfinv(x) = x * P(w - 2.5), w = -log(1 - x*x) < 5
    "erfinv": Fit(
        "erfinv(x)/x at w = u + 2.5",
        lambda u: erfinv_over(u + mpf(2.5)),
        lambda u: 1 / erfinv_over(u + mpf(2.5)),
        "-2.5",
        "2.5",
        both(10, 24),
    ),
    # the same for 5 <= w < 16, which is all float needs, and for 16 <= w
    "erfinv_mid": Fit(
        "erfinv(x)/x at sqrt(w) = u + 3",
        lambda u: erfinv_over((u + 3) ** 2),
        lambda u: 1 / erfinv_over((u + 3) ** 2),
        "-0.7641",
        "1",
        both(9, 23),
    ),
    "erfinv_tail": Fit(
        "erfinv(x)/x at sqrt(w) = u + 5",
        lambda u: erfinv_over((u + 5) ** 2),
        lambda u: 1 / erfinv_over((u + 5) ** 2),
        "-1",
        "1.01",
        {"double": 17},
    ),
    # log(gamma(z)) = (z - 1) * (z - 2) * P(z - 2)
    "lgamma": Fit(
        "lgamma(z) / ((z-1)*(z-2)) at z = u + 2",
        lambda u: mp.loggamma(u + 2) / ((u + 1) * u),
        lambda u: (u + 1) * u / mp.loggamma(u + 2),
        "-0.999999",
        "1",
        {"double": 28},
    ),
}


def main(names: list[str]) -> None:
    mp.prec = 200
    text = [
        '"""Polynomial coefficients of the vector mathematics, constant term first.',
        "",
        "Written by `tools/minimax.py` (a Remez exchange); change the fits there.",
        "`TABLES[name][element]` is a tuple of numbers exact in the element type. The comment",
        "above each says what the polynomial approximates, where, and its weighted error in bits.",
        '"""',
        "",
        "TABLES: dict[str, dict[str, tuple[float, ...]]] = {",
    ]
    for name, fit in FITS.items():
        if names and name not in names:
            continue
        results = {element: coefficients(fit, element) for element in fit.counts}
        bits = ", ".join(f"{element} {error:.1f}" for element, (_, error) in results.items())
        print(f"{name:12} {bits}", flush=True)
        text.append(f"    # {fit.what} on [{fit.low}, {fit.high}]:\n    # {bits} bits")
        text.append(f'    "{name}": {{')
        for element, (values, _) in results.items():
            text.append(f'        "{element}": (')
            text.extend(f"            {value!r}," for value in values)
            text.append("        ),")
        text.append("    },")
    text.append("}")
    if not names:
        TABLES.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
