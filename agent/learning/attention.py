"""Causal attention over a pack, with a backward pass made of batched matrix products.

PyTorch's attention for the CPU is quick forward and slow backward (20 GFLOP/s in bfloat16 where a plain product has
300). So both directions are written out here: each session is cut into blocks of rows, a block attends to its
session's keys up to its own end, and the weights are computed again in the backward pass where memory is short.
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

ALIGNED = 64
"""Keys are multiplied in multiples of this many."""


def attend(q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment], kept: list[Tensor] | None = None) -> Tensor:
    """softmax(q k^T) v per session. q is [kv heads, tokens * group, d], already scaled; k and v [kv heads, tokens, d].

    Returns [kv heads, tokens * group, d]. Rows of q are ordered by token, then by head of the group. The attention
    weights are put into `kept`, if given: where there is memory for them the backward pass saves a fifth of its time.
    """
    import torch

    group = q.shape[1] // k.shape[1]
    out = torch.empty_like(q)
    for segment in segments:
        turned_keys, values = _gathered(k, segment).mT.contiguous(), _gathered(v, segment)
        for rows, end, mask in _blocks(segment, group, q):
            weights = _weights(q[:, rows], turned_keys[:, :, :end], mask)
            torch.bmm(weights, values[:, :end], out=out[:, rows])
            if kept is not None:
                kept.append(weights)
    return out


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, segments: Sequence[Segment], kept: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` for q, k and v, given the gradient of its result, and what it kept, if it did."""
    import torch

    group = q.shape[1] // k.shape[1]
    dq = torch.empty_like(q)
    # A common beginning gathers from all its sessions: summed in float32.
    dk = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    dv = torch.zeros_like(dk)
    known = iter(kept)
    for segment in segments:
        keys = _gathered(k, segment)
        # Laid out for the products, which are twice as quick then.
        turned_keys, turned_values = keys.mT.contiguous(), _gathered(v, segment).mT.contiguous()
        key_grads = torch.zeros(keys.shape, dtype=torch.float32, device=k.device)
        value_grads = torch.zeros_like(key_grads)
        for rows, end, mask in _blocks(segment, group, q):
            weights = next(known) if kept else _weights(q[:, rows], turned_keys[:, :, :end], mask)
            value_grads[:, :end] += torch.bmm(weights.transpose(1, 2), grad[:, rows])
            dweights = torch.bmm(grad[:, rows], turned_values[:, :, :end])
            # softmax' = weights * (dweights - sum(dweights * weights))
            scores = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
            torch.bmm(scores, keys[:, :end], out=dq[:, rows])
            key_grads[:, :end] += torch.bmm(scores.transpose(1, 2), q[:, rows])
        _scatter(dk, key_grads, segment)
        _scatter(dv, value_grads, segment)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _weights(q: Tensor, turned_keys: Tensor, mask: Tensor) -> Tensor:
    import torch

    scores = torch.bmm(q, turned_keys)
    scores[:, :, -mask.shape[1] :] += mask
    return torch.softmax(scores, -1)


def _blocks(segment: Segment, group: int, like: Tensor) -> Iterator[tuple[slice, int, Tensor]]:
    """Rows of q, how many of the segment's keys they are multiplied with, and the mask of the last of those keys.

    That number is rounded up to whole cache lines, which the matrix products need to be quick.
    """
    import torch

    before = segment.prefix.count if segment.prefix is not None else 0
    places = torch.arange(ROWS + ALIGNED, device=like.device)
    future = places[None, :] > places[:ROWS, None]
    mask = torch.zeros(future.shape, dtype=like.dtype, device=like.device).masked_fill_(future, float("-inf"))
    mask = mask.repeat_interleave(group, 0)
    for first in range(0, segment.count, ROWS):
        last = min(first + ROWS, segment.count)
        rows = slice((segment.start + first) * group, (segment.start + last) * group)
        end = _aligned(before + last)
        yield rows, end, mask[: (last - first) * group, : end - before - first]


def _gathered(x: Tensor, segment: Segment) -> Tensor:
    """What a segment attends to: its prefix, its own tokens, and zeros up to a whole cache line."""
    before = segment.prefix.count if segment.prefix is not None else 0
    found = x.new_zeros(x.shape[0], _aligned(before + segment.count), x.shape[2])
    if segment.prefix is not None:
        found[:, :before] = x[:, segment.prefix.start : segment.prefix.start + before]
    found[:, before : before + segment.count] = x[:, segment.start : segment.start + segment.count]
    return found


def _scatter(total: Tensor, grads: Tensor, segment: Segment) -> None:
    before = 0
    if segment.prefix is not None:
        before = segment.prefix.count
        total[:, segment.prefix.start : segment.prefix.start + before] += grads[:, :before]
    total[:, segment.start : segment.start + segment.count] += grads[:, before : before + segment.count]


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED
