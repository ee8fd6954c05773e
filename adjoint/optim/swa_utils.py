"""`torch.optim.swa_utils`: averages of a model's weights over training, and what belongs to them.

Stochastic weight averaging (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization") keeps
the mean of the weights after each of several epochs, taken at the constant rate that `SWALR` goes down to; an exponential
moving average forgets older ones. `AveragedModel` holds the averaged copy; `update_bn` measures the statistics of its batch
normalizations, which no average of weights has. Read `AveragedModel.update_parameters`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.module import Module
from adjoint.nn.normalization import _BatchNorm
from adjoint.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer
from adjoint.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], Any], None]


def get_swa_avg_fn() -> Average:
    """The mean so far, one more counted: averaged + (current - averaged) / (num_averaged + 1).

    >>> import adjoint as torch
    >>> mean = torch.optim.swa_utils.get_swa_avg_fn()
    >>> mean(torch.tensor(2.), torch.tensor(5.), 2)
    tensor(3.)
    """

    @torch.no_grad()
    def mean(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return mean


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """The exponential moving average: decay * averaged + (1 - decay) * current. ValueError for a decay outside of [0, 1].

    >>> import adjoint as torch
    >>> average = torch.optim.swa_utils.get_ema_avg_fn(0.75)
    >>> average(torch.tensor(2.), torch.tensor(6.), 1)
    tensor(3.)
    """
    _check_decay(decay)

    @torch.no_grad()
    def average(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * averaged_param + (1 - decay) * current_param

    return average


def get_swa_multi_avg_fn() -> MultiAverage:
    """`get_swa_avg_fn` of lists of tensors, in place of the first.

    >>> import adjoint as torch
    >>> averaged = [torch.tensor(2.)]
    >>> torch.optim.swa_utils.get_swa_multi_avg_fn()(averaged, [torch.tensor(5.)], 2)
    >>> averaged
    [tensor(3.)]
    """
    return _for_each(get_swa_avg_fn())


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """`get_ema_avg_fn` of lists of tensors, in place of the first. ValueError for a decay outside of [0, 1].

    >>> import adjoint as torch
    >>> averaged = [torch.tensor(2.)]
    >>> torch.optim.swa_utils.get_ema_multi_avg_fn(0.75)(averaged, [torch.tensor(6.)], 1)
    >>> averaged
    [tensor(3.)]
    """
    return _for_each(get_ema_avg_fn(decay))


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _for_each(average: Average) -> MultiAverage:
    @torch.no_grad()
    def update(averaged_params: list[Tensor], current_params: list[Tensor], num_averaged: Any) -> None:
        for averaged, current in zip(averaged_params, current_params, strict=True):
            averaged.copy_(average(averaged, current, num_averaged))

    return update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of those that `update_parameters` is given.

    model: it is copied, and stays as it is; the copy is `module`.  avg_fn: gives the new average from (average, parameter,
    how many were averaged), all tensors; without one, the mean.  multi_avg_fn: the same for lists of tensors, in place of
    the first list.  use_buffers: average the buffers, too; else they are those of the model given last.

    `n_averaged`, an int64 buffer, counts the updates. AssertionError for both functions at once.

    >>> import adjoint as torch
    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> averaged = torch.optim.swa_utils.AveragedModel(net)
    >>> for weight in (1.0, 2.0, 6.0):
    ...     torch.nn.init.constant_(net.weight, weight) is net.weight
    ...     averaged.update_parameters(net)
    True
    True
    True
    >>> averaged(torch.ones(1)).item(), averaged.n_averaged
    (3.0, tensor(3))
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model` into the averages; the first time, copy them. RuntimeError where shapes differ."""
        mine, given = self._averaged(self.module), self._averaged(model)
        _check_alike(mine, given)
        if self.n_averaged == 0:
            for averaged, current in zip(mine, given, strict=True):
                averaged.copy_(current)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(mine, given, self.n_averaged)
        else:
            _for_each(self.avg_fn or get_swa_avg_fn())(mine, given, self.n_averaged)
        if not self.use_buffers:
            for kept, current in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(current)
        self.n_averaged += 1

    def _averaged(self, model: Module) -> list[Tensor]:
        tensors: Iterator[Tensor] = iter(model.parameters())
        if self.use_buffers:
            tensors = itertools.chain(tensors, model.buffers())
        return [t.detach() for t in tensors]


def _check_alike(mine: list[Tensor], given: list[Tensor]) -> None:
    shapes, others = [list(t.shape) for t in mine], [list(t.shape) for t in given]
    if shapes != others:
        raise RuntimeError(f"update_parameters(): the averages have the shapes {shapes}, the model's parameters {others}; give the model that was copied")


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Measure the running statistics of the model's batch normalizations anew, as means over all batches of `loader`.

    loader: batches, or tuples and lists that begin with one. The model runs on them in training mode, without gradients; its
    mode and the momenta are what they were afterwards, also after an error. Without batch normalization nothing is run.

    >>> import adjoint as torch
    >>> norm = torch.nn.BatchNorm1d(1)
    >>> torch.optim.swa_utils.update_bn([torch.tensor([[1.], [3.]]), torch.tensor([[5.], [7.]])], norm)
    >>> norm.running_mean
    tensor([4.])
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)


def _linear(t: float) -> float:
    return t


def _cosine(t: float) -> float:
    return (1 - math.cos(math.pi * t)) / 2


STRATEGIES = {"cos": _cosine, "linear": _linear}


class SWALR(LRScheduler):
    """Goes from the rates of the optimizer to `swa_lr` within `anneal_epochs` epochs, and stays there.

    swa_lr: a number, or one for each parameter group.  anneal_strategy: "cos" or "linear". It acts on the rate of the epoch
    before, so that it may follow another schedule. ValueError for another strategy, for epochs that are no int of at least
    0, and for a list of another length.

    >>> import adjoint as torch
    >>> opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule = torch.optim.swa_utils.SWALR(opt, swa_lr=0.2, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(3):
    ...     opt.step()
    ...     schedule.step()
    ...     print(round(schedule.get_last_lr()[0], 4))
    0.6
    0.2
    0.2
    """

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos", last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        groups = optimizer.param_groups
        rates = swa_lr if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(groups)
        if len(rates) != len(groups):
            raise ValueError(f"swa_lr must have the same length as optimizer.param_groups. swa_lr has {len(rates)} values, param_groups has {len(groups)}.")
        for rate in rates:
            if not isinstance(rate, (int, float, Tensor)):
                raise TypeError(f"swa_lr must be a number, or a list with one for each group, got {type(rate).__name__}: {rate!r}")
        if anneal_strategy not in STRATEGIES:
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(groups, rates, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        before, now = self._left(step - 1), self._left(step)
        return [group["swa_lr"] + (group["lr"] - group["swa_lr"]) * (now / before if before else 0.0) for group in self.optimizer.param_groups]

    def _left(self, step: int) -> float:
        """The share of the distance to `swa_lr` that is left at a step."""
        if self.anneal_epochs == 0:
            return 0.0
        return 1 - STRATEGIES[self._anneal_strategy](min(max(step / self.anneal_epochs, 0.0), 1.0))


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
