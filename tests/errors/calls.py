"""Good calls of every public function and method, from which bad ones are made.

`GOOD` lists one call per line over the tensors of `namespace`. `bad_calls(good)` replaces one argument at a time by
values that do not belong there, leaves one out, adds one that does not exist. Each is an expression that means the
same in Adjoint and in PyTorch, so that the outcomes can be compared.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

INDEX = [[0, 1, 1], [1, 0, 1]]


def namespace(torch: ModuleType) -> dict[str, Any]:
    """The names the expressions use."""
    ramp = lambda *shape: torch.arange(float(math.prod(shape))).reshape(*shape) / 10 + 0.1  # noqa: E731
    return dict(
        torch=torch, np=np, nn=torch.nn, F=torch.nn.functional, optim=torch.optim, linalg=torch.linalg,
        special=torch.special, dist=torch.distributions, data=torch.utils.data, init=torch.nn.init,
        x=ramp(2, 3), y=ramp(2, 3) + 1, v=ramp(3), u=ramp(3) * 2, s=torch.eye(3) * 2 + 0.5, m=ramp(3, 4),
        k=torch.tensor(INDEX), j=torch.tensor([1, 0]), b=torch.tensor(INDEX) > 0, n=torch.tensor([4, 6, 9]),
        batch=ramp(2, 3, 4), other=ramp(2, 4, 3), image=ramp(1, 2, 6, 6), kernel=ramp(4, 2, 3, 3), signal=ramp(1, 2, 8),
        narrow=ramp(4, 2, 3), volume=ramp(1, 2, 4, 4, 4), solid=ramp(4, 2, 3, 3, 3), p=torch.full((2, 3), 0.5),
        q=torch.full((2, 3), 0.25), classes=torch.tensor([2, 0]), signs=torch.tensor([1.0, -1.0]), bias=ramp(4),
        table=ramp(5, 3), wide=ramp(2, 8), nan=math.nan,
    )  # fmt: skip


GOOD: dict[str, str] = {}

GOOD["pointwise"] = """
torch.add(x, y)
torch.add(x, 2, alpha=3)
torch.sub(x, y)
torch.mul(x, y)
torch.div(x, y)
torch.div(x, y, rounding_mode='floor')
torch.pow(x, 2)
torch.pow(x, y)
torch.floor_divide(x, y)
torch.remainder(x, y)
torch.fmod(x, y)
torch.maximum(x, y)
torch.minimum(x, y)
torch.atan2(x, y)
torch.eq(x, y)
torch.lt(x, y)
torch.ge(x, 1)
torch.bitwise_and(k, k)
torch.bitwise_or(k, k)
torch.bitwise_xor(k, k)
torch.bitwise_not(k)
torch.logical_and(b, b)
torch.logical_not(b)
torch.neg(x)
torch.abs(x)
torch.sign(x)
torch.exp(x)
torch.log(x)
torch.sqrt(x)
torch.rsqrt(x)
torch.sin(x)
torch.tanh(x)
torch.sigmoid(x)
torch.relu(x)
torch.erf(x)
torch.erfinv(p)
torch.lgamma(x)
torch.digamma(x)
torch.floor(x)
torch.round(x)
torch.round(x, decimals=1)
torch.trunc(x)
torch.frac(x)
torch.square(x)
torch.reciprocal(x)
torch.isnan(x)
torch.isinf(x)
torch.isfinite(x)
torch.isclose(x, y)
torch.allclose(x, y)
torch.equal(x, y)
torch.where(b, x, y)
torch.where(b, x, 0.0)
torch.clamp(x, 0, 1)
torch.clamp(x, min=0)
torch.lerp(x, y, 0.5)
torch.lerp(x, y, p)
torch.addcmul(x, x, y, value=2)
torch.addcdiv(x, x, y, value=2)
torch.xlogy(x, y)
torch.logaddexp(x, y)
torch.nan_to_num(x, nan=0.0)
torch.heaviside(x, y)
torch.hypot(x, y)
torch.copysign(x, y)
torch.deg2rad(x)
torch.logit(p)
torch.sinc(x)
torch.softmax(x, 0)
torch.log_softmax(x, dim=1)
x + y
x - y
x * y
x / y
x // y
x % y
x ** 2
x < y
k & k
k << 1
2 ** x
1 / x
-x
~b
x.add(y)
x.mul(y)
x.clamp(0, 1)
x.pow(2)
x.sigmoid()
x.type(torch.float64)
x.to(torch.float64)
x.to('cpu')
x.softmax(1)
x.clone().add_(y)
x.clone().mul_(2)
x.clone().clamp_(0, 1)
x.clone().fill_(3)
x.clone().copy_(y)
x.clone().zero_()
x.clone().masked_fill_(b, 0)
x.where(b, y)
"""

GOOD["reductions"] = """
torch.sum(x)
torch.sum(x, 1)
torch.sum(x, dim=(0, 1), keepdim=True)
torch.prod(x)
torch.prod(x, 1)
torch.mean(x)
torch.mean(x, 1)
torch.var(x)
torch.var(x, 1)
torch.std(x, dim=1, keepdim=True)
torch.var_mean(x, 1)
torch.std_mean(x, 1)
torch.amax(x, 1)
torch.amin(x, dim=(0, 1))
torch.max(x)
torch.max(x, 1)
torch.max(x, y)
torch.min(x)
torch.min(x, 1)
torch.argmax(x)
torch.argmax(x, 1)
torch.argmin(x, 1)
torch.any(b)
torch.any(b, 1)
torch.all(b)
torch.all(b, 1)
torch.count_nonzero(x)
torch.count_nonzero(x, 1)
torch.cumsum(x, 1)
torch.cumprod(x, 1)
torch.cummax(x, 1)
torch.cummin(x, 1)
torch.logsumexp(x, 1)
torch.norm(x)
torch.norm(x, 2, 1)
torch.dist(x, y)
torch.median(x)
torch.median(x, 1)
torch.aminmax(x)
torch.aminmax(x, dim=1)
torch.nansum(x, 1)
torch.nanmean(x, 1)
torch.quantile(x, 0.5)
torch.quantile(x, 0.5, dim=1)
torch.diff(x)
torch.diff(x, dim=0)
torch.trapezoid(x)
torch.cov(x)
torch.corrcoef(x)
x.sum(1)
x.sum((0, 1))
x.mean(dim=0)
x.max(0)
x.argmax(1)
x.cumsum(0)
x.std(1)
x.norm(2)
x.item
x[0, 0].item()
x.tolist()
x.numpy()
"""

GOOD["shape"] = """
torch.reshape(x, (3, 2))
torch.permute(x, (1, 0))
torch.transpose(x, 0, 1)
torch.movedim(x, 0, 1)
torch.t(x)
torch.squeeze(x)
torch.squeeze(x, 0)
torch.unsqueeze(x, 0)
torch.flatten(x)
torch.flatten(x, 0, 1)
torch.unflatten(x, 1, (3, 1))
torch.broadcast_to(x, (4, 2, 3))
torch.broadcast_tensors(x, v)
torch.clone(x)
torch.detach(x)
torch.flip(x, (0,))
torch.narrow(x, 1, 0, 2)
torch.select(x, 1, 0)
torch.split(x, 2, 1)
torch.split(x, [1, 2], 1)
torch.chunk(x, 2, 1)
torch.unbind(x, 1)
torch.cat([x, y], 0)
torch.cat((x, y), dim=1)
torch.stack([x, y], 0)
torch.hstack([x, y])
torch.vstack([x, y])
torch.tile(x, (2, 1))
torch.repeat_interleave(x, 2)
torch.repeat_interleave(x, 2, dim=1)
torch.roll(x, 1)
torch.roll(x, 1, 0)
torch.tril(x)
torch.triu(x, 1)
torch.diag(v)
torch.diagonal(x)
torch.diagonal(x, 0, 0, 1)
torch.diag_embed(v)
torch.trace(x)
torch.meshgrid(v, u, indexing='ij')
torch.ravel(x)
torch.numel(x)
torch.swapaxes(x, 0, 1)
torch.broadcast_shapes((2, 1), (3,))
x.reshape(3, 2)
x.reshape((3, 2))
x.view(3, 2)
x.permute(1, 0)
x.transpose(0, 1)
x.expand(4, 2, 3)
x.repeat(2, 2)
x.squeeze(0)
x.unsqueeze(0)
x.flatten(0)
x.unfold(1, 2, 1)
x.size(0)
x.stride(0)
x.contiguous()
x.view_as(y)
x.expand_as(y)
x.type_as(y)
x.new_zeros(2, 3)
x.new_full((2, 3), 1.0)
x.new_tensor([1.0])
x.t()
x.split(1)
x.chunk(2)
x.unbind(0)
x.narrow(0, 0, 1)
x.diagonal()
x.tril()
x.roll(1, 0)
x.flip(0)
"""

GOOD["indexing"] = """
x[0]
x[0, 1]
x[j]
x[b]
x[0:1]
x[:, 1]
torch.gather(x, 1, k)
torch.index_select(x, 0, j)
torch.take(x, j)
torch.take_along_dim(x, k, 1)
torch.scatter(x, 1, k, y)
torch.scatter_add(x, 1, k, y)
torch.index_add(x, 0, j, y)
torch.index_copy(x, 0, j, y)
torch.index_fill(x, 0, j, 1.0)
torch.masked_fill(x, b, 1.0)
torch.masked_select(x, b)
torch.masked_scatter(x, b, y)
torch.nonzero(x)
torch.argsort(x, 1)
torch.sort(x, 1)
torch.topk(x, 2, 1)
torch.kthvalue(x, 1, 1)
torch.unique(x)
torch.bincount(n)
torch.histc(x, 4, 0, 1)
torch.searchsorted(v, u)
x.gather(1, k)
x.masked_fill(b, 0.0)
x.index_select(0, j)
x.scatter(1, k, 1.0)
x.sort(1)
x.topk(2)
"""

GOOD["linear algebra"] = """
torch.matmul(x, m)
torch.mm(x, m)
torch.mv(x, v)
torch.dot(v, u)
torch.bmm(batch, other)
torch.outer(v, u)
torch.addmm(s, s, s)
torch.addmm(s, s, s, beta=2, alpha=3)
torch.baddbmm(torch.ones(2, 3, 3), batch, other)
torch.addmv(v, s, u)
torch.kron(x, y)
torch.tensordot(x, m, 1)
torch.tensordot(x, m, dims=([1], [0]))
torch.einsum('ij,jk->ik', x, m)
torch.inverse(s)
torch.det(s)
torch.slogdet(s)
torch.logdet(s)
torch.cholesky(s)
torch.qr(s)
torch.svd(s)
torch.pinverse(s)
torch.linalg.matrix_power(s, 2)
torch.cross(s, s, dim=1)
torch.cdist(x, y)
linalg.inv(s)
linalg.det(s)
linalg.slogdet(s)
linalg.solve(s, s)
linalg.solve_triangular(s, s, upper=True)
linalg.cholesky(s)
linalg.eigh(s)
linalg.eigvalsh(s)
linalg.svd(s)
linalg.svdvals(s)
linalg.qr(s)
linalg.pinv(s)
linalg.lstsq(s, s)
linalg.norm(s)
linalg.norm(s, 2)
linalg.vector_norm(s, 2)
linalg.matrix_norm(s)
linalg.matrix_rank(s)
linalg.cond(s)
linalg.cross(s, s)
linalg.multi_dot([s, s])
linalg.matmul(s, s)
linalg.diagonal(s)
x @ m
s.inverse()
x.mm(m)
x.matmul(m)
v.dot(u)
s.det()
s.cholesky()
"""

GOOD["creation"] = """
torch.tensor([1.0, 2.0])
torch.tensor([1.0], dtype=torch.float64)
torch.as_tensor([1.0])
torch.from_numpy(np.ones(2))
torch.zeros(2, 3)
torch.zeros((2, 3))
torch.ones(2, 3)
torch.empty(2, 3)
torch.full((2, 3), 1.0)
torch.zeros_like(x)
torch.ones_like(x)
torch.full_like(x, 2.0)
torch.eye(3)
torch.eye(3, 4)
torch.arange(5)
torch.arange(0, 5, 2)
torch.linspace(0, 1, 5)
torch.logspace(0, 1, 5)
torch.rand(2, 3)
torch.randn(2, 3)
torch.rand_like(x)
torch.randn_like(x)
torch.randint(0, 5, (2, 3))
torch.randint(5, (2, 3))
torch.randperm(5)
torch.normal(x, y)
torch.normal(0.0, 1.0, (2, 3))
torch.bernoulli(p)
torch.multinomial(p, 2)
torch.poisson(x)
torch.manual_seed(3)
torch.zeros(2, device='cpu')
torch.zeros(2, dtype=torch.float32)
torch.is_tensor(x)
torch.result_type(x, y)
torch.promote_types(torch.float32, torch.int64)
torch.device('cpu')
torch.set_default_dtype(torch.float32)
torch.clone(x).uniform_(0, 1)
torch.clone(x).normal_(0, 1)
torch.clone(x).bernoulli_(0.5)
torch.clone(x).exponential_(1.0)
torch.clone(x).random_(0, 5)
"""

GOOD["functional"] = """
F.relu(x)
F.gelu(x)
F.gelu(x, approximate='tanh')
F.silu(x)
F.elu(x, 1.0)
F.celu(x, 1.0)
F.selu(x)
F.leaky_relu(x, 0.1)
F.hardtanh(x, -1.0, 1.0)
F.relu6(x)
F.softplus(x, 1.0)
F.softsign(x)
F.mish(x)
F.hardswish(x)
F.hardsigmoid(x)
F.logsigmoid(x)
F.tanhshrink(x)
F.softshrink(x, 0.5)
F.hardshrink(x, 0.5)
F.threshold(x, 0.1, 0.0)
F.prelu(x, v)
F.glu(wide, 1)
F.softmax(x, dim=1)
F.softmin(x, dim=1)
F.log_softmax(x, dim=1)
F.gumbel_softmax(x, 1.0)
F.linear(x, table)
F.bilinear(x, y, torch.ones(4, 3, 3))
F.embedding(j, table)
F.one_hot(j, 3)
F.dropout(x, 0.5)
F.dropout(x, 0.5, False)
F.alpha_dropout(x, 0.5)
F.conv1d(signal, narrow)
F.conv2d(image, kernel)
F.conv2d(image, kernel, bias, 1, 1)
F.conv2d(image, kernel, stride=2, padding='valid')
F.conv2d(image, kernel, dilation=2, groups=1)
F.conv3d(volume, solid)
F.conv_transpose1d(signal, torch.ones(2, 3, 3))
F.conv_transpose2d(image, torch.ones(2, 3, 3, 3))
F.unfold(image, 2)
F.fold(torch.ones(1, 8, 9), (4, 4), 2)
F.max_pool1d(signal, 2)
F.max_pool2d(image, 2)
F.max_pool2d(image, (2, 2), 1, 1)
F.avg_pool1d(signal, 2)
F.avg_pool2d(image, 2)
F.avg_pool3d(volume, 2)
F.adaptive_avg_pool2d(image, 2)
F.adaptive_max_pool2d(image, 2)
F.lp_pool2d(image, 2.0, 2)
F.pad(x, (1, 1))
F.pad(image, (1, 1), mode='reflect')
F.pad(x, (1, 1), value=3.0)
F.interpolate(image, scale_factor=2.0)
F.interpolate(image, size=(3, 3), mode='bilinear')
F.pixel_shuffle(torch.ones(1, 4, 2, 2), 2)
F.pixel_unshuffle(image, 2)
F.normalize(x, 2.0, 1)
F.layer_norm(x, (3,))
F.rms_norm(x, (3,))
F.batch_norm(image, torch.zeros(2), torch.ones(2))
F.batch_norm(image, None, None, training=True)
F.group_norm(image, 2)
F.instance_norm(image)
F.local_response_norm(image, 2)
F.cosine_similarity(x, y, 1)
F.pairwise_distance(x, y)
F.scaled_dot_product_attention(batch, batch, batch)
F.scaled_dot_product_attention(batch, batch, batch, dropout_p=0.0, is_causal=True)
"""

GOOD["losses"] = """
F.mse_loss(x, y)
F.mse_loss(x, y, reduction='sum')
F.l1_loss(x, y)
F.smooth_l1_loss(x, y, beta=1.0)
F.huber_loss(x, y, delta=1.0)
F.cross_entropy(x, classes)
F.cross_entropy(x, p)
F.cross_entropy(x, classes, weight=v)
F.cross_entropy(x, classes, label_smoothing=0.1)
F.cross_entropy(x, classes, reduction='none')
F.nll_loss(x, classes)
F.nll_loss(x, classes, reduction='sum')
F.binary_cross_entropy(p, q)
F.binary_cross_entropy(p, q, reduction='sum')
F.binary_cross_entropy_with_logits(x, p)
F.kl_div(x, p, reduction='batchmean')
F.poisson_nll_loss(x, y)
F.gaussian_nll_loss(x, y, p)
F.hinge_embedding_loss(x, torch.sign(y))
F.margin_ranking_loss(v, u, torch.ones(3))
F.cosine_embedding_loss(x, y, signs)
F.soft_margin_loss(x, torch.sign(y))
F.triplet_margin_loss(x, y, p)
"""

GOOD["modules"] = """
nn.Linear(3, 4)
nn.Linear(3, 4)(x)
nn.Linear(3, 4, bias=False)
nn.Bilinear(3, 3, 4)(x, y)
nn.Conv1d(2, 4, 3)(signal)
nn.Conv2d(2, 4, 3)
nn.Conv2d(2, 4, 3)(image)
nn.Conv2d(2, 4, 3, padding=1)
nn.Conv2d(2, 4, 3, groups=2)
nn.Conv2d(2, 4, 3, padding_mode='zeros')
nn.Conv3d(2, 4, 3)(volume)
nn.ConvTranspose2d(2, 4, 3)(image)
nn.BatchNorm1d(3)(x)
nn.BatchNorm2d(2)(image)
nn.LayerNorm(3)(x)
nn.LayerNorm((2, 3))(x)
nn.GroupNorm(1, 2)(image)
nn.InstanceNorm2d(2)(image)
nn.RMSNorm(3)(x)
nn.Dropout(0.5)
nn.Dropout(0.5)(x)
nn.Dropout2d(0.5)(image)
nn.Embedding(5, 3)
nn.Embedding(5, 3)(j)
nn.Embedding(5, 3, padding_idx=0)
nn.RNN(3, 4)(x)
nn.LSTM(3, 4)(x)
nn.GRU(3, 4)(x)
nn.LSTMCell(3, 4)(x)
nn.GRUCell(3, 4)(x)
nn.RNNCell(3, 4)(x)
nn.MaxPool2d(2)(image)
nn.AvgPool2d(2)(image)
nn.AdaptiveAvgPool2d(2)(image)
nn.Flatten()(image)
nn.Unflatten(1, (2, 1))(image)
nn.Sequential(nn.Linear(3, 4), nn.ReLU())(x)
nn.ModuleList([nn.ReLU()])
nn.ParameterList([torch.ones(2)])
nn.Parameter(x)
nn.MultiheadAttention(4, 2)(batch, batch, batch)
nn.ReLU()(x)
nn.LeakyReLU(0.1)(x)
nn.Softmax(dim=1)(x)
nn.PReLU()(x)
nn.CrossEntropyLoss()(x, classes)
nn.CrossEntropyLoss(reduction='sum')(x, classes)
nn.MSELoss()(x, y)
nn.NLLLoss()(x, classes)
nn.BCELoss()(p, q)
nn.BCEWithLogitsLoss()(x, p)
nn.KLDivLoss(reduction='batchmean')(x, p)
nn.Upsample(scale_factor=2.0)(image)
nn.PixelShuffle(2)(torch.ones(1, 4, 2, 2))
nn.ZeroPad2d(1)(image)
nn.CosineSimilarity(1)(x, y)
nn.Identity()(x)
nn.utils.clip_grad_norm_([nn.Parameter(x)], 1.0)
nn.utils.clip_grad_value_([nn.Parameter(x)], 1.0)
nn.utils.parameters_to_vector([nn.Parameter(x)])
init.uniform_(x.clone(), 0.0, 1.0)
init.normal_(x.clone(), 0.0, 1.0)
init.constant_(x.clone(), 1.0)
init.xavier_uniform_(x.clone())
init.kaiming_uniform_(x.clone(), nonlinearity='relu')
init.kaiming_normal_(x.clone(), mode='fan_in')
init.orthogonal_(x.clone())
init.trunc_normal_(x.clone())
init.calculate_gain('relu')
"""

GOOD["training"] = """
optim.SGD([nn.Parameter(x)], lr=0.1)
optim.SGD([nn.Parameter(x)], lr=0.1, momentum=0.9, weight_decay=0.1)
optim.Adam([nn.Parameter(x)], lr=0.1)
optim.Adam([nn.Parameter(x)], betas=(0.9, 0.99), eps=0.1)
optim.AdamW([nn.Parameter(x)], lr=0.1, weight_decay=0.1)
optim.RMSprop([nn.Parameter(x)], lr=0.1, alpha=0.9)
optim.Adagrad([nn.Parameter(x)], lr=0.1, lr_decay=0.1)
optim.Adadelta([nn.Parameter(x)], lr=0.1, rho=0.9)
optim.Adamax([nn.Parameter(x)], lr=0.1)
optim.NAdam([nn.Parameter(x)], lr=0.1)
optim.RAdam([nn.Parameter(x)], lr=0.1)
optim.Rprop([nn.Parameter(x)], lr=0.1)
optim.LBFGS([nn.Parameter(x)], lr=0.1)
optim.lr_scheduler.StepLR(optim.SGD([nn.Parameter(x)], lr=0.1), 2, 0.1)
optim.lr_scheduler.ExponentialLR(optim.SGD([nn.Parameter(x)], lr=0.1), 0.9)
optim.lr_scheduler.CosineAnnealingLR(optim.SGD([nn.Parameter(x)], lr=0.1), 5)
optim.lr_scheduler.ReduceLROnPlateau(optim.SGD([nn.Parameter(x)], lr=0.1), mode='min')
optim.lr_scheduler.OneCycleLR(optim.SGD([nn.Parameter(x)], lr=0.1), 0.5, 10)
data.TensorDataset(x, y)
data.DataLoader([1, 2, 3], batch_size=2)
data.DataLoader([1, 2, 3], batch_size=2, shuffle=True, drop_last=False)
data.Subset([1, 2, 3], [0])
data.random_split([1, 2, 3], [1, 2])
data.WeightedRandomSampler([0.5, 0.5], 3)
data.BatchSampler([1, 2, 3], 2, False)
torch.autograd.grad(nn.Parameter(x).sum(), [])
torch.set_grad_enabled(True)
torch.set_num_threads(2)
x.requires_grad_(False)
x.clone().requires_grad_(True)
nn.Parameter(x).sum().backward()
nn.Parameter(x).mul(2).backward(torch.ones(2, 3))
x.clone().detach_()
"""

GOOD["distributions"] = """
dist.Normal(x, y)
dist.Normal(0.0, 1.0)
dist.Normal(0.0, 1.0).log_prob(x)
dist.Normal(0.0, 1.0).sample((2,))
dist.Bernoulli(p)
dist.Bernoulli(logits=x)
dist.Bernoulli(p).log_prob(b.float())
dist.Categorical(p)
dist.Categorical(logits=x)
dist.Categorical(p).log_prob(j)
dist.Uniform(0.0, 1.0)
dist.Uniform(0.0, 1.0).log_prob(p)
dist.Exponential(x)
dist.Gamma(x, y)
dist.Beta(x, y)
dist.Poisson(x)
dist.Laplace(x, y)
dist.Dirichlet(v)
dist.Multinomial(3, p)
dist.MultivariateNormal(v, s)
dist.StudentT(x)
dist.Gumbel(x, y)
dist.Cauchy(x, y)
dist.LogNormal(x, y)
dist.Geometric(p)
dist.Binomial(3, p)
dist.kl_divergence(dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0))
"""

OTHERS = {
    "tensor": ["'a'", "[1.0, 2.0]", "None", "2.5", "np.ones(2)", "torch.ones(7)", "torch.ones(2, 2, 2, 2, 2)",
               "torch.ones(0)", "torch.tensor(1.0)", "({}).long()", "({}).bool()", "({}).double()"],
    "int": ["'a'", "1.5", "None", "-9", "9", "0", "2**62", "x", "[0, 0]"],
    "float": ["'a'", "None", "[1]", "x", "-1.0", "nan", "2.0"],
    "sequence": ["'a'", "None", "(1.5, 2)", "(-5, 3)", "(0, 0)", "(2**62, 2**62)", "9", "()", "[x]", "[None]"],
    "str": ["'nonsense'", "1", "None", "'cuda'"],
    "bool": ["'a'", "None"],
    "dtype": ["'float32'", "1", "None", "torch.int64", "torch.bool"],
    "other": ["'a'", "1", "None"],
}  # fmt: skip
NUMBER = (ast.UnaryOp, ast.Constant)


def kind_of(node: ast.expr, names: dict[str, Any], torch: ModuleType) -> str | None:
    """What stands at an argument: decides what is put there instead."""
    if isinstance(node, ast.Constant):
        return type(node.value).__name__ if isinstance(node.value, (bool, int, float, str)) else "other"
    if isinstance(node, ast.UnaryOp):
        return kind_of(node.operand, names, torch)
    if isinstance(node, (ast.List, ast.Tuple)):
        return "sequence"
    if isinstance(node, ast.Name) and isinstance(names.get(node.id), torch.Tensor):
        return "tensor"
    text = ast.unparse(node)
    if text in ("torch.float32", "torch.float64", "torch.int64"):
        return "dtype"
    return "tensor" if text.startswith("torch.") else "other"


def bad_calls(good: str, names: dict[str, Any], torch: ModuleType) -> Iterator[str]:
    """The variations of one call."""
    tree = ast.parse(good, mode="eval")
    call = tree.body
    if isinstance(call, ast.BinOp):
        for other in OTHERS["tensor"]:
            yield good.replace(ast.unparse(call.right), other.format(ast.unparse(call.right))) if isinstance(
                call.right, ast.Constant
            ) else f"{ast.unparse(call.left)} {good.split()[1]} {other.format(ast.unparse(call.right))}"
        return
    if isinstance(call, ast.Subscript):
        for other in ("'a'", "1.5", "None, 'a'", "9", "-9", "2**62", "0, 9", "0, 0, 0", "torch.ones(2)", "torch.tensor([9])",
                      "torch.tensor([True])", "torch.ones(2, 3, 1) > 0", "[0, 5]", "[0.5]", "0:2:0", "::-1", "'a':", "object()"):
            yield f"{ast.unparse(call.value)}[{other}]"  # fmt: skip
        return
    if not isinstance(call, ast.Call):
        return
    yield from variations(call, names, torch)
    while isinstance(call.func, ast.Call):  # nn.Linear(3, 4)(x): vary the constructor as well
        outer, call = call, call.func
        for text in variations(call, names, torch):
            yield f"{text}({', '.join(ast.unparse(a) for a in outer.args)})"


def variations(call: ast.Call, names: dict[str, Any], torch: ModuleType) -> Iterator[str]:
    function = ast.unparse(call.func)
    arguments = [("", a) for a in call.args] + [(f"{k.arg}=", k.value) for k in call.keywords]
    texts = [prefix + ast.unparse(a) for prefix, a in arguments]

    def written(parts: list[str]) -> str:
        return f"{function}({', '.join(parts)})"

    for at, (prefix, node) in enumerate(arguments):
        kind = kind_of(node, names, torch)
        for other in OTHERS.get(kind or "other", ()):
            yield written([*texts[:at], prefix + other.format(ast.unparse(node)), *texts[at + 1 :]])
        if at == len(call.args) - 1 or prefix:
            yield written([*texts[:at], *texts[at + 1 :]])
    yield written([*texts, "nonsense=1"])
    positional = len(call.args)
    yield written([*texts[:positional], *["1"] * 9, *texts[positional:]])
