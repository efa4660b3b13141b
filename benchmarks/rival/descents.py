"""Rivals that train on from production, by another loss each.

Each takes a request, `effort` and `rate` as in `descend`, and gives the weights of its classifiers, (models, P).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.rival.request import Request, Term, descend
from hf_mlops.base.errors import BadRequest
from hf_mlops.base.noise import generator_of, seed_of
from hf_mlops.data.dataset import Split
from hf_mlops.population.target import Target


def fine_tune(request: Request, effort: float, rate: float) -> Tensor:
    """Trains on D_r alone, and counts on what is not seen being forgotten.

    Source: the baseline of Golatkar et al., "Eternal sunshine of the spotless net" (arXiv 1911.04933), and of all papers since.
    """
    return descend(request, [Term(request.retain)], effort, rate)


def gradient_ascent(request: Request, effort: float, rate: float) -> Tensor:
    """Raises the loss on D_f, and looks at nothing else.

    Source: Thudi et al., "Unrolling SGD" (arXiv 2109.13398).
    """
    return descend(request, [Term(request.forget, -1.0)], effort, rate)


def neg_grad(request: Request, effort: float, rate: float, ascent: float) -> Tensor:
    """NegGrad+: lowers the loss on D_r and raises that on D_f, with weights 1 - ascent and ascent.

    Source: Kurmanji et al., "Towards unbounded machine unlearning" (arXiv 2302.09880), whose beta is 1 - ascent.
    """
    return descend(request, [Term(request.retain, 1 - ascent), Term(request.forget, -ascent)], effort, rate)


def random_labels(request: Request, effort: float, rate: float) -> Tensor:
    """Trains on D_r and, as much, on D_f with a wrong label for each image, drawn once.

    Wrong labels are drawn among the classes of D_r: another class that is to be forgotten would be taught by them.

    Source: Graves et al., "Amnesiac machine learning" (arXiv 2010.10981).
    """
    return descend(request, [Term(request.retain), Term(relabelled(request))], effort, rate)


def sparse(request: Request, effort: float, rate: float, gamma: float) -> Tensor:
    """l1-sparse: fine-tunes on D_r with gamma times the sum of absolute weights, which decays to 0 linearly.

    Source: Jia et al., "Model sparsity can simplify machine unlearning" (arXiv 2304.04934).
    """
    return descend(request, [Term(request.retain)], effort, rate, l1=gamma)


def salun(request: Request, effort: float, rate: float, share: float) -> Tensor:
    """SalUn: random labels, but only the share of weights changes on which the loss on D_f hangs most.

    Source: Fan et al., "SalUn: Empowering machine unlearning via gradient-based weight saliency" (arXiv 2310.12508), which
    takes half of the weights.
    """
    terms = [Term(request.retain), Term(relabelled(request))]
    return descend(request, terms, effort, rate, only=salient(request, share))


def bad_teacher(request: Request, effort: float, rate: float) -> Tensor:
    """Learns to answer as production does on D_r, and on D_f as a network does that was never trained.

    Source: Chundawat et al., "Can bad teaching induce forgetting?" (arXiv 2205.08096). The paper sees 30 % of D_r once;
    here it is as many minibatches as `effort` says.
    """
    untrained = request.target.initial_weights(request.config.seed + 1 + request.seed).to(request.weights.device)
    terms = [Term(request.retain, teacher=request.weights), Term(request.forget, teacher=untrained[None])]
    return descend(request, terms, effort, rate)


def relabelled(request: Request) -> Split:
    """D_f with a wrong label for each image, drawn among the classes of D_r.

    Raises:
        BadRequest: D_r is of one class only, and an image in D_f is of that class.
    """
    forget = request.forget
    allowed = torch.zeros(request.target.classes, dtype=torch.bool)
    allowed[request.retain.labels.unique().cpu()] = True
    right = one_hot(forget.labels.cpu(), request.target.classes).bool()
    wrong = allowed & ~right
    if not wrong.any(1).all():
        raise BadRequest("no class of D_r is wrong for some image in D_f; allowed: a D_r of two classes at least")
    drawn = generator_of(seed_of("wrong labels", request.seed)).random(right.shape)
    labels = torch.from_numpy(drawn).masked_fill(~wrong, -1.0).argmax(1)
    return Split(forget.images, labels.to(forget.labels.device), forget.groups)


def salient(request: Request, share: float) -> Bool[Tensor, "models params"]:
    """The share of each model's weights on which its loss on D_f hangs most, by the absolute gradient."""
    slope = forget_slope(request.target, request.weights, request.forget).abs()
    kept = slope.topk(round(share * slope.shape[1]), dim=1).indices
    return torch.zeros_like(slope, dtype=torch.bool).scatter(1, kept, True)


def forget_slope(target: Target, weights: Float[Tensor, "models params"], forget: Split) -> Float[Tensor, "models params"]:
    """Gradient of each model's mean loss on D_f."""
    weights = weights.clone().requires_grad_()
    everything = torch.arange(len(forget), device=weights.device)
    return torch.autograd.grad(Term(forget).loss(target, weights, everything).sum(), weights)[0]
