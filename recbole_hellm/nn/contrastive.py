"""Losses of the first stage: BPR, its L2 term and the synergistic contrast. Pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recbole_hellm.errors import ConfigError


def bpr_loss(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
    """Mean of ``-log sigmoid(pos - neg)``.

    Source: Rendle et al. 2009 (arXiv 1205.2618), BPR-Opt.

    Args:
        pos_scores: Scores of the items taken ``[B]``.
        neg_scores: Scores of the sampled items ``[B]``.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes differ.
    """
    if pos_scores.shape != neg_scores.shape:
        raise ValueError(f"scores must have one shape, got {tuple(pos_scores.shape)} and {tuple(neg_scores.shape)}")
    return functional.softplus(neg_scores - pos_scores).mean()


def embedding_l2(*vectors: Tensor) -> Tensor:
    """L2 term of a batch before its weight: half the sum of all squares, divided by the batch size.

    Source: HeLLM (arXiv 2504.10541), the regulariser of the first stage, as the official code scales it.

    Args:
        *vectors: Vectors of the batch (user, positive, negative), each ``[B, D]``.

    Returns:
        A scalar.

    Raises:
        ValueError: If there is no vector or the batch sizes differ.
    """
    if not vectors or len({v.shape[0] for v in vectors}) != 1:
        raise ValueError(f"expected vectors of one batch size, got shapes {[tuple(v.shape) for v in vectors]}")
    return torch.stack([v.square().sum() for v in vectors]).sum() / (2 * vectors[0].shape[0])


def synergistic_contrast(
    anchor_a: Tensor,
    anchor_b: Tensor,
    all_a: Tensor,
    all_b: Tensor,
    temperature: float,
    self_index: Tensor,
    block_rows: int = 512,
) -> Tensor:
    """Contrast two views of each anchor with every candidate in both views.

    With ``f(x, y) = exp(cos(x, y) / temperature)`` the loss of anchor ``n`` is
    ``-log f(a_n, b_n) / (sum_j f(a_n, a_j) - f(a_n, a_n) + sum_j f(a_n, b_j))``, averaged over the anchors.
    Source: HeLLM (arXiv 2504.10541) and MMHCL (arXiv 2504.16576), synergistic contrastive loss.

    For all nodes pass the same vectors as anchors and candidates with ``self_index = arange(N)``; for
    in-batch negatives pass the unique nodes of the batch as both. Repeated candidates count repeatedly.
    A zero vector has cosine 0 with everything: leave padding rows out.

    Memory: ``block_rows * 2N`` similarities at a time; with more than one block each is computed again in
    the backward pass instead of being kept. Time grows with ``B * N * D``.

    Args:
        anchor_a: First view of the anchors ``[B, D]``.
        anchor_b: Second view of the anchors ``[B, D]``.
        all_a: First view of the candidates ``[N, D]``.
        all_b: Second view of the candidates ``[N, D]``.
        temperature: Divides the cosine, > 0.
        self_index: Row of each anchor in ``all_a``, int64 ``[B]``; that pair leaves the denominator.
        block_rows: Anchors compared with all candidates at a time, >= 1.

    Returns:
        A scalar in nats.

    Raises:
        ConfigError: If ``temperature`` or ``block_rows`` is out of range.
        ValueError: If the shapes do not fit or there is no anchor.
    """
    if not temperature > 0:
        raise ConfigError(f"the contrast 'temperature' must be > 0, got {temperature}")
    if block_rows < 1:
        raise ConfigError(f"'block_rows' must be >= 1, got {block_rows}")
    n_anchors = anchor_a.shape[0]
    if anchor_a.shape != anchor_b.shape or all_a.shape != all_b.shape or anchor_a.shape[1:] != all_a.shape[1:]:
        shapes = [tuple(x.shape) for x in (anchor_a, anchor_b, all_a, all_b)]
        raise ValueError(f"expected shapes [B, D], [B, D], [N, D], [N, D], got {shapes}")
    if n_anchors == 0 or self_index.shape != (n_anchors,):
        raise ValueError(
            f"expected one self_index for each of at least one anchor, got {tuple(self_index.shape)} for {n_anchors}"
        )
    if int(self_index.min()) < 0 or int(self_index.max()) >= all_a.shape[0]:
        raise ValueError(f"self_index must lie in 0..{all_a.shape[0] - 1}, the rows of all_a")
    anchor_a = functional.normalize(anchor_a, dim=1) / temperature
    anchor_b = functional.normalize(anchor_b, dim=1)
    candidates = torch.cat([functional.normalize(all_a, dim=1), functional.normalize(all_b, dim=1)])
    recompute = n_anchors > block_rows and torch.is_grad_enabled()
    total = (anchor_a * anchor_b).sum().neg()
    for start in range(0, n_anchors, block_rows):
        block = (anchor_a[start : start + block_rows], candidates, self_index[start : start + block_rows])
        if recompute:
            total = total + checkpoint(_log_denominators, *block, use_reentrant=False, preserve_rng_state=False)
        else:
            total = total + _log_denominators(*block)
    return total / n_anchors


def _log_denominators(anchors: Tensor, candidates: Tensor, self_index: Tensor) -> Tensor:
    """Sum over a block of anchors of the log of their denominators; scaled ``anchors [b, D]``, scalar out."""
    logits = anchors @ candidates.T  # (b, 2N)
    # Left out rather than subtracted: the sum minus its largest term would cancel at small temperatures.
    logits = logits.scatter_(1, self_index[:, None], -torch.inf)
    return logits.logsumexp(dim=1).sum()
