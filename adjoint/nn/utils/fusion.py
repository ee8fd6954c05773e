"""Batch normalization in evaluation, taken into the layer before it: its scale and shift are those of weights and bias."""

from __future__ import annotations

import copy
from typing import Any

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn.module import Module


def _fused(
    weight: Tensor, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None, axis: int
) -> tuple[Parameter, Parameter]:
    """(x W + b - mean) s / sqrt(var + eps) + shift, with s along `axis` of W."""
    factor = torch.rsqrt(var + eps)
    if scale is not None:
        factor = factor * scale
    along = [1] * weight.dim()
    along[axis] = -1
    centred = -mean if bias is None else bias - mean
    moved = centred * factor if shift is None else centred * factor + shift
    bias_grad = weight.requires_grad if bias is None else bias.requires_grad
    fused = (weight * factor.reshape(along)).detach().to(weight.dtype)
    return Parameter(fused, weight.requires_grad), Parameter(moved.detach().to(weight.dtype), bias_grad)


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a convolution that computes what it and a batch norm with these statistics compute.

    transpose: for transposed convolutions, whose outputs are the second axis of the weight.

    >>> import adjoint as torch
    >>> two = torch.full((1,), 2.0)
    >>> weight, bias = torch.nn.utils.fuse_conv_bn_weights(torch.ones(1, 1, 1), None, two, two * 2, 0.0, two, two)
    >>> weight.item(), bias.item()
    (1.0, 0.0)
    """
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(
    linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float, bn_w: Tensor | None, bn_b: Tensor | None
) -> tuple[Parameter, Parameter]:
    """Weight and bias of a linear layer that computes what it and a batch norm with these statistics compute.

    >>> import adjoint as torch
    >>> two = torch.full((1,), 2.0)
    >>> weight, bias = torch.nn.utils.fuse_linear_bn_weights(torch.ones(1, 1), None, two, two * 2, 0.0, two, two)
    >>> weight.item(), bias.item()
    (1.0, 0.0)
    """
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _check(layer: Module, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval! Call .eval() on both modules before")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("bn.running_mean and bn.running_var must not be None: the batch norm must track its statistics")


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that computes what it and the batch norm after it compute in evaluation.

    Raises AssertionError in training mode, and for a batch norm without running statistics.

    >>> import adjoint as torch
    >>> conv, norm = torch.nn.Conv1d(2, 3, 2).eval(), torch.nn.BatchNorm1d(3).eval()
    >>> x = torch.ones(1, 2, 4)
    >>> bool(torch.allclose(torch.nn.utils.fuse_conv_bn_eval(conv, norm)(x), norm(conv(x)), atol=1e-6))
    True
    """
    _check(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that computes what it and the batch norm after it compute in evaluation.

    Raises AssertionError in training mode, for a batch norm without running statistics, and for one of another number of
    features than the layer gives (1 is one for all).

    >>> import adjoint as torch
    >>> linear, norm = torch.nn.Linear(2, 3).eval(), torch.nn.BatchNorm1d(3).eval()
    >>> x = torch.ones(1, 2)
    >>> bool(torch.allclose(torch.nn.utils.fuse_linear_bn_eval(linear, norm)(x), norm(linear(x)), atol=1e-6))
    True
    """
    _check(linear, bn)
    if bn.num_features not in (linear.out_features, 1):
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, got "
            f"linear.out_features={linear.out_features} and bn.num_features={bn.num_features}"
        )
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return fused
