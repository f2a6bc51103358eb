"""What a hidden state says about the next token, without ever holding all logits.

The vocabulary is large beside a small model: logits of 2000 tokens over 49152 words are 400 MB in float32. Logits are
made in blocks of rows, used, dropped, and made again in the backward pass (as Liger's fused cross-entropy does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

ROWS = 256
"""Rows of logits at a time."""


def log_likelihood(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """log p(label) per row, [rows] float32, of hidden states [rows, d] under softmax(hidden head^T)."""
    return _LogLikelihood.apply(hidden, head, labels)  # pyright: ignore


def divergence(hidden: Tensor, reference: Tensor, head: Tensor) -> Tensor:
    """KL(reference || hidden) per row in nats, [rows] float32; `reference` are the base's hidden states."""
    return _Divergence.apply(hidden, reference, head)  # pyright: ignore


class _LogLikelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for rows in _blocks(len(hidden)):
            logits = linear(hidden[rows], head)
            top = logits.amax(-1, keepdim=True)
            chosen = logits.gather(1, labels[rows, None]).float() - top.float()
            total = logits.sub_(top).exp_().sum(-1, keepdim=True, dtype=torch.float32)
            found[rows] = (chosen - total.log())[:, 0]
        ctx.save_for_backward(hidden, head, labels, found)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head, labels, found = ctx.saved_tensors
        (grad,) = grads
        out = torch.empty_like(hidden)
        # The head learns only where the whole model does.
        dhead = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for rows in _blocks(len(hidden)):
            logits = linear(hidden[rows], head)
            weights, total = _exponentials(logits)
            slope = grad[rows, None]
            weights.mul_((-slope / total).to(weights.dtype))
            # 1 - p of a confident token vanishes in bfloat16, so the label's own entry is set in float32.
            own = slope * -torch.expm1(found[rows, None])
            weights.scatter_(1, labels[rows, None], own.to(weights.dtype))
            torch.mm(weights, head, out=out[rows])
            if dhead is not None:
                dhead += weights.t() @ hidden[rows]
        return out, dhead, None


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, reference: Tensor, head: Tensor) -> Tensor:
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for rows in _blocks(len(hidden)):
            ours = torch.log_softmax(linear(hidden[rows], head), -1, dtype=torch.float32)
            theirs = torch.log_softmax(linear(reference[rows], head), -1, dtype=torch.float32)
            found[rows] = theirs.exp().mul_(theirs.sub_(ours)).sum(-1)
        ctx.save_for_backward(hidden, reference, head)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, reference, head = ctx.saved_tensors
        out = torch.empty_like(hidden)
        for rows in _blocks(len(hidden)):
            ours, total = _exponentials(linear(hidden[rows], head))
            theirs, sums = _exponentials(linear(reference[rows], head))
            ours.mul_(total.reciprocal().to(ours.dtype)).sub_(theirs.mul_(sums.reciprocal().to(ours.dtype)))
            torch.mm(ours.mul_(grads[0][rows, None].to(ours.dtype)), head, out=out[rows])
        return out, None, None


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor]:
    """exp(logits - max) in place and its row sums [rows, 1] float32: softmax without a second tensor."""
    weights = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    return weights, weights.sum(-1, keepdim=True, dtype=torch.float32)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(first, min(first + ROWS, rows)) for first in range(0, rows, ROWS))
