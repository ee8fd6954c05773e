"""The demonstration's report: one HTML page that needs nothing else, to read on any screen.

No script, no outside resource; light or dark as the reader's system asks. Read `write_report`.
"""

from __future__ import annotations

import platform
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adjoint._version import __version__
from adjoint.demo.data import DARKEST, Digits
from adjoint.viz import graph_svg, heat_map, line_chart

if TYPE_CHECKING:
    from adjoint.demo.run import Outcome
    from adjoint.demo.training import History

_SHOWN_MISREAD = 24
_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7fa;--card:#fff;--text:#1d2433;--soft:#5b6475;--line:#e1e5ec;
--ink:29,36,51;--good:#2f7d4f}
@media (prefers-color-scheme:dark){:root{--bg:#12151c;--card:#1a1e28;--text:#e8ecf4;--soft:#a3adbf;
--line:#2b3242;--ink:232,236,244;--good:#7fd6a2}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);line-height:1.5;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:960px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.7rem;margin:0 0 4px}h2{font-size:1.15rem;margin:0 0 10px}
p{margin:0 0 10px}.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px;
margin-top:18px}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;padding:0;
margin:18px 0 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 16px}
.facts dt{color:var(--soft);font-size:.85rem}.facts dd{margin:0;font-size:1.45rem;font-weight:650;
font-variant-numeric:tabular-nums}
.facts .good{color:var(--good)}
.scroll{overflow-x:auto}.scroll svg{display:block;margin:0 auto}
.fit svg{display:block;max-width:100%;height:auto;margin:0 auto}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:8px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 8px;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500}td{text-align:right;white-space:nowrap}
.digits{display:flex;flex-wrap:wrap;gap:14px;list-style:none;padding:0;margin:0}
.digits li{width:84px;font-size:.82rem;text-align:center}
.digits svg{display:block;width:84px;height:84px;border:1px solid var(--line);border-radius:6px;
margin-bottom:4px}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em;
overflow-wrap:anywhere}
a{color:inherit}
"""

# Counters of adjoint.stats() in the order of the report: key -> (words, how to print).
_ENGINE_ROWS: tuple[tuple[str, str, str], ...] = (
    ("operations", "Operations recorded", "count"),
    ("flushes", "Programs run", "count"),
    ("programs", "Programs compiled", "count"),
    ("kernels", "Kernels compiled, or found on disk", "count"),
    ("compile_seconds", "Time spent compiling", "seconds"),
    ("bytes_moved", "Bytes read and written by kernels", "bytes"),
)


def write_report(
    path: Path,
    outcome: Outcome,
    history: History,
    model: Any,
    held_out: Digits,
    predicted: Any,
) -> None:
    """Write the page; raises OSError when that fails."""
    labels, guesses = held_out.labels.tolist(), predicted.tolist()
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (labels, guesses), 1)
    wrong = [i for i, (a, b) in enumerate(zip(labels, guesses, strict=True)) if a != b]
    sections = [
        ("Loss and accuracy", _curves(history)),
        ("Confusion matrix", _confusion(confusion)),
        ("Misread digits", _misread(held_out, guesses, wrong)),
        ("Computation graph of one step", _graph(history, model)),
        ("What the engine did", _engine(outcome)),
        ("Files and data", _files(outcome)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Adjoint: handwritten digits</title><style>{_STYLE}</style></head><body><main>"
        "<h1>Reading handwritten digits</h1>"
        f'<p class="soft">A convolutional network of {outcome.parameters:,} parameters, trained '
        f"for {outcome.epochs} {_plural('epoch', outcome.epochs)} on 1,437 images of 8×8.</p>"
        f"{_facts(outcome)}{body}</main></body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _plural(word: str, n: int) -> str:
    return word if n == 1 else word + "s"


def _facts(outcome: Outcome) -> str:
    rows = [
        ("Held-out accuracy", f"{outcome.accuracy:.1%}", "good"),
        ("Read correctly", f"{outcome.right} of {outcome.held_out}", ""),
        ("Training time", _seconds(outcome.train_seconds), ""),
        ("Median step", _seconds(outcome.median_step_seconds), ""),
    ]
    cells = "".join(
        f'<div><dt>{name}</dt><dd class="{kind}">{value}</dd></div>' for name, value, kind in rows
    )
    return f'<dl class="facts">{cells}</dl>'


def _curves(history: History) -> str:
    steps = list(enumerate(history.step_loss, 1))
    epochs = history.epoch_accuracy
    # The mean over each epoch shows the trend through the noise of single batches.
    per = len(steps) // len(epochs)
    means = [
        ((k - 0.5) * per, sum(history.step_loss[(k - 1) * per : k * per]) / per)
        for k in range(1, len(epochs) + 1)
    ]
    loss = line_chart(
        {"loss of each batch": steps, "mean of each epoch": means},
        x_label="step",
        y_label="cross-entropy",
        title="Training loss",
        y_zero=True,
    )
    accuracy = line_chart(
        {"held-out accuracy": [(step, 100 * share) for step, share in epochs]},
        x_label="step",
        y_label="per cent",
        title="Accuracy on the held-out images after each epoch",
    )
    return f'<div class="fit pair">{loss}{accuracy}</div>'


def _confusion(confusion: np.ndarray) -> str:
    picture = heat_map(
        confusion.tolist(),
        [str(i) for i in range(10)],
        x_label="read as",
        y_label="written as",
        title="Confusion matrix of the held-out images",
    )
    return (
        '<p class="soft">Rows: the digit that was written. Columns: what the model read.</p>'
        f'<div class="fit">{picture}</div>'
    )


def _misread(held_out: Digits, guesses: list[int], wrong: list[int]) -> str:
    if not wrong:
        return "<p>None: all held-out digits were read correctly.</p>"
    images = held_out.images.detach().clone().numpy()[:, 0]
    labels = held_out.labels.tolist()
    items = "".join(
        f"<li>{digit_svg(images[i], f'A {labels[i]} that was read as {guesses[i]}')}"
        f"{labels[i]} read as {guesses[i]}</li>"
        for i in wrong[:_SHOWN_MISREAD]
    )
    more = len(wrong) - _SHOWN_MISREAD
    note = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    return f'<ul class="digits">{items}</ul>{note}'


def digit_svg(image: np.ndarray, label: str) -> str:
    """One 8x8 image with values 0 to 1 as squares of ink; `label` says it in words."""
    squares = "".join(
        f'<path d="M{x} {y}h1v1h-1z" fill-opacity="{ink:.2f}"/>'
        for y, row in enumerate(image)
        for x, ink in enumerate(np.round(row * DARKEST) / DARKEST)
        if ink > 0
    )
    return (
        f'<svg viewBox="0 0 8 8" role="img" aria-label="{escape(label)}" '
        f'shape-rendering="crispEdges" style="fill:rgb(var(--ink))">{squares}</svg>'
    )


def _graph(history: History, model: Any) -> str:
    picture = graph_svg(
        history.example,
        dict(model.named_parameters()),
        title="Computation graph of one training step",
    )
    return (
        '<p class="soft">Forward from top to bottom: green are the parameters, blue the operations '
        "with the shape of their result, orange the loss. Gradients flow back the same way.</p>"
        f'<div class="scroll">{picture}</div>'
    )


def _engine(outcome: Outcome) -> str:
    rows = [
        ("Training steps", f"{outcome.steps:,}"),
        ("Time per step, median", _seconds(outcome.median_step_seconds)),
        ("First step, with everything it compiles", _seconds(outcome.first_step_seconds)),
        ("Training, evaluation after each epoch included", _seconds(outcome.train_seconds)),
    ]
    for key, words, form in _ENGINE_ROWS:
        if outcome.engine.get(key):
            rows.append((words, _FORMS[form](outcome.engine[key])))
    if "operations" in outcome.engine:
        each = outcome.engine["operations"] / outcome.steps
        rows.append(("Operations per step", f"{each:,.0f}"))
    cells = "".join(f'<tr><th scope="row">{a}</th><td>{b}</td></tr>' for a, b in rows)
    machine = escape(
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    return (
        f"<table><tbody>{cells}</tbody></table>"
        f'<p class="soft" style="margin-top:10px">Adjoint {escape(__version__)}, {machine}: '
        "counted during training.</p>"
    )


def _files(outcome: Outcome) -> str:
    same = (
        "The saved model was loaded again and gave exactly the same scores."
        if outcome.reload_identical
        else "The saved model was loaded again and gave other scores: please report this."
    )
    return (
        f"<p>Model: <code>{escape(Path(outcome.model_file).name)}</code> (safetensors), beside "
        f"this page. {same} Seed {outcome.seed}.</p>"
        '<p class="soft">Data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten '
        "Digits, UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0; "
        "its test part, values unchanged. Held out is every fifth image, so writers occur in both "
        "parts.</p>"
    )


def _seconds(value: float) -> str:
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"


_FORMS = {"count": lambda v: f"{v:,.0f}", "seconds": _seconds, "bytes": _bytes}
