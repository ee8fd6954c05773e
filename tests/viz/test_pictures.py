"""The SVG pictures: well formed, complete, escaped, and without anything from outside."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

import adjoint as torch
from adjoint.viz import graph_svg, heat_map, line_chart
from adjoint.viz.graph import collect_graph
from adjoint.viz.plot import ticks

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    return ["".join(t.itertext()) for t in ET.fromstring(picture).iter(f"{SVG}text")]


def test_the_graph_of_a_formula():
    x = torch.ones(2, 3, requires_grad=True)
    b = torch.tensor(0.5, requires_grad=True)
    y = torch.tanh(x * b).sum()
    picture = graph_svg(y, {"x": x, "b": b})
    words = texts(picture)
    for expected in ("Sum", "Tanh", "Mul", "x", "b", "2×3", "scalar"):
        assert expected in words
    root = ET.fromstring(picture)
    kinds = [g.get("class") for g in root.iter(f"{SVG}g")]
    assert kinds.count("leaf") == 2 and kinds.count("root") == 1 and kinds.count("op") == 2
    edges = [p for p in root.iter(f"{SVG}path") if p.get("class") == "edge"]
    assert len(edges) == 4
    assert root.find(f"{SVG}title") is not None and root.get("role") == "img"


def test_shared_nodes_are_drawn_once():
    x = torch.tensor(2.0, requires_grad=True)
    y = x * x
    nodes, cut = collect_graph(y * y, {"x": x})
    assert [n.title for n in nodes] == ["Mul", "Mul", "x"] and not cut
    assert nodes[0].inputs == [1, 1] and nodes[1].inputs == [2, 2]


def test_values_and_gradients():
    x = torch.tensor([1.0, -2.5], requires_grad=True)
    w = torch.tensor(3.0, requires_grad=True)
    y = (x * w).sum()
    y.backward(retain_graph=True)
    words = " ".join(texts(graph_svg(y, {"x": x, "w": w}, values=True)))
    assert "-2.5 … 1" in words and "grad 3 … 3" in words and "grad -1.5" in words
    assert "grad" not in " ".join(texts(graph_svg(y, {"x": x, "w": w})))


def test_names_are_escaped_and_long_graphs_cut():
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(50):
        y = y * 2
    picture = graph_svg(y, {"<&x>": x}, max_nodes=10)
    assert any("cut at 10" in t for t in texts(picture))
    assert len(collect_graph(y, max_nodes=10)[0]) == 10
    assert "<&x>" in texts(graph_svg(y, {"<&x>": x}))


def test_a_node_may_be_the_root_and_a_leaf_may_not():
    x = torch.ones(1, requires_grad=True)
    assert "Exp" in texts(graph_svg(x.exp().grad_fn))
    with pytest.raises(ValueError, match="history"):
        graph_svg(torch.ones(1))


def test_two_pictures_on_one_page_do_not_share_ids():
    x = torch.ones(1, requires_grad=True)
    ids = []
    for picture in (
        graph_svg(x * 2),
        graph_svg(x * 2),
        line_chart({"a": [(0, 1)]}),
        heat_map([[1]], "a"),
    ):
        ids += [e.get("id") for e in ET.fromstring(picture).iter() if e.get("id")]
    assert len(ids) == len(set(ids)) >= 8


def test_styles_define_what_the_pictures_use():
    x = torch.ones(1, requires_grad=True)
    for picture in (graph_svg(x * 2), line_chart({"a": [(0, 1), (1, 2)]}), heat_map([[1]], "a")):
        style = ET.fromstring(picture).find(f"{SVG}style").text
        light, dark = style.split("@media")[0], style.split("@media")[1]
        used = set(re.findall(r"var\((--[\w-]+)\)", picture))
        assert used and all(f"{name}:" in light and f"{name}:" in dark for name in used)
        classes = {c for e in ET.fromstring(picture).iter() for c in (e.get("class") or "").split()}
        assert classes - {"op"} <= set(re.findall(r"\.([a-z]+)", style))


def test_line_chart_draws_what_it_is_given():
    points = [(0.0, 4.0), (1.0, math.nan), (2.0, 2.0), (3.0, 0.0)]
    root = ET.fromstring(line_chart({"a<b": points, "c": [(1, 1)]}, x_label="step", y_zero=True))
    curves = [p.get("d") for p in root.iter(f"{SVG}path") if "curve" in (p.get("class") or "")]
    assert curves[0].count("L") == 2
    coordinates = [float(v) for v in curves[0].replace("M", " ").replace("L", " ").split()]
    xs, ys = coordinates[::2], coordinates[1::2]
    assert xs == sorted(xs) and ys == sorted(ys)  # falling values go down the screen
    assert xs[1] - xs[0] == pytest.approx(2 * (xs[2] - xs[1]), abs=0.2)
    assert "a<b" in ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]


def test_line_chart_edge_cases():
    ET.fromstring(line_chart({"flat": [(0, 3.0), (1, 3.0)]}))
    ET.fromstring(line_chart({"one": [(5, -2.0)]}))
    for bad in ({}, {str(i): [(0, 0)] for i in range(5)}, {"a": [(0, math.inf)]}):
        with pytest.raises(ValueError):
            line_chart(bad)


@pytest.mark.parametrize(
    "low, high", [(0, 1), (-3.7, 12), (0.001, 0.0017), (5, 5), (1e6, 3e9), (-2, -1)]
)
def test_ticks_are_round_and_cover(low, high):
    marks = ticks(low, high)
    assert (
        2 <= len(marks) <= 9
        and marks[0] <= low + 1e-9 * abs(low)
        and marks[-1] >= high - 1e-9 * abs(high)
    )
    step = marks[1] - marks[0]
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert any(lead == pytest.approx(m) for m in (1, 2, 5))


def test_heat_map():
    words = texts(heat_map([[12, 0], [3, 7]], ["cat", "d&g"], x_label="read", y_label="written"))
    assert {"12", "3", "7", "cat", "d&g", "read", "written"} <= set(words) and "0" not in words
    with pytest.raises(ValueError):
        heat_map([[1, 2]], ["a", "b"])
