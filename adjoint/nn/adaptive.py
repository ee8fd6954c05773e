"""`AdaptiveLogSoftmaxWithLoss`: a softmax over very many classes whose rare ones share narrow layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn import functional as F
from adjoint.nn.containers import ModuleList, Sequential
from adjoint.nn.linear import Linear
from adjoint.nn.module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _Scores(NamedTuple):
    """Log-probability of each sample's class, and the loss."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax over classes that are sorted by frequency, most frequent first (Grave et al., 2017, section 4).

    The head decides between the first cutoffs[0] classes and the clusters of the others, which end at the further cutoffs and
    at n_classes; cluster i decides within itself by a layer of in_features / div_value^(i + 1) features. Input (N, in) or
    (in,), target (N,) or (): returns the log-probabilities `output` of the targets and their negated mean, `loss`.

    Every cluster computes every sample, so that no value is read and a training loop stays one program; the narrow layers
    and few parameters remain. Raises ValueError for cutoffs that do not rise between 1 and n_classes - 1; a target out of range
    is reported when the value is needed.

    >>> import adjoint as torch
    >>> layer = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
    >>> output, loss = layer(torch.ones(3, 16), torch.tensor([0, 7, 19]))
    >>> output.shape, bool(torch.allclose(loss, -output.mean()))
    (torch.Size([3]), True)
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if any(int(c) != c for c in cutoffs) or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] > n_classes - 1:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each value is "
                f"between 1 and n_classes-1; got cutoffs={cutoffs} and n_classes={n_classes}"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cutoffs[0]
        self.n_clusters = len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        made = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, head_bias, **made)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // div_value ** (i + 1))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, width, False, **made), Linear(width, size, False, **made)))

    def reset_parameters(self) -> None:
        self.head.reset_parameters()
        for layer in self.tail.modules():
            if isinstance(layer, Linear):
                layer.reset_parameters()

    def _check(self, input: Tensor, target: Tensor) -> None:
        if target.dim() > 1:
            raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported; got a target of shape {list(target.shape)}")
        if input.dim() != target.dim() + 1 or input.shape[:-1] != target.shape:
            raise RuntimeError(
                "Input and target should have the same size in the batch dimension: (N, in_features) and (N,), or (in_features,) and (), "
                f"got {list(input.shape)} and {list(target.shape)}"
            )

    def forward(self, input: Tensor, target: Tensor) -> _Scores:
        self._check(input, target)
        if input.dim() == 1:
            output, loss = self.forward(input.unsqueeze(0), target.unsqueeze(0))
            return _Scores(output.squeeze(0), loss)
        place = target  # in the head: the class itself, or its cluster; what is out of range is so there, too
        within: Any = 0.0
        for i, cluster in enumerate(self.tail):
            low, high = self.cutoffs[i], self.cutoffs[i + 1]
            chosen = (target >= low) & (target < high)
            place = torch.where(chosen, self.shortlist_size + i, place)
            scores = F.log_softmax(cluster(input), dim=1)
            own = scores.gather(1, (target - low).clamp(0, high - low - 1).unsqueeze(1)).squeeze(1)
            within = within + torch.where(chosen, own, 0.0)
        head = F.log_softmax(self.head(input), dim=1)
        output = head.gather(1, place.unsqueeze(1)).squeeze(1) + within
        return _Scores(output, -output.mean())

    def _all(self, input: Tensor, head: Tensor) -> Tensor:
        head = F.log_softmax(head, dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            at = self.shortlist_size + i
            parts.append(F.log_softmax(cluster(input), dim=1) + head[:, at : at + 1])
        return torch.cat(parts, 1)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probabilities of all classes: (N, in) to (N, n_classes)."""
        return self._all(input, self.head(input))

    def predict(self, input: Tensor) -> Tensor:
        """The likeliest class of each sample, (N, in) to (N,); where the head prefers a cluster, the likeliest of all classes."""
        head = self.head(input)
        first = head.argmax(1)
        return torch.where(first < self.shortlist_size, first, self._all(input, head).argmax(1))
