"""Causal attention over a pack, with a backward pass made of batched matrix products.

PyTorch's attention for the CPU is quick forward and slow backward (20 GFLOP/s in bfloat16 where a plain product has
300). So both directions are written out here: each session is cut into blocks of rows, a block attends to its
session's keys up to its own end, and the weights are computed again in the backward pass instead of being kept.
Query heads that share a key head are rows of one product (grouped-query attention without copying keys).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.learning.packing import Segment

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 128
"""Tokens of a block: small enough that its weights stay in the cache, large enough for quick products."""


def attend(q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment]) -> Tensor:
    """softmax(q k^T) v per session. q is [kv heads, tokens * group, d], already scaled; k and v [kv heads, tokens, d].

    Returns [kv heads, tokens * group, d]. Rows of q are ordered by token, then by head of the group.
    """
    import torch

    group = q.shape[1] // k.shape[1]
    out = torch.empty_like(q)
    for segment in segments:
        keys, values = _gathered(k, segment), _gathered(v, segment)
        for rows, end, mask in _blocks(segment, group, q):
            weights = _weights(q[:, rows], keys[:, :end], mask)
            torch.bmm(weights, values[:, :end], out=out[:, rows])
    return out


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` for q, k and v, given the gradient of its result."""
    import torch

    group = q.shape[1] // k.shape[1]
    dq = torch.empty_like(q)
    # A common beginning gathers from all its sessions: summed in float32.
    dk = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    dv = torch.zeros_like(dk)
    for segment in segments:
        keys, values = _gathered(k, segment), _gathered(v, segment)
        key_grads = torch.zeros(keys.shape, dtype=torch.float32, device=k.device)
        value_grads = torch.zeros_like(key_grads)
        for rows, end, mask in _blocks(segment, group, q):
            weights = _weights(q[:, rows], keys[:, :end], mask)
            value_grads[:, :end] += torch.bmm(weights.transpose(1, 2), grad[:, rows])
            dweights = torch.bmm(grad[:, rows], values[:, :end].transpose(1, 2))
            # softmax' = weights * (dweights - sum(dweights * weights))
            scores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
            torch.bmm(scores, keys[:, :end], out=dq[:, rows])
            key_grads[:, :end] += torch.bmm(scores.transpose(1, 2), q[:, rows])
        _scatter(dk, key_grads, segment)
        _scatter(dv, value_grads, segment)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    import torch

    scores = torch.bmm(q, k.transpose(1, 2))
    scores[:, :, -mask.shape[1] :] += mask
    return torch.softmax(scores, -1)


def _blocks(segment: Segment, group: int, like: Tensor) -> Iterator[tuple[slice, int, Tensor]]:
    """Rows of q, how many of the segment's keys they may see, and the mask of the last of those keys."""
    import torch

    before = segment.prefix.count if segment.prefix is not None else 0
    places = torch.arange(ROWS, device=like.device)
    future = places[None, :] > places[:, None]
    mask = torch.zeros(ROWS, ROWS, dtype=like.dtype, device=like.device).masked_fill_(future, float("-inf"))
    mask = mask.repeat_interleave(group, 0)
    for first in range(0, segment.count, ROWS):
        last = min(first + ROWS, segment.count)
        rows = slice((segment.start + first) * group, (segment.start + last) * group)
        yield rows, before + last, mask[: (last - first) * group, : last - first]


def _gathered(x: Tensor, segment: Segment) -> Tensor:
    import torch

    own = x[:, segment.start : segment.start + segment.count]
    prefix = segment.prefix
    if prefix is None:
        return own
    return torch.cat([x[:, prefix.start : prefix.start + prefix.count], own], dim=1)


def _scatter(total: Tensor, grads: Tensor, segment: Segment) -> None:
    before = 0
    if segment.prefix is not None:
        before = segment.prefix.count
        total[:, segment.prefix.start : segment.prefix.start + before] += grads[:, :before]
    total[:, segment.start : segment.start + segment.count] += grads[:, before:]
