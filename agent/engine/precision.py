"""Matrix products in the number formats of `--dtype`.

int8 on the CPU: weights are rounded once, per output row, symmetric; activations are rounded at each call, **per
token**; the product is exact in int32. Because a token's rounding depends on that token alone, its result does not
depend on who shares its batch or how its prompt was cut into chunks. (PyTorch's `quantize_dynamic` scales by the
largest value of the whole batch, and the first token of a prompt carries activations a hundred times the others'.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12
"""In place of a largest value of zero."""
DType = Literal["fp32", "bf16", "int8"]
Linear = Callable[["Tensor"], "Tensor"]


class Rounded(NamedTuple):
    """A weight [out, in] in int8, and the step of each of its rows, float32 [out]."""

    weight: Tensor
    scale: Tensor


def linear(weight: Tensor, bias: Tensor | None, dtype: DType) -> Linear:
    """`x @ weight.T + bias` for x of [tokens, in]; `weight` is [out, in] in float32 or bfloat16."""
    if dtype == "int8":
        return Int8Linear(rounded(weight), bias)
    from torch.nn.functional import linear as product

    return partial(product, weight=weight, bias=bias)


def multiplies_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX-512 BF16 or AMX)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore


def rounded(weight: Tensor) -> Rounded:
    """`weight` in int8, symmetric, each row by its own step."""
    import torch

    weight = weight.float()
    scale = weight.abs().amax(dim=1).clamp_(min=TINY).div_(127.0)
    return Rounded((weight / scale[:, None]).round_().to(torch.int8), scale)


class Int8Linear:
    """An int8 matrix product with one scale per output row and one per token.

    With `packing` the weight is made ready for this processor there, and the first product waits for it.
    """

    def __init__(self, weight: Rounded, bias: Tensor | None, packing: Executor | None = None) -> None:
        self._bias = None if bias is None else bias.float()
        self._packing = packing.submit(_product, *weight) if packing is not None else None
        self._product = _product(*weight) if packing is None else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._product is None:
            assert self._packing is not None
            self._product = self._packing.result()
        largest = x.abs().amax(dim=1, keepdim=True).clamp_(min=TINY)
        y = self._product(x / largest).mul_(largest)
        return y if self._bias is None else y.add_(self._bias)


def _product(weight: Tensor, scale: Tensor) -> Linear:
    return _packed_product(weight, scale) or _plain_product(weight, scale)


def _packed_product(weight: Tensor, scale: Tensor) -> Linear | None:
    """The product by fbgemm, which packs the weights; half the time of `_plain_product` for a single token.

    It is asked to round activations by a fixed step of 1/127, which suits tokens divided by their largest value.
    None on machines it is not made for.
    """
    import torch

    if torch.backends.quantized.engine not in ("x86", "fbgemm") or not torch.cpu._is_vnni_supported():  # pyright: ignore
        return None
    operators = torch.ops.quantized
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 announces that these operators will go; `_plain_product` will not
        zeros = torch.zeros(len(scale), dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)  # pyright: ignore
        packed = operators.linear_prepack(quantized, None)
    product = operators.linear_with_input_q_dq_qweight_dq_output_fp32.default
    return lambda x: product(x, 1.0 / 127.0, 128, packed)


def _plain_product(weight: Tensor, scale: Tensor) -> Linear:
    import torch

    transposed, step = weight.t(), scale / 127.0

    def product(x: Tensor) -> Tensor:
        rounded = (x * 127.0).round_().to(torch.int8)
        return torch.ops.aten._int_mm(rounded, transposed).to(torch.float32).mul_(step)

    return product
