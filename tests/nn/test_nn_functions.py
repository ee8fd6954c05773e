"""Functions of `nn.functional`: against NumPy formulas, finite differences, and PyTorch where it is installed.

`CASES` is the table: how to call a function in any library `T`, and what goes in. Every row is
checked for its derivative along a random direction, and against PyTorch in value and gradient.
`FORMULAS` states values independently, in NumPy.
"""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import adjoint


def real(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.standard_normal(shape)


def positive(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.uniform(0.1, 0.9, shape)


def classes(count: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.integers(0, count, shape)


def signs(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: rng.choice([-1.0, 1.0], shape)


def given(values: Any) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: np.array(values)


@dataclass
class Case:
    name: str
    call: Callable[..., Any]
    inputs: tuple[Callable[[np.random.Generator], np.ndarray], ...]
    tolerance: float = 1e-9
    constant: tuple[int, ...] = ()  # inputs without gradient

    def arrays(self) -> list[np.ndarray]:
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [make(rng) for make in self.inputs]


# Values at and around the kinks of all activations below, where conventions differ.
KINKS = given(np.array([-25.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 25.0]))


# PyTorch works with 1/6 rounded to float32 in this one.
COARSE = {"hardsigmoid": 1e-7}


def activation(name: str, *args: Any, **kwargs: Any) -> Case:
    text = ",".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
    return Case(
        f"{name}({text})",
        lambda T, x: getattr(T.nn.functional, name)(x, *args, **kwargs),
        (real(3, 4),),
        COARSE.get(name, 1e-9),
    )


ACTIVATIONS = [
    activation("relu"),
    activation("relu6"),
    activation("leaky_relu", 0.2),
    activation("elu", 1.3),
    activation("selu"),
    activation("celu", 0.5),
    activation("gelu"),
    activation("gelu", approximate="tanh"),
    activation("silu"),
    activation("mish"),
    activation("sigmoid"),
    activation("tanh"),
    activation("tanhshrink"),
    activation("softplus", 2.0, 5.0),
    activation("softsign"),
    activation("hardtanh", -0.5, 1.0),
    activation("hardswish"),
    activation("hardsigmoid"),
    activation("hardshrink", 0.5),
    activation("softshrink", 0.5),
    activation("threshold", 0.5, -2.0),
    activation("logsigmoid"),
    activation("glu", 1),
    activation("softmax", 1),
    activation("softmax", 0),
    activation("softmin", 1),
    activation("log_softmax", -1),
    activation("normalize", 2.0, 1),
    activation("normalize", 1.0, 0),
]


def f(name: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    return lambda T, *tensors: getattr(T.nn.functional, name)(*tensors, *args, **kwargs)


def loss(name: str, *inputs: Any, constant: tuple[int, ...] = (), **kwargs: Any) -> list[Case]:
    text = ",".join(f"{k}={v}" for k, v in kwargs.items())
    return [
        Case(f"{name}({text},{r})", f(name, reduction=r, **kwargs), inputs, constant=constant)
        for r in ("mean", "sum", "none")
    ]


def weighted(name: str, **kwargs: Any) -> Callable[..., Any]:
    return lambda T, x, y, w: getattr(T.nn.functional, name)(x, y, weight=w, **kwargs)


LOSSES = [
    *loss("mse_loss", real(4, 3), real(4, 3)),
    *loss("l1_loss", real(4, 3), real(4, 3)),
    *loss("smooth_l1_loss", real(4, 3), real(4, 3), beta=0.6),
    *loss("huber_loss", real(4, 3), real(4, 3), delta=0.7),
    *loss("cross_entropy", real(5, 3), classes(3, 5)),
    *loss("cross_entropy", real(5, 3), given([0, -100, 2, 1, -100])),
    *loss("cross_entropy", real(5, 3), classes(3, 5), label_smoothing=0.2),
    *loss("cross_entropy", real(5, 3), given([0, 1, 2, 1, 1]), ignore_index=1, label_smoothing=0.3),
    *loss("cross_entropy", real(2, 3, 4, 2), classes(3, 2, 4, 2)),
    *loss("cross_entropy", real(3), given(2)),
    *loss("cross_entropy", real(5, 3), positive(5, 3)),
    *loss("cross_entropy", real(5, 3), positive(5, 3), label_smoothing=0.1),
    *loss("nll_loss", real(5, 3), classes(3, 5)),
    *loss("nll_loss", real(2, 3, 4), classes(3, 2, 4)),
    *loss("binary_cross_entropy", positive(4, 2), positive(4, 2), constant=(1,)),
    *loss("binary_cross_entropy_with_logits", real(4, 2), positive(4, 2)),
    *loss("kl_div", real(4, 3), positive(4, 3)),
    *loss("kl_div", real(4, 3), real(4, 3), log_target=True),
    *loss("poisson_nll_loss", real(4, 3), positive(4, 3), constant=(1,)),
    *loss(
        "poisson_nll_loss",
        positive(4, 3),
        given(np.arange(12.0).reshape(4, 3)),
        log_input=False,
        full=True,
        constant=(1,),
    ),
    *loss("gaussian_nll_loss", real(4, 3), real(4, 3), positive(4, 3)),
    *loss("gaussian_nll_loss", real(4, 3), real(4, 3), positive(4, 1), full=True),
    *loss("hinge_embedding_loss", real(4, 3), signs(4, 3), constant=(1,)),
    *loss("margin_ranking_loss", real(6), real(6), signs(6), margin=0.3, constant=(2,)),
    *loss("soft_margin_loss", real(4, 3), signs(4, 3), constant=(1,)),
    *loss("cosine_embedding_loss", real(4, 3), real(4, 3), signs(4), margin=0.1, constant=(2,)),
    *loss("triplet_margin_loss", real(4, 3), real(4, 3), real(4, 3)),
    *loss("triplet_margin_loss", real(4, 3), real(4, 3), real(4, 3), swap=True, p=3.0, margin=2.0),
    *loss("multi_margin_loss", real(5, 3), classes(3, 5)),
    *loss("multi_margin_loss", real(5, 3), classes(3, 5), p=2, margin=0.7),
    *loss("multi_margin_loss", real(3), given(1)),
    *loss("multilabel_margin_loss", real(4, 3), given([[2, 0, -1], [-1, 1, 0], [0, 1, 2], [1, 1, -1]])),
    *loss("multilabel_margin_loss", real(4), given([3, -1, 0, 1])),
    *loss("multilabel_soft_margin_loss", real(4, 3), given(np.arange(12.0).reshape(4, 3) % 2), constant=(1,)),
    *loss("triplet_margin_with_distance_loss", real(4, 3), real(4, 3), real(4, 3), swap=True, margin=2.0),
    Case(
        "cross_entropy(weight)",
        weighted("cross_entropy"),
        (real(5, 3), classes(3, 5), positive(3)),
        constant=(2,),
    ),
    Case(
        "cross_entropy(weight,smoothing)",
        weighted("cross_entropy", label_smoothing=0.2),
        (real(2, 3, 4), classes(3, 2, 4), positive(3)),
        constant=(2,),
    ),
    Case(
        "cross_entropy(weight,probabilities)",
        weighted("cross_entropy"),
        (real(5, 3), positive(5, 3), positive(3)),
        constant=(2,),
    ),
    Case(
        "nll_loss(weight)",
        weighted("nll_loss"),
        (real(5, 3), given([0, 2, -100, 1, 1]), positive(3)),
        constant=(2,),
    ),
    Case(
        "bce(weight)",
        weighted("binary_cross_entropy"),
        (positive(4, 2), positive(4, 2), positive(2)),
        constant=(1, 2),
    ),
    Case(
        "bce_with_logits(pos_weight)",
        lambda T, x, y, w: T.nn.functional.binary_cross_entropy_with_logits(x, y, pos_weight=w),
        (real(4, 2), positive(4, 2), positive(2)),
        constant=(2,),
    ),
    Case("kl_div(batchmean)", f("kl_div", reduction="batchmean"), (real(4, 3), positive(4, 3))),
]

CONVOLUTIONS = [
    Case("conv1d", f("conv1d"), (real(2, 3, 9), real(4, 3, 3), real(4))),
    Case("conv1d(same)", f("conv1d", padding="same", dilation=2), (real(2, 3, 9), real(4, 3, 4))),
    Case("conv2d", f("conv2d"), (real(2, 3, 6, 5), real(4, 3, 3, 2), real(4))),
    Case("conv2d(1x1)", f("conv2d"), (real(2, 3, 4, 5), real(4, 3, 1, 1))),
    Case(
        "conv2d(stride)",
        f("conv2d", stride=(2, 3), padding=(1, 2)),
        (real(2, 3, 7, 8), real(4, 3, 3, 2)),
    ),
    Case(
        "conv2d(dilation)",
        f("conv2d", dilation=(2, 1), padding=1),
        (real(2, 3, 7, 8), real(4, 3, 3, 2)),
    ),
    Case("conv2d(groups)", f("conv2d", groups=2), (real(2, 4, 5, 5), real(6, 2, 3, 3), real(6))),
    Case(
        "conv2d(depthwise)",
        f("conv2d", groups=3, padding="same"),
        (real(2, 3, 5, 4), real(6, 1, 3, 3)),
    ),
    Case("conv2d(valid)", f("conv2d", padding="valid"), (real(2, 3, 5, 4), real(6, 3, 3, 3))),
    Case("conv2d(unbatched)", f("conv2d", padding=1), (real(3, 5, 5), real(2, 3, 3, 3), real(2))),
    Case(
        "conv3d",
        f("conv3d", stride=2, padding=1),
        (real(1, 2, 5, 4, 6), real(3, 2, 2, 3, 3), real(3)),
    ),
    Case(
        "conv_transpose1d",
        f("conv_transpose1d", stride=2, padding=1, output_padding=1),
        (real(2, 3, 5), real(3, 4, 3), real(4)),
    ),
    Case("conv_transpose2d", f("conv_transpose2d"), (real(2, 3, 4, 5), real(3, 4, 3, 2), real(4))),
    Case(
        "conv_transpose2d(all)",
        f(
            "conv_transpose2d",
            stride=(3, 2),
            padding=(1, 2),
            output_padding=(1, 0),
            groups=2,
            dilation=(1, 2),
        ),
        (real(2, 4, 3, 4), real(4, 3, 3, 2), real(6)),
    ),
    Case(
        "conv_transpose2d(crop)",
        f("conv_transpose2d", padding=3),
        (real(1, 2, 6, 6), real(2, 2, 2, 3)),
    ),
    Case(
        "conv_transpose3d",
        f("conv_transpose3d", stride=2),
        (real(1, 2, 2, 3, 2), real(2, 2, 2, 2, 3)),
    ),
    Case(
        "unfold",
        f("unfold", (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)),
        (real(2, 3, 6, 5),),
    ),
    Case(
        "fold",
        f("fold", (6, 5), (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)),
        (real(2, 18, 15),),
    ),
]

POOLING = [
    Case("max_pool1d", f("max_pool1d", 3, 2, 1), (real(2, 3, 9),)),
    Case("max_pool2d", f("max_pool2d", 2), (real(2, 3, 6, 5),)),
    Case(
        "max_pool2d(all)",
        f("max_pool2d", (3, 2), (2, 3), (1, 1), (2, 1), True),
        (real(2, 3, 9, 8),),
    ),
    Case("max_pool2d(unbatched)", f("max_pool2d", 3, 1), (real(3, 5, 6),)),
    Case("max_pool2d(long window)", f("max_pool2d", (20, 2), (3, 1), (4, 0)), (real(1, 2, 25, 4),)),
    Case(
        "max_pool2d(ties)",
        f("max_pool2d", 3, 2, 1),
        (given(np.arange(72.0).reshape(1, 2, 6, 6) // 9 % 2),),
    ),
    Case(
        "max_pool2d(long ties)",
        f("max_pool2d", (18, 2), 1),
        (given(np.arange(80.0).reshape(1, 1, 20, 4) // 9 % 2),),
    ),
    Case("max_pool3d", f("max_pool3d", 2, 1), (real(1, 2, 3, 4, 4),)),
    Case("avg_pool1d", f("avg_pool1d", 3, 2, 1), (real(2, 3, 9),)),
    Case("avg_pool2d", f("avg_pool2d", 2), (real(2, 3, 6, 5),)),
    Case("avg_pool2d(ceil)", f("avg_pool2d", 3, 2, 1, True), (real(2, 3, 6, 7),)),
    Case("avg_pool2d(ceil,not pad)", f("avg_pool2d", 3, 2, 1, True, False), (real(2, 3, 6, 7),)),
    Case(
        "avg_pool2d(not pad)",
        f("avg_pool2d", (3, 2), (1, 2), (1, 1), False, False),
        (real(2, 3, 6, 7),),
    ),
    Case("avg_pool2d(divisor)", f("avg_pool2d", 2, divisor_override=3), (real(3, 6, 7),)),
    Case("avg_pool2d(long window)", f("avg_pool2d", (18, 1), 2), (real(1, 2, 21, 4),)),
    Case("avg_pool3d", f("avg_pool3d", 2, 1), (real(1, 2, 3, 4, 4),)),
    *[
        Case(
            f"max_unpool{n}d({kernel},{stride},{padding})",
            lambda T, x, n=n, a=(kernel, stride, padding): getattr(T.nn.functional, f"max_unpool{n}d")(
                *getattr(T.nn.functional, f"max_pool{n}d")(x, *a, return_indices=True), *a, output_size=x.shape[-n:]
            ),
            (real(*shape),),
        )
        for n, shape, kernel, stride, padding in (
            (1, (2, 3, 7), 2, None, 0),
            (2, (2, 5, 6), 2, (3, 2), 0),
            (2, (1, 2, 6, 6), (2, 3), (2, 3), (1, 0)),
            (3, (1, 2, 4, 2, 5), 2, None, 0),
        )
    ],
    Case("lp_pool1d", f("lp_pool1d", 3.0, 2, 1), (positive(2, 2, 5),)),
    Case("lp_pool1d_ceil", f("lp_pool1d", 2.0, 2, None, True), (positive(2, 5),)),
    Case("lp_pool1d_inf", f("lp_pool1d", math.inf, 2), (real(1, 2, 4),)),
    Case("lp_pool3d", f("lp_pool3d", 2.0, (1, 2, 2)), (positive(1, 2, 2, 4, 4),)),
    Case("lp_pool3d_least", f("lp_pool3d", -math.inf, 2), (real(1, 1, 2, 4, 2),)),
    Case("LPPool2d", lambda T, x: T.nn.LPPool2d(2, (2, 1), stride=(1, 1))(x), (positive(1, 2, 3, 3),)),
    Case("lp_pool2d", f("lp_pool2d", 2.0, 2), (positive(1, 2, 4, 4),)),
    Case("lp_pool2d_ceil", f("lp_pool2d", 3.0, 2, None, True), (positive(1, 2, 5, 4),)),
    Case("lp_pool2d_inf", f("lp_pool2d", math.inf, (2, 3), 1), (real(1, 2, 4, 4),)),
    Case("lp_pool2d_least", f("lp_pool2d", -math.inf, 2, None, True), (real(1, 2, 5, 4),)),
    Case("adaptive_avg_pool1d", f("adaptive_avg_pool1d", 4), (real(2, 3, 9),)),
    Case("adaptive_avg_pool2d(1)", f("adaptive_avg_pool2d", 1), (real(2, 3, 6, 5),)),
    Case("adaptive_avg_pool2d(divides)", f("adaptive_avg_pool2d", (3, None)), (real(2, 3, 6, 5),)),
    Case("adaptive_avg_pool2d(general)", f("adaptive_avg_pool2d", (4, 3)), (real(3, 6, 5),)),
    Case("adaptive_avg_pool3d", f("adaptive_avg_pool3d", 2), (real(1, 2, 3, 4, 4),)),
    Case("adaptive_max_pool1d", f("adaptive_max_pool1d", 4), (real(2, 3, 9),)),
    Case("adaptive_max_pool2d", f("adaptive_max_pool2d", (4, 3)), (real(2, 3, 6, 6),)),
    Case("adaptive_max_pool3d", f("adaptive_max_pool3d", 2), (real(1, 2, 4, 3, 4),)),
]

NORMS = [
    Case("layer_norm", f("layer_norm", (4,)), (real(2, 3, 4),)),
    Case(
        "layer_norm(affine)",
        lambda T, x, w, b: T.nn.functional.layer_norm(x, (3, 4), w, b),
        (real(2, 3, 4), real(3, 4), real(3, 4)),
    ),
    Case(
        "rms_norm", lambda T, x, w: T.nn.functional.rms_norm(x, (4,), w), (real(2, 3, 4), real(4))
    ),
    Case(
        "group_norm",
        lambda T, x, w, b: T.nn.functional.group_norm(x, 2, w, b),
        (real(2, 4, 3, 2), real(4), real(4)),
    ),
    Case(
        "instance_norm",
        lambda T, x, w, b: T.nn.functional.instance_norm(x, weight=w, bias=b),
        (real(2, 4, 3, 2), real(4), real(4)),
    ),
    Case(
        "batch_norm(training)",
        lambda T, x, w, b: T.nn.functional.batch_norm(x, None, None, w, b, True),
        (real(5, 3, 2), real(3), real(3)),
    ),
    Case(
        "batch_norm(eval)",
        lambda T, x, m, v, w, b: T.nn.functional.batch_norm(x, m, v, w, b),
        (real(5, 3), real(3), positive(3), real(3), real(3)),
        constant=(1, 2),
    ),
    Case("local_response_norm", f("local_response_norm", 3), (real(2, 5, 4, 3),)),
]

SHAPES = [
    Case("linear", f("linear"), (real(2, 3, 4), real(5, 4), real(5))),
    Case("linear(no bias)", f("linear"), (real(4), real(5, 4))),
    Case("linear(vector)", f("linear"), (real(3, 4), real(4))),
    Case("bilinear", f("bilinear"), (real(3, 4), real(3, 2), real(5, 4, 2), real(5))),
    Case("embedding", f("embedding"), (given([[0, 2, 2], [4, 0, 1]]), real(5, 3))),
    Case(
        "embedding(padding)",
        f("embedding", padding_idx=-1),
        (given([[0, 4, 2], [4, 0, 1]]), real(5, 3)),
    ),
    *[
        Case(f"embedding_bag({mode})", f("embedding_bag", mode=mode), (given([[0, 2, 2], [4, 0, 1]]), real(5, 3)))
        for mode in ("sum", "mean", "max")
    ],
    *[
        Case(
            f"embedding_bag({mode},offsets)",
            lambda T, i, w, o, mode=mode: T.nn.functional.embedding_bag(i, w, o, mode=mode),
            (given([0, 2, 2, 4, 0, 1, 3]), real(5, 3), given([0, 2, 2, 6])),
        )
        for mode in ("sum", "mean", "max")
    ],
    Case(
        "embedding_bag(weights)",
        lambda T, i, w, p: T.nn.functional.embedding_bag(i, w, mode="sum", per_sample_weights=p),
        (given([[0, 2, 2], [4, 0, 1]]), real(5, 3), real(2, 3)),
    ),
    Case(
        "embedding_bag(weights,offsets,last)",
        lambda T, i, w, p, o: T.nn.functional.embedding_bag(i, w, o, mode="sum", per_sample_weights=p, include_last_offset=True),
        (given([0, 2, 2, 4, 0]), real(5, 3), real(5), given([0, 2, 2, 5])),
    ),
    *[
        Case(
            f"embedding_bag(padding,{mode})",
            lambda T, i, w, o, mode=mode: T.nn.functional.embedding_bag(i, w, o, mode=mode, padding_idx=-1),
            (given([0, 4, 2, 4, 0, 1]), real(5, 3), given([0, 3, 4])),
        )
        for mode in ("sum", "mean", "max")
    ],
    *[
        Case(f"embedding_bag(rows,padding,{mode})", f("embedding_bag", mode=mode, padding_idx=4), (given([[0, 4, 2], [4, 4, 4]]), real(5, 3)))
        for mode in ("mean", "max")
    ],
    Case("prelu", f("prelu"), (real(2, 3, 4), real(3))),
    Case("prelu(one)", f("prelu"), (real(5), real(1))),
    Case("pad", f("pad", (1, 2, 0, 3)), (real(2, 3, 4),)),
    Case("pad(value)", f("pad", (1, 2), value=1.5), (real(2, 3),)),
    Case("pad(negative)", f("pad", (-1, 2, 1, -2), value=0.5), (real(3, 4),)),
    Case("pad(reflect)", f("pad", (2, 1, 1, 2), mode="reflect"), (real(2, 3, 4, 5),)),
    Case("pad(replicate)", f("pad", (2, 1, 3, 0), mode="replicate"), (real(2, 3, 4, 5),)),
    Case("pad(circular)", f("pad", (2, 1, 0, 2), mode="circular"), (real(2, 3, 4, 5),)),
    Case("interpolate(nearest)", f("interpolate", scale_factor=2), (real(2, 3, 4, 5),)),
    Case("interpolate(nearest,size)", f("interpolate", size=(3, 7)), (real(2, 3, 4, 5),)),
    Case(
        "interpolate(nearest-exact)",
        f("interpolate", size=(3, 7), mode="nearest-exact"),
        (real(2, 3, 4, 5),),
    ),
    Case(
        "interpolate(linear)", f("interpolate", scale_factor=1.5, mode="linear"), (real(2, 3, 4),)
    ),
    Case(
        "interpolate(bilinear)", f("interpolate", size=(7, 3), mode="bilinear"), (real(2, 3, 4, 5),)
    ),
    Case(
        "interpolate(bilinear,corners)",
        f("interpolate", size=(7, 3), mode="bilinear", align_corners=True),
        (real(2, 3, 4, 5),),
    ),
    *[
        Case(f"interpolate({mode},{name},{antialias})", f("interpolate", mode=mode, antialias=antialias, **options), (real(1, 2, 7, 5),))
        for mode, antialias in (("bicubic", False), ("bicubic", True), ("bilinear", True))
        for name, options in {
            "smaller": {"size": (3, 2)},
            "larger": {"size": (11, 13)},
            "one": {"size": (1, 1)},
            "corners": {"size": (5, 9), "align_corners": True},
            "scale": {"scale_factor": (1.7, 0.63)},
            "recomputed": {"scale_factor": (1.7, 0.63), "recompute_scale_factor": True},
        }.items()
    ],
    Case("interpolate(lanczos)", f("interpolate", size=(5, 4), mode="lanczos", antialias=True), (real(2, 1, 13, 9),)),
    Case("interpolate(lanczos,larger)", f("interpolate", scale_factor=1.6, mode="lanczos", antialias=True), (real(1, 1, 5, 6),)),
    Case("interpolate(trilinear,odd)", f("interpolate", size=(5, 2, 7), mode="trilinear"), (real(1, 2, 3, 4, 5),)),
    Case("upsample_nearest", f("upsample_nearest", scale_factor=3), (real(1, 2, 3, 4),)),
    Case("upsample_bilinear", f("upsample_bilinear", size=(5, 3)), (real(1, 2, 3, 4),)),
    Case("pad(reflect,3d)", f("pad", (2, 1, 1, 2, 0, 1), mode="reflect"), (real(1, 2, 3, 4, 5),)),
    Case("pad(replicate,3d)", f("pad", (2, 1, 1, 2, 0, 4), mode="replicate"), (real(1, 2, 3, 4, 5),)),
    Case("pad(circular,3d)", f("pad", (2, 1, 1, 2, 0, 3), mode="circular"), (real(2, 3, 4, 5),)),
    *[
        Case(
            f"fractional_max_pool{n}d({name})",
            lambda T, x, s, n=n, options=options: getattr(T.nn.functional, f"fractional_max_pool{n}d")(x, _random_samples=s, **options),
            (real(*shape), lambda rng, n=n: rng.uniform(0, 1, (2, 3, n))),
            constant=(1,),
        )
        for n, name, shape, options in (
            (2, "size", (2, 3, 7, 9), {"kernel_size": (2, 3), "output_size": (4, 5)}),
            (2, "ratio", (2, 3, 7, 9), {"kernel_size": 2, "output_ratio": (0.5, 0.7)}),
            (2, "one", (2, 3, 4, 4), {"kernel_size": 3, "output_size": 1}),
            (3, "size", (2, 3, 5, 6, 4), {"kernel_size": (2, 3, 1), "output_size": (3, 2, 3)}),
        )
    ],
    *[
        Case(f"linear_cross_entropy({name})", lambda T, x, w, y, b, options=options: T.nn.functional.linear_cross_entropy(x, w, y, linear_bias=b, **options), inputs)
        for name, options, inputs in (
            ("classes", {"ignore_index": 2}, (real(6, 5), real(4, 5), classes(4, 6), real(4))),
            ("one", {"reduction": "sum"}, (real(5), real(4, 5), classes(4), real(4))),
            ("smooth", {"label_smoothing": 0.1}, (real(6, 5), real(4, 2, 3, 5), classes(4, 6, 2, 3), real(4, 2, 3))),
            ("probabilities", {"reduction": "none"}, (real(6, 5), real(4, 5), positive(6, 4), real(4))),
        )
    ],
    Case("interpolate(area)", f("interpolate", size=(3, 3), mode="area"), (real(2, 3, 4, 5),)),
    *[
        Case(f"grid_sample({mode},{padding},{align})", f("grid_sample", mode=mode, padding_mode=padding, align_corners=align), (real(2, 2, 3, 4), real(2, 2, 3, 2)))
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ],
    *[
        Case(f"grid_sample(bicubic,{padding},{align})", f("grid_sample", mode="bicubic", padding_mode=padding, align_corners=align), (real(1, 1, 3, 4), real(1, 2, 1, 2)))
        for padding, align in (("zeros", False), ("border", True), ("reflection", False))
    ],
    Case("grid_sample(3d)", f("grid_sample", align_corners=False), (real(1, 2, 3, 2, 3), real(1, 2, 1, 2, 3))),
    Case("affine_grid", f("affine_grid", (2, 1, 3, 4), align_corners=False), (real(2, 2, 3),)),
    Case("affine_grid(3d,corners)", f("affine_grid", (1, 1, 1, 2, 3), align_corners=True), (real(1, 3, 4),)),
    Case("channel_shuffle", f("channel_shuffle", 3), (real(2, 6, 3),)),
    Case("pdist(2)", f("pdist"), (real(4, 3),)),
    Case("pdist(1.5)", f("pdist", 1.5), (real(4, 3),)),
    Case("pdist(inf)", f("pdist", math.inf), (real(3, 3),)),
    Case("pdist(one row)", f("pdist"), (real(1, 3),)),
    Case("rrelu", f("rrelu", 0.1, 0.3), (real(3, 4),)),
    Case("pixel_shuffle", f("pixel_shuffle", 2), (real(2, 8, 3, 2),)),
    Case("pixel_unshuffle", f("pixel_unshuffle", 2), (real(2, 2, 4, 6),)),
    Case("cosine_similarity", f("cosine_similarity", dim=-1), (real(4, 3), real(1, 3))),
    Case("pairwise_distance", f("pairwise_distance", p=3.0), (real(4, 3), real(4, 3))),
    Case(
        "attention",
        f("scaled_dot_product_attention"),
        (real(2, 2, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 6)),
    ),
    Case(
        "attention(causal)",
        f("scaled_dot_product_attention", is_causal=True),
        (real(2, 4, 4), real(2, 4, 4), real(2, 4, 3)),
    ),
    Case(
        "attention(float mask)",
        f("scaled_dot_product_attention", scale=0.3),
        (real(2, 3, 4), real(2, 5, 4), real(2, 5, 4), real(3, 5)),
    ),
    Case(
        "attention(bool mask)",
        f("scaled_dot_product_attention"),
        (real(2, 3, 4), real(2, 5, 4), real(2, 5, 4), given(np.arange(15).reshape(3, 5) % 3 > 0)),
    ),
    Case(
        "attention(nothing seen)",
        f("scaled_dot_product_attention"),
        (real(2, 3), real(2, 3), real(2, 3), given([[True, False], [False, False]])),
    ),
    Case(
        "attention(shared heads)",
        f("scaled_dot_product_attention", enable_gqa=True),
        (real(1, 4, 3, 2), real(1, 2, 3, 2), real(1, 2, 3, 2)),
    ),
]

CASES = [*ACTIVATIONS, *LOSSES, *CONVOLUTIONS, *POOLING, *NORMS, *SHAPES]
AT_KINKS = [
    Case(c.name + " at kinks", c.call, (KINKS,), c.tolerance)
    for c in ACTIVATIONS
    if not c.name.startswith(("glu", "softm", "log_s", "norm"))
]


def run(T: Any, case: Case, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """The value of a case in library T, and the gradients of a fixed weighted sum of it."""
    tensors = []
    for i, array in enumerate(case.arrays()):
        t = T.from_numpy(array.copy()) if array.ndim else T.tensor(array.item())
        tensors.append(
            t.requires_grad_(True) if array.dtype == np.float64 and i not in case.constant else t
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = case.call(T, *tensors)
    weights = np.random.default_rng(seed).standard_normal(tuple(out.shape))
    (
        out * T.from_numpy(np.asarray(weights)) if weights.ndim else out * float(weights)
    ).sum().backward()
    grads = [
        t.grad.numpy().copy() if t.requires_grad and t.grad is not None else None for t in tensors
    ]
    return out.detach().numpy().copy(), grads


@pytest.mark.parametrize("case", CASES + AT_KINKS, ids=lambda c: c.name)
def test_same_as_pytorch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    value, grads = run(adjoint, case)
    expected, expected_grads = run(torch, case)
    assert value.shape == expected.shape and value.dtype == expected.dtype
    np.testing.assert_allclose(value, expected, rtol=case.tolerance, atol=case.tolerance)
    for got, want in zip(grads, expected_grads, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=case.tolerance, atol=case.tolerance)


@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("case", [c for c in CASES if "ties" not in c.name], ids=lambda c: c.name)
def test_derivative_along_a_direction(case: Case) -> None:
    """Backward's gradient times a direction is the central difference of the value along it."""
    arrays = case.arrays()
    rng = np.random.default_rng(1)
    directions = [
        rng.standard_normal(a.shape) if a.dtype == np.float64 and i not in case.constant else None
        for i, a in enumerate(arrays)
    ]

    def value(step: float) -> np.ndarray:
        tensors = []
        for a, d in zip(arrays, directions, strict=True):
            moved = a if d is None else a + step * d
            tensors.append(adjoint.from_numpy(moved) if a.ndim else adjoint.tensor(moved.item()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return case.call(adjoint, *tensors).detach().numpy().copy()

    out, grads = run(adjoint, case)
    weights = np.random.default_rng(0).standard_normal(out.shape)
    eps = 1e-6
    numeric = ((value(eps) - value(-eps)) * weights).sum() / (2 * eps)
    exact = sum(
        (g * d).sum()
        for g, d in zip(grads, directions, strict=True)
        if g is not None and d is not None
    )
    padded = "padding" in case.name and case.name.startswith("embedding")
    if not padded:  # the padding row has a derivative that is withheld on purpose
        assert abs(numeric - exact) <= 1e-6 * max(1.0, abs(numeric))


# ---- values stated in NumPy ----------------------------------------------------------------------


def np_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def np_conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    n, _, height, width = x.shape
    o, _, kh, kw = w.shape
    out = np.zeros((n, o, height - kh + 1, width - kw + 1))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            patch = x[:, :, i : i + kh, j : j + kw]
            out[:, :, i, j] = np.einsum("ncij,ocij->no", patch, w) + b
    return out


FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "relu()": lambda x: np.maximum(x, 0),
    "leaky_relu(0.2)": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu(1.3)": lambda x: np.where(x > 0, x, 1.3 * np.expm1(x)),
    "silu()": lambda x: x / (1 + np.exp(-x)),
    "gelu()": lambda x: x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x),
    "mish()": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "softsign()": lambda x: x / (1 + np.abs(x)),
    "logsigmoid()": lambda x: -np.log1p(np.exp(-x)),
    "hardtanh(-0.5,1.0)": lambda x: np.clip(x, -0.5, 1.0),
    "softmax(1)": lambda x: np_softmax(x, 1),
    "log_softmax(-1)": lambda x: np.log(np_softmax(x, -1)),
    "normalize(2.0,1)": lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)),
    "mse_loss(,mean)": lambda x, y: ((x - y) ** 2).mean(),
    "l1_loss(,sum)": lambda x, y: np.abs(x - y).sum(),
    "smooth_l1_loss(beta=0.6,mean)": lambda x, y: np.where(
        (d := np.abs(x - y)) < 0.6, d * d / 1.2, d - 0.3
    ).mean(),
    "huber_loss(delta=0.7,mean)": lambda x, y: np.where(
        (d := np.abs(x - y)) < 0.7, d * d / 2, 0.7 * (d - 0.35)
    ).mean(),
    "cross_entropy(,mean)": lambda x, y: (
        -np.log(np_softmax(x, 1))[np.arange(len(x)), y].mean()
        if x.shape == (5, 3) and y.ndim == 1 and y.min() >= 0
        else None
    ),
    "binary_cross_entropy_with_logits(,mean)": lambda x, y: (
        -(y * np.log(1 / (1 + np.exp(-x))) + (1 - y) * np.log(1 / (1 + np.exp(x)))).mean()
    ),
    "kl_div(,sum)": lambda x, y: (y * (np.log(y) - x)).sum(),
    "hinge_embedding_loss(,none)": lambda x, y: np.where(y == 1, x, np.maximum(0, 1 - x)),
    "conv2d": np_conv2d,
    "max_pool2d": lambda x: np.stack(
        [x[:, :, i : i + 2, j : j + 2].max((2, 3)) for i in (0, 2, 4) for j in (0, 2)], -1
    ).reshape(2, 3, 3, 2),
    "avg_pool2d": lambda x: np.stack(
        [x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2, 4) for j in (0, 2)], -1
    ).reshape(2, 3, 3, 2),
    "layer_norm": lambda x: (
        (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    ),
    "linear": lambda x, w, b: x @ w.T + b,
    "bilinear": lambda x, y, w, b: np.einsum("ni,oij,nj->no", x, w, y) + b,
    "embedding": lambda index, w: w[index],
    "attention": lambda q, k, v: np_softmax(q @ np.swapaxes(k, -1, -2) / 2.0, -1) @ v,
    "pad": lambda x: np.pad(x, ((0, 0), (0, 3), (1, 2))),
    "pad(reflect)": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (2, 1)), mode="reflect"),
    "pad(replicate)": lambda x: np.pad(x, ((0, 0), (0, 0), (3, 0), (2, 1)), mode="edge"),
    "pad(circular)": lambda x: np.pad(x, ((0, 0), (0, 0), (0, 2), (2, 1)), mode="wrap"),
    "interpolate(nearest)": lambda x: x.repeat(2, 2).repeat(2, 3),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_same_as_formula(name: str) -> None:
    checked = 0
    for case in CASES:
        if case.name == name:
            expected = FORMULAS[name](*case.arrays())
            if expected is not None:
                np.testing.assert_allclose(run(adjoint, case)[0], expected, rtol=1e-9, atol=1e-12)
                checked += 1
    assert checked, f"no case is called {name}"


def test_convolution_transpose_is_the_gradient_of_convolution() -> None:
    F = adjoint.nn.functional
    rng = np.random.default_rng(0)
    x = adjoint.from_numpy(rng.standard_normal((2, 3, 7, 6))).requires_grad_(True)
    w = adjoint.from_numpy(rng.standard_normal((4, 3, 3, 2)))
    out = F.conv2d(x, w, stride=2, padding=1)
    g = adjoint.from_numpy(rng.standard_normal(tuple(out.shape)))
    out.backward(g)
    back = F.conv_transpose2d(g, w, stride=2, padding=1, output_padding=(0, 0))
    np.testing.assert_allclose(
        x.grad.numpy()[:, :, : back.shape[2], : back.shape[3]], back.numpy(), rtol=1e-9
    )
    assert not x.grad.numpy()[:, :, back.shape[2] :].any()


# ---- extremes ------------------------------------------------------------------------------------

EXTREMES = [-1e4, -800.0, -90.0, -20.0, 0.0, 20.0, 90.0, 800.0, 1e4]


@pytest.mark.parametrize("case", AT_KINKS, ids=lambda c: c.name)
def test_no_nan_at_extremes(case: Case) -> None:
    x = adjoint.tensor(EXTREMES, dtype=adjoint.float32, requires_grad=True)
    out = case.call(adjoint, x)
    out.sum().backward()
    assert np.isfinite(out.detach().numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()


def test_softmax_of_large_and_infinite_values() -> None:
    F = adjoint.nn.functional
    x = adjoint.tensor([[1e4, 1e4 - 1.0, -math.inf]], dtype=adjoint.float64, requires_grad=True)
    F.softmax(x, 1)[0, 0].backward()
    p = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(F.softmax(x, 1).detach().numpy(), [[p, 1 - p, 0]], rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), [[p * (1 - p), -p * (1 - p), 0]], rtol=1e-9)
    assert F.log_softmax(x, 1)[0, 2].item() == -math.inf


def test_probabilities_of_zero_and_one() -> None:
    F = adjoint.nn.functional
    p = adjoint.tensor([0.0, 0.0, 1.0, 1.0], dtype=adjoint.float64, requires_grad=True)
    y = adjoint.tensor([0.0, 1.0, 0.0, 1.0], dtype=adjoint.float64)
    out = F.binary_cross_entropy(p, y, reduction="none")
    assert out.tolist() == [0.0, 100.0, 100.0, 0.0]
    out.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()
    assert p.grad[1].item() == -1e12 and p.grad[2].item() == 1e12


def test_max_pool_indices_and_nan() -> None:
    F = adjoint.nn.functional
    x = adjoint.tensor([[[1.0, 5.0, 5.0, 2.0], [5.0, 0.0, 1.0, 5.0]]])
    values, index = F.max_pool2d(x, 2, return_indices=True)
    assert values.tolist() == [[[5.0, 5.0]]] and index.tolist() == [[[1, 2]]]
    x = adjoint.tensor([[1.0, math.nan, 3.0, 2.0]])
    assert math.isnan(F.max_pool1d(x, 2)[0, 0].item()) and F.max_pool1d(x, 2)[0, 1].item() == 3


def test_one_hot() -> None:
    F = adjoint.nn.functional
    index = adjoint.tensor([[0, 2], [1, 1]])
    assert F.one_hot(index).tolist() == np.eye(3, dtype=int)[[[0, 2], [1, 1]]].tolist()
    assert F.one_hot(index, 5).shape == (2, 2, 5) and F.one_hot(index).dtype == adjoint.int64


# ---- randomness ----------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    F = adjoint.nn.functional
    adjoint.manual_seed(3)
    x = adjoint.ones(20000, requires_grad=True)
    out = F.dropout(x, 0.25)
    out.sum().backward()
    values = out.detach().numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(values.mean() - 1) < 0.02
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert (F.dropout(x, 0.25) != out).any().item()
    adjoint.manual_seed(3)
    assert (F.dropout(x, 0.25) == out).all().item()
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 1.0).sum().item() == 0


def test_channel_dropout_drops_whole_channels() -> None:
    out = adjoint.nn.functional.dropout2d(adjoint.ones(30, 20, 4, 5), 0.5).numpy()
    per_channel = out.reshape(600, 20)
    assert ((per_channel == 0).all(1) | (per_channel == 2).all(1)).all()
    assert 0.3 < (per_channel[:, 0] == 0).mean() < 0.7


@pytest.mark.parametrize(
    ("name", "rank", "alike", "warns"),
    [
        ("dropout1d", 2, (1,), False), ("dropout1d", 3, (2,), False),
        ("dropout2d", 2, (), True), ("dropout2d", 3, (2,), True), ("dropout2d", 4, (2, 3), False), ("dropout2d", 5, (2, 3, 4), True),
        ("dropout3d", 3, (1, 2), True), ("dropout3d", 4, (1, 2, 3), False), ("dropout3d", 5, (2, 3, 4), False),
    ],
)  # fmt: skip
def test_channels_of_inputs_of_any_rank(name: str, rank: int, alike: tuple[int, ...], warns: bool) -> None:
    """Which axes share what is drawn, also where PyTorch warns."""
    x = adjoint.ones(*(4, 5, 3, 2, 3)[:rank])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        out = sum([getattr(adjoint.nn.functional, name)(x, 0.5) for _ in range(20)]).numpy()
    assert bool(caught) == warns
    assert tuple([axis for axis in range(rank) if (out == out.take([0], axis)).all()]) == alike


def test_attention_dropout_keeps_the_mean() -> None:
    F = adjoint.nn.functional
    q, k = adjoint.randn(50, 4, 3), adjoint.randn(50, 6, 3)
    v = adjoint.ones(50, 6, 2)
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
    assert 0.9 < out.mean().item() < 1.1 and out.std().item() > 0.1


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    adjoint.manual_seed(0)
    out = adjoint.nn.functional.alpha_dropout(adjoint.randn(100000), 0.2, training=True)
    assert abs(out.mean().item()) < 0.02 and abs(out.std().item() - 1) < 0.02


def test_gumbel_softmax() -> None:
    adjoint.manual_seed(0)
    logits = adjoint.tensor([[0.0, math.log(3.0)]]).expand(4000, 2).clone().requires_grad_(True)
    soft = adjoint.nn.functional.gumbel_softmax(logits, tau=0.5)
    np.testing.assert_allclose(soft.sum(1).detach().numpy(), 1, rtol=1e-5)
    hard = adjoint.nn.functional.gumbel_softmax(logits, tau=0.5, hard=True)
    (hard[:, 1]).sum().backward()
    assert abs(hard[:, 1].mean().item() - 0.75) < 0.04
    assert logits.grad.abs().sum().item() > 0


# ---- errors --------------------------------------------------------------------------------------


def zeros(*shape: int) -> Any:
    return adjoint.zeros(shape)


ERRORS = [
    ("linear", lambda F: F.linear(zeros(2, 3), zeros(4, 5)), RuntimeError, r"\(2, 3\).*\(4, 5\)"),
    (
        "conv2d channels",
        lambda F: F.conv2d(zeros(2, 1, 7, 7), zeros(6, 3, 3, 3)),
        RuntimeError,
        "to have 3 channels, but got 1",
    ),
    (
        "conv2d rank",
        lambda F: F.conv2d(zeros(7, 7), zeros(6, 3, 3, 3)),
        RuntimeError,
        r"Expected 3D \(unbatched\) or 4D",
    ),
    (
        "conv2d kernel",
        lambda F: F.conv2d(zeros(1, 1, 2, 2), zeros(1, 1, 3, 3)),
        RuntimeError,
        "greater than actual input size",
    ),
    (
        "conv2d stride",
        lambda F: F.conv2d(zeros(1, 1, 5, 5), zeros(1, 1, 3, 3), stride=0),
        RuntimeError,
        "non-positive stride",
    ),
    (
        "conv2d same",
        lambda F: F.conv2d(zeros(1, 1, 5, 5), zeros(1, 1, 3, 3), stride=2, padding="same"),
        RuntimeError,
        "strided",
    ),
    (
        "conv_transpose2d",
        lambda F: F.conv_transpose2d(zeros(1, 2, 5, 5), zeros(3, 1, 3, 3)),
        RuntimeError,
        "to have 3 channels, but got 2",
    ),
    (
        "max_pool2d pad",
        lambda F: F.max_pool2d(zeros(1, 1, 5, 5), 2, padding=2),
        RuntimeError,
        "at most half",
    ),
    ("max_pool2d small", lambda F: F.max_pool2d(zeros(1, 1, 2, 2), 3), RuntimeError, "too small"),
    (
        "cross_entropy batch",
        lambda F: F.cross_entropy(zeros(5, 3), adjoint.zeros(4, dtype=adjoint.int64)),
        ValueError,
        r"\(5\) to match target batch_size \(4\)",
    ),
    (
        "cross_entropy dtype",
        lambda F: F.cross_entropy(zeros(5, 3), zeros(5)),
        RuntimeError,
        "expected scalar type Long",
    ),
    (
        "cross_entropy weight",
        lambda F: F.cross_entropy(zeros(5, 3), adjoint.zeros(5, dtype=adjoint.int64), zeros(2)),
        RuntimeError,
        "all 3 classes",
    ),
    (
        "cross_entropy smoothing",
        lambda F: F.cross_entropy(
            zeros(5, 3), adjoint.zeros(5, dtype=adjoint.int64), label_smoothing=2.0
        ),
        RuntimeError,
        "between 0.0 and 1.0",
    ),
    (
        "reduction",
        lambda F: F.mse_loss(zeros(2), zeros(2), reduction="avg"),
        ValueError,
        "avg is not a valid value",
    ),
    (
        "bce",
        lambda F: F.binary_cross_entropy(zeros(2), zeros(3)),
        ValueError,
        "different to the input size",
    ),
    (
        "bce logits",
        lambda F: F.binary_cross_entropy_with_logits(zeros(2), zeros(2, 1)),
        ValueError,
        "must be the same",
    ),
    ("softmax int", lambda F: F.softmax(adjoint.tensor([1, 2]), 0), NotImplementedError, "not implemented for 'Long'"),
    ("dropout", lambda F: F.dropout(zeros(3), 1.5), ValueError, "between 0 and 1"),
    ("one_hot dtype", lambda F: F.one_hot(zeros(3)), RuntimeError, "LongTensor"),
    (
        "one_hot range",
        lambda F: F.one_hot(adjoint.tensor([3]), 3),
        RuntimeError,
        "smaller than num_classes",
    ),
    ("embedding dtype", lambda F: F.embedding(zeros(3), zeros(4, 2)), RuntimeError, "Long, Int"),
    ("bag dtype", lambda F: F.embedding_bag(zeros(3, 1), zeros(4, 2)), RuntimeError, "Long, Int"),
    ("bag table", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4)), ValueError, "weight has to be a 2D Tensor"),
    ("bag table dtype", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2).long()), RuntimeError, "table of floating numbers"),
    ("bag axes", lambda F: F.embedding_bag(zeros(1, 1, 1).long(), zeros(4, 2)), ValueError, "1D or 2D Tensor"),
    ("bag offsets", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2)), ValueError, "offsets has to be a 1D Tensor"),
    ("bag offsets axes", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2), zeros(1, 1).long()), ValueError, "offsets has to be a 1D Tensor"),
    ("bag offsets dtype", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2), zeros(1)), RuntimeError, "int32 or int64"),
    ("bag both", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2), zeros(1).long()), ValueError, "offsets has to be None"),
    ("bag last", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2), zeros(0).long(), include_last_offset=True), RuntimeError, "at least 1"),
    ("bag start", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2), zeros(1).long() + 1).tolist(), RuntimeError, "out of bounds"),
    ("bag end", lambda F: F.embedding_bag(zeros(3).long(), zeros(4, 2), adjoint.tensor([0, 4])).tolist(), RuntimeError, "out of bounds"),
    ("bag index", lambda F: F.embedding_bag(zeros(3, 1).long() + 4, zeros(4, 2)).tolist(), RuntimeError, "out of bounds"),
    ("bag mode", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2), mode="prod"), ValueError, "sum, mean or max"),
    ("bag padding", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2), padding_idx=4), RuntimeError, "within num_embeddings"),
    ("bag weights", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2), per_sample_weights=zeros(3, 1)), NotImplementedError, "mode='sum'"),
    ("bag weights shape", lambda F: F.embedding_bag(zeros(3, 1).long(), zeros(4, 2), mode="sum", per_sample_weights=zeros(3)), ValueError, "same shape"),
    ("bag weights dtype", lambda F: F.embedding_bag(zeros(1, 1).long(), zeros(4, 2), mode="sum", per_sample_weights=zeros(1, 1).double()), RuntimeError, "dtype"),
    ("unpool axes", lambda F: F.max_unpool2d(zeros(2, 2), zeros(2, 2).long(), 2), RuntimeError, "3d or 4d Tensor"),
    ("unpool dtype", lambda F: F.max_unpool1d(zeros(1, 2), zeros(1, 2), 2), RuntimeError, "should be type int64"),
    ("unpool shape", lambda F: F.max_unpool1d(zeros(1, 2), zeros(1, 3).long(), 2), RuntimeError, "same as that of the input"),
    ("unpool size", lambda F: F.max_unpool1d(zeros(1, 2), zeros(1, 2).long(), 2, output_size=(9,)), ValueError, "must be between 2 and 6"),
    ("unpool sizes", lambda F: F.max_unpool1d(zeros(1, 2), zeros(1, 2).long(), 2, output_size=(4, 4)), ValueError, "1 or 3 elements"),
    ("unpool index", lambda F: F.max_unpool1d(zeros(1, 2), zeros(1, 2).long() + 4, 2).tolist(), RuntimeError, "out of bounds"),
    (
        "layer_norm",
        lambda F: F.layer_norm(zeros(2, 3), (4,)),
        RuntimeError,
        r"normalized_shape=\[4\]",
    ),
    (
        "group_norm",
        lambda F: F.group_norm(zeros(2, 3, 2), 2),
        RuntimeError,
        "divisible by num_groups",
    ),
    ("group_norm weight", lambda F: F.group_norm(zeros(2, 4, 2), 2, zeros(1)), RuntimeError, "Expected weight to be a vector"),
    ("group_norm bias", lambda F: F.group_norm(zeros(2, 4, 2), 2, None, zeros(4, 1)), RuntimeError, "Expected bias to be a vector"),
    ("instance_norm weight", lambda F: F.instance_norm(zeros(2, 3, 4), weight=zeros(1)), RuntimeError, "weight should contain"),
    ("instance_norm bias", lambda F: F.instance_norm(zeros(2, 3, 4), bias=zeros(2)), RuntimeError, "bias should contain"),
    ("instance_norm mean", lambda F: F.instance_norm(zeros(2, 3, 4), zeros(1), zeros(3)), RuntimeError, "running_mean should contain"),
    (
        "batch_norm",
        lambda F: F.batch_norm(zeros(1, 3), None, None, training=True),
        ValueError,
        "more than 1 value per channel",
    ),
    ("glu", lambda F: F.glu(zeros(2, 3)), RuntimeError, "must be even"),
    ("pad odd", lambda F: F.pad(zeros(3), (1,)), RuntimeError, "divisible by 2"),
    (
        "pad reflect",
        lambda F: F.pad(zeros(2, 3), (3, 0), mode="reflect"),
        RuntimeError,
        "less than the corresponding",
    ),
    (
        "pad mode",
        lambda F: F.pad(zeros(2, 3), (1, 0), mode="mirror"),
        NotImplementedError,
        "mirror",
    ),
    (
        "interpolate",
        lambda F: F.interpolate(zeros(1, 1, 2), size=3, scale_factor=2),
        ValueError,
        "only one of",
    ),
    ("grid_sample mode", lambda F: F.grid_sample(zeros(1, 1, 2, 2), zeros(1, 1, 1, 2), "cubic"), ValueError, "but got: 'cubic'"),
    ("grid_sample padding", lambda F: F.grid_sample(zeros(1, 1, 2, 2), zeros(1, 1, 1, 2), padding_mode="wrap"), ValueError, "but got: 'wrap'"),
    ("grid_sample bicubic", lambda F: F.grid_sample(zeros(1, 1, 2, 2, 2), zeros(1, 1, 1, 1, 3), "bicubic"), RuntimeError, "only supports 4D"),
    ("grid_sample axes", lambda F: F.grid_sample(zeros(1, 2, 2), zeros(1, 1, 2)), RuntimeError, "expected 4D or 5D input and grid"),
    ("grid_sample batch", lambda F: F.grid_sample(zeros(1, 1, 2, 2), zeros(2, 1, 1, 2)), RuntimeError, "same batch size"),
    ("grid_sample last", lambda F: F.grid_sample(zeros(1, 1, 2, 2), zeros(1, 1, 1, 3)), RuntimeError, "size 2 in last dimension"),
    ("grid_sample empty", lambda F: F.grid_sample(zeros(1, 1, 0, 2), zeros(1, 1, 1, 2)), RuntimeError, "non-empty spatial"),
    ("grid_sample dtype", lambda F: F.grid_sample(zeros(1, 1, 2, 2).double(), zeros(1, 1, 1, 2)), RuntimeError, "same floating dtype"),
    ("affine_grid dtype", lambda F: F.affine_grid(zeros(1, 2, 3).long(), (1, 1, 2, 2)), ValueError, "floating point type"),
    ("affine_grid axes", lambda F: F.affine_grid(zeros(1, 2, 3), (1, 1, 2)), NotImplementedError, "4D and 5D sizes"),
    ("affine_grid shape", lambda F: F.affine_grid(zeros(1, 3, 4), (1, 1, 2, 2)), ValueError, "shape Nx2x3"),
    ("affine_grid size", lambda F: F.affine_grid(zeros(1, 2, 3), (1, 1, 0, 2)), ValueError, "positive output size"),
    ("affine_grid batch", lambda F: F.affine_grid(zeros(2, 2, 3), (1, 1, 2, 2)), ValueError, "Expected 1 affine matrices"),
    (
        "attention",
        lambda F: F.scaled_dot_product_attention(zeros(2, 3), zeros(2, 4), zeros(2, 4)),
        RuntimeError,
        "do not fit",
    ),
    ("prelu", lambda F: F.prelu(zeros(2, 3), zeros(2)), RuntimeError, "parameter numbers = 2"),
    (
        "gaussian_nll",
        lambda F: F.gaussian_nll_loss(zeros(3), zeros(3), -adjoint.ones(3)),
        ValueError,
        "negative",
    ),
]


@pytest.mark.parametrize("call, kind, message", [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors_restate_the_call(call: Callable[[Any], Any], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        call(adjoint.nn.functional)


def test_class_out_of_range_is_reported() -> None:
    with pytest.raises((IndexError, RuntimeError)):
        adjoint.nn.functional.cross_entropy(zeros(2, 3), adjoint.tensor([0, 3])).item()


def test_shape_mismatch_warns() -> None:
    with pytest.warns(UserWarning, match="different to the input size"):
        adjoint.nn.functional.mse_loss(zeros(3, 1), zeros(3))


def test_padding_keeps_the_sign_of_zero() -> None:
    F = adjoint.nn.functional
    padded = F.pad(adjoint.ones(1), (1, 1), value=-0.0)
    assert (1 / padded).tolist() == [-np.inf, 1.0, -np.inf]
    assert (1 / F.pad(adjoint.ones(1), (1, 0))).tolist() == [np.inf, 1.0]


@pytest.mark.parametrize("name", ["elu", "selu", "celu"])
def test_slopes_far_below_zero_keep_their_digits(name: str) -> None:
    for dtype in ("float32", "float64"):
        x = adjoint.tensor([-1.0, -17.0, -40.0, -80.0], dtype=getattr(adjoint, dtype), requires_grad=True)
        getattr(adjoint.nn.functional, name)(x).sum().backward()
        scale = 1.0507009873554805 * 1.6732632423543772 if name == "selu" else 1.0
        np.testing.assert_allclose(x.grad.numpy(), scale * np.exp([-1.0, -17.0, -40.0, -80.0]), rtol=2e-6)


@pytest.mark.parametrize("name", ["huber_loss", "smooth_l1_loss"])
def test_robust_losses_at_zero_and_infinity(name: str) -> None:
    """The slope is bounded where the distance is infinite, and the second derivative at distance 0 is that of the square."""
    x = adjoint.tensor([0.0, 0.5, 3.0, math.inf, -math.inf], requires_grad=True)
    loss = getattr(adjoint.nn.functional, name)(x, adjoint.zeros(5), reduction="none")
    assert loss.tolist() == [0.0, 0.125, 2.5, math.inf, math.inf]
    (slope,) = adjoint.autograd.grad(loss.sum(), x, create_graph=True)
    assert slope.tolist() == [0.0, 0.5, 1.0, 1.0, -1.0]
    assert adjoint.autograd.grad(slope.sum(), x)[0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_mean_over_no_samples_is_nan() -> None:
    F = adjoint.nn.functional
    assert math.isnan(F.cross_entropy(adjoint.zeros(0, 3), adjoint.zeros(0, 3)).item())
    assert math.isnan(F.cross_entropy(adjoint.zeros(0, 3), adjoint.zeros(0, dtype=adjoint.int64)).item())


def test_second_derivatives_of_bags_and_unpooling() -> None:
    F = adjoint.nn.functional
    rng = np.random.default_rng(0)
    table, factors = (adjoint.tensor(rng.standard_normal(s), requires_grad=True) for s in ((3, 1), (4,)))
    index, offsets = adjoint.tensor([0, 2, 2, 1]), adjoint.tensor([0, 3])
    check = adjoint.autograd.gradgradcheck
    with adjoint.eager():
        assert check(lambda w, p: F.embedding_bag(index, w, offsets, mode="sum", per_sample_weights=p) ** 2, (table, factors))
        assert check(lambda w: F.embedding_bag(index, w, offsets, mode="max", padding_idx=1) ** 3, (table,))
        assert check(lambda x: F.max_unpool1d(x.T**3, adjoint.tensor([[1, 2, 5]]), 2), (table,))


def test_bags_at_their_edges() -> None:
    F = adjoint.nn.functional
    table = adjoint.tensor([[3.0, 4.0], [0.3, 0.4], [0.6, 0.8]], requires_grad=True)
    nothing = F.embedding_bag(adjoint.zeros(0).long(), table, adjoint.zeros(2).long(), mode="max")
    nothing.sum().backward()
    assert nothing.tolist() == [[0, 0], [0, 0]] and table.grad.abs().sum().item() == 0
    assert F.embedding_bag(adjoint.zeros(2, 0).long(), table).tolist() == [[0, 0], [0, 0]]
    assert F.embedding_bag(adjoint.tensor([1, 2], dtype=adjoint.int32), table, adjoint.zeros(0).int()).shape == (0, 2)
    half = F.embedding_bag(adjoint.tensor([[1, 2]]), table.half())
    assert half.dtype is adjoint.float16 and (half.float() - adjoint.tensor([0.45, 0.6])).abs().max().item() < 1e-3
    tied = adjoint.zeros(3, 1, requires_grad=True)
    F.embedding_bag(adjoint.tensor([2, 0]), tied, adjoint.tensor([0]), mode="max").sum().backward()
    assert tied.grad.tolist() == [[0], [0], [1]]
    scaled = table.detach().clone()
    out = F.embedding_bag(adjoint.tensor([[0, 0]]), scaled, max_norm=1.0, mode="sum")
    np.testing.assert_allclose(out.numpy(), [[1.2, 1.6]], rtol=1e-5)
    np.testing.assert_allclose(scaled.numpy(), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-5)


def test_sampling_an_image() -> None:
    """The identity gives the image, a batch may be empty, places that are no numbers give 0, and a default warns."""
    F = adjoint.nn.functional
    image = adjoint.arange(12.0).reshape(1, 1, 3, 4)
    identity = adjoint.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    for align in (False, True):
        grid = F.affine_grid(identity, (1, 1, 3, 4), align_corners=align)
        for mode in ("bilinear", "nearest"):
            assert adjoint.allclose(F.grid_sample(image, grid, mode, align_corners=align), image, atol=1e-5)
    nowhere = adjoint.full((1, 1, 2, 2), float("nan"))
    assert F.grid_sample(image, nowhere, padding_mode="border", align_corners=False).tolist() == [[[[0.0, 0.0]]]]
    assert F.grid_sample(image[:0], nowhere[:0], align_corners=False).shape == (0, 1, 1, 2)
    with pytest.warns(UserWarning, match="align_corners=False"):
        F.grid_sample(image, nowhere)
    half = F.grid_sample(image.half(), grid.half(), align_corners=True)
    assert half.dtype is adjoint.float16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_argument_may_be_given_by_name(dtype: str) -> None:
    """Also where its dtype is asked for before anything else."""
    F, x, w = adjoint.nn.functional, adjoint.ones(2, 4, 3).to(getattr(adjoint, dtype)), adjoint.ones(4)
    named = [F.group_norm(input=x, num_groups=2, weight=w), F.layer_norm(input=x, normalized_shape=(3,)), F.gelu(input=x)]
    plain = [F.group_norm(x, 2, w), F.layer_norm(x, (3,)), F.gelu(x)]
    for a, b in zip(named, plain, strict=True):
        assert a.dtype is b.dtype is x.dtype and adjoint.equal(a, b)
