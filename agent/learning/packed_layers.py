"""The layers of `agent.learning.packed_llama`: what each computes forward, what it keeps, and its gradient by hand.

A LoRA and the weight it belongs to are one product, y = [x, x A^T] [W, s B]^T, and so is its gradient. A layer is one
step of autograd, which keeps ten tensors and computes the cheap ones again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from agent.learning.attention import attend, attend_backward

if TYPE_CHECKING:
    from agent.learning.packing import Pack


@dataclass
class Part:
    """One linear layer of the model and its LoRA, if it has one: weight [out, in], A [rank, in], B [out, rank]."""

    weight: Tensor
    bias: Tensor | None
    a: torch.nn.Parameter | None = None
    b: torch.nn.Parameter | None = None


class Projection:
    """Linear layers with a common input, as one matrix [out, in + ranks] over [x, x A^T]."""

    def __init__(self, parts: Sequence[Part], norm: Tensor | None, scale: float, dtype: torch.dtype) -> None:
        self._scale, self._norm = scale, norm
        self._adapted = [part for part in parts if part.a is not None]
        self.inputs = parts[0].weight.shape[1]
        ranks = sum(part.a.shape[0] for part in self._adapted if part.a is not None)
        weight = torch.cat([part.weight for part in parts])
        weight = weight if norm is None else weight * norm
        self.weight = torch.zeros(len(weight), self.inputs + ranks, dtype=dtype, device=weight.device)
        self.weight[:, : self.inputs] = weight
        biases = [part.bias for part in parts if part.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        self._a = torch.empty(ranks, self.inputs, dtype=dtype, device=weight.device)
        self._places: list[tuple[Part, slice, slice]] = []
        """Each adapted part with its rows of the result and its columns of x A^T."""
        row = column = 0
        for part in parts:
            outs = part.weight.shape[0]
            if part.a is not None:
                rank = part.a.shape[0]
                self._places.append((part, slice(row, row + outs), slice(column, column + rank)))
                column += rank
            row += outs
            part.weight = torch.empty(0)  # held by self.weight from here on
        self.parameters = [p for part in self._adapted for p in (part.a, part.b) if p is not None]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        for part, rows, columns in self._places:
            assert part.a is not None
            assert part.b is not None
            self._a[columns] = (part.a if self._norm is None else part.a * self._norm).to(self._a.dtype)
            self.weight[rows, self.inputs + columns.start : self.inputs + columns.stop] = part.b * self._scale

    def input(self, tokens: int) -> Tensor:
        """Room for [x, x A^T]; x goes to the first `inputs` columns."""
        return torch.empty(tokens, self.weight.shape[1], dtype=self.weight.dtype, device=self.weight.device)

    def extend(self, x: Tensor, adapted: bool) -> None:
        """Fill in x A^T."""
        if not self._places:
            return
        if adapted:
            torch.mm(x[:, : self.inputs], self._a.t(), out=x[:, self.inputs :])
        else:
            x[:, self.inputs :].zero_()

    def product(self, x: Tensor, rows: slice) -> Tensor:
        return linear(x, self.weight[rows], None if self.bias is None else self.bias[rows])

    def backward(self, x: Tensor, grads: Sequence[tuple[Tensor, slice]]) -> tuple[Tensor, list[Tensor]]:
        """Gradients for the first `inputs` columns of x and for `parameters`, given those of the products."""
        (grad, rows), *others = grads
        dx = grad @ self.weight[rows]
        for other, rows in others:
            dx.addmm_(other, self.weight[rows])
        if not self._places:
            return dx, []
        dz = dx[:, self.inputs :]
        da = (dz.t() @ x[:, : self.inputs]).float()
        da = da if self._norm is None else da * self._norm
        dx[:, : self.inputs].addmm_(dz, self._a)
        found: list[Tensor] = []
        z = x[:, self.inputs :]
        for grad, rows in grads:
            inside = [(own, columns) for _, own, columns in self._places if rows.start <= own.start < rows.stop]
            if not inside:
                continue
            db = z[:, inside[0][1].start : inside[-1][1].stop].t() @ grad
            for own, columns in inside:
                first = inside[0][1].start
                block = db[columns.start - first : columns.stop - first, own.start - rows.start : own.stop - rows.start]
                found += [da[columns], block.t().float() * self._scale]
        return dx[:, : self.inputs], found


@dataclass(frozen=True)
class Run:
    """What one forward pass hands to every layer; cos and sin are [tokens, 1, head_dim]."""

    pack: Pack
    cos: Tensor
    sin: Tensor
    adapted: bool
    checkpointing: bool
    keep_weights: bool


Kept = tuple[Tensor, ...]


@dataclass
class Layer:
    """One decoder layer. `forward` keeps what `backward` needs."""

    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float

    @property
    def projections(self) -> tuple[Projection, ...]:
        return self.qkv, self.out, self.gate_up, self.down

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for projection in self.projections for parameter in projection.parameters]

    def forward(self, x: Tensor, run: Run) -> tuple[Tensor, Kept]:
        tokens, group = len(x), self.heads // self.kv_heads
        both = self.heads + self.kv_heads
        normed, scale = self._normed(x, self.qkv, run)
        qkv = self.qkv.product(normed, slice(0, len(self.qkv.weight))).view(tokens, both + self.kv_heads, -1)
        qk = _rotated(qkv[:, :both], run.cos, run.sin)
        q = qk[:, : self.heads].view(tokens, self.kv_heads, group, -1).permute(1, 0, 2, 3)
        q = q.reshape(self.kv_heads, tokens * group, -1).mul_(self.head_dim**-0.5)
        k, v = qk[:, self.heads :].transpose(0, 1).contiguous(), qkv[:, both:].transpose(0, 1).contiguous()
        weights: list[Tensor] = []
        attended = attend(q, k, v, run.pack.segments, weights if run.keep_weights else None)
        mixed = self.out.input(tokens)
        mixed[:, : self.out.inputs].view(tokens, self.kv_heads, group, -1).copy_(
            attended.view(self.kv_heads, tokens, group, -1).transpose(0, 1)
        )
        self.out.extend(mixed, run.adapted)
        x = x + self.out.product(mixed, slice(0, len(self.out.weight)))
        normed2, scale2 = self._normed(x, self.gate_up, run)
        gate_rows, up_rows = self._halves()
        gate, up = self.gate_up.product(normed2, gate_rows), self.gate_up.product(normed2, up_rows)
        hidden = self._activated(silu(gate), up, run)
        x = x + self.down.product(hidden, slice(0, len(self.down.weight)))
        return x, (normed, scale, q, k, v, mixed, normed2, scale2, gate, up, *weights)

    def backward(self, grad: Tensor, kept: Kept, run: Run) -> tuple[Tensor, list[Tensor]]:
        normed, scale, q, k, v, mixed, normed2, scale2, gate, up, *weights = kept
        tokens, group = len(grad), self.heads // self.kv_heads
        both = self.heads + self.kv_heads
        opened = silu(gate)
        dhidden, down_grads = self.down.backward(
            self._activated(opened, up, run), [(grad, slice(0, len(self.down.weight)))]
        )
        dup = dhidden * opened
        dgate = torch.ops.aten.silu_backward(dhidden * up, gate)
        del opened, dhidden
        gate_rows, up_rows = self._halves()
        dnormed, gate_up_grads = self.gate_up.backward(normed2, [(dgate, gate_rows), (dup, up_rows)])
        del dgate, dup
        grad = grad + _norm_backward(dnormed, normed2[:, : self.gate_up.inputs], scale2)
        dmixed, out_grads = self.out.backward(mixed, [(grad, slice(0, len(self.out.weight)))])
        dattended = dmixed.view(tokens, self.kv_heads, group, -1).transpose(0, 1).reshape(q.shape)
        dq, dk, dv = attend_backward(dattended, q, k, v, run.pack.segments, weights)
        dqkv = torch.empty(tokens, both + self.kv_heads, self.head_dim, dtype=grad.dtype, device=grad.device)
        dqk = dqkv[:, :both]
        dq = dq.mul_(self.head_dim**-0.5).view(self.kv_heads, tokens, group, -1).transpose(0, 1)
        dqk[:, : self.heads].view(tokens, self.kv_heads, group, -1).copy_(dq)
        dqk[:, self.heads :] = dk.transpose(0, 1)
        dqkv[:, both:] = dv.transpose(0, 1)
        dqkv[:, :both] = _rotated(dqk, run.cos, -run.sin)
        dnormed, qkv_grads = self.qkv.backward(normed, [(dqkv.view(tokens, -1), slice(0, len(self.qkv.weight)))])
        grad = grad + _norm_backward(dnormed, normed[:, : self.qkv.inputs], scale)
        return grad, [*qkv_grads, *out_grads, *gate_up_grads, *down_grads]

    def _normed(self, x: Tensor, into: Projection, run: Run) -> tuple[Tensor, Tensor]:
        """RMSNorm without its weights (they are in the projection), extended for `into`, and its scale [tokens, 1]."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm.square_().div_(x.shape[1]).add_(self.epsilon)).to(x.dtype)
        extended = into.input(len(x))
        torch.mul(x, scale, out=extended[:, : into.inputs])
        into.extend(extended, run.adapted)
        return extended, scale

    def _activated(self, opened: Tensor, up: Tensor, run: Run) -> Tensor:
        extended = self.down.input(len(up))
        torch.mul(opened, up, out=extended[:, : self.down.inputs])
        self.down.extend(extended, run.adapted)
        return extended

    def _halves(self) -> tuple[slice, slice]:
        half = len(self.gate_up.weight) // 2
        return slice(0, half), slice(half, 2 * half)


class LayerStep(torch.autograd.Function):
    """A layer as one step of autograd. Gradient checkpointing keeps the input only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, run: Run, *parameters: Tensor) -> Tensor:
        out, kept = layer.forward(x, run)
        ctx.layer, ctx.run = layer, run
        ctx.kept = None if run.checkpointing else kept
        ctx.save_for_backward(*((x,) if run.checkpointing else ()))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.kept
        ctx.kept = None  # the tensors of a layer are freed as soon as it is done
        if kept is None:
            (x,) = ctx.saved_tensors
            _, kept = ctx.layer.forward(x, ctx.run)
        dx, found = ctx.layer.backward(grads[0], kept, ctx.run)
        return dx, None, None, *found


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [tokens, heads, head_dim]; `sin` carries the sign of the half-rotation."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)


def _norm_backward(grad: Tensor, normed: Tensor, scale: Tensor) -> Tensor:
    """x' of n = x * scale with scale = 1 / rms(x): scale * (grad - n * mean(grad * n))."""
    mean = (grad * normed).sum(-1, keepdim=True, dtype=torch.float32).div_(normed.shape[1])
    return (grad - normed * mean.to(grad.dtype)).mul_(scale)
