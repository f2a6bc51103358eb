"""The forward pass as the engine asks for it: tokens of several sessions side by side, each with its own cache.

Rows are packed along one token axis, not padded: the matrix products see all tokens of all rows at once (their cost is
reading the weights), attention runs row by row over the row's own cache. So a prompt being read, a run of forced
tokens and a single sampled token can share a forward pass, and rows come and go between passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from agent.engine.kvcache import KVCache

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Row:
    """New tokens of one session in a forward pass. The cache must hold exactly `start` positions before them.

    The logits of the last `wanted` of them are asked for.
    """

    cache: KVCache
    ids: Sequence[int]
    wanted: int = 1
    _masks: dict[tuple[int | None, int, torch.dtype], Tensor] = field(
        default_factory=dict[tuple[int | None, int, "torch.dtype"], "Tensor"]
    )

    def __post_init__(self) -> None:
        self.start = self.cache.before + len(self.cache.ids)
        self.count = len(self.ids)

    def mask(self, window: int | None, group: int, like: Tensor) -> Tensor:
        """What each new token may look at, `group` times over, [group * count, start + count]: 0, and -inf elsewhere.

        It may look at itself and before, within `window` tokens. Attention adds it; made once for all layers.
        """
        kind = (window, group, like.dtype)
        if kind not in self._masks:
            import torch

            new = torch.arange(self.start, self.start + self.count, device=like.device)[:, None]
            held = torch.arange(self.start + self.count, device=like.device)[None, :]
            seen = held <= new
            seen = seen if window is None else seen & (held > new - window)
            added = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -torch.inf)
            self._masks[kind] = added.repeat(group, 1)
        return self._masks[kind]


class Network(Protocol):
    """A causal language model. `forward` returns float32 logits of the last `wanted` new tokens of each row, one row
    after the other, [sum of wanted, vocabulary], and leaves the new keys and values in the rows' caches (the caller
    records the ids). Caches come from `new_cache`."""

    layers: int
    vocabulary: int
    context_tokens: int
    dtype: str
    device: torch.device

    def forward(self, rows: Sequence[Row]) -> Tensor: ...

    def new_cache(self) -> KVCache: ...


class Reader(Network, Protocol):
    """A network that also reads what is no token: `embeddings` [positions, hidden] go into an empty cache."""

    def read(self, cache: KVCache, embeddings: Tensor) -> None: ...


def wanted_places(rows: Sequence[Row], device: torch.device) -> Tensor:
    """Where on the packed token axis the wanted logits are, [sum of wanted]."""
    import torch

    ends = accumulate(row.count for row in rows)
    places = [place for row, end in zip(rows, ends, strict=True) for place in range(end - row.wanted, end)]
    return torch.tensor(places, device=device)


def attend(
    rows: Sequence[Row],
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    window: int | None,
    stored: torch.dtype | None = None,
) -> Tensor:
    """Causal attention of packed rows over their caches, which receive the new keys and values.

    `query` is [tokens, heads, head_dim], `key` and `value` are [tokens, kv_heads, head_dim] (heads a multiple of
    kv_heads, grouped-query attention); returns [tokens, heads, value_dim]. `stored` is the number format of the caches
    and of the attention over them, by default that of `key`.
    """
    import torch

    number = query.dtype
    if stored is not None:
        query, key, value = query.to(stored), key.to(stored), value.to(stored)
    outputs: list[Tensor] = []
    end = 0
    for row in rows:
        begin, end = end, end + row.count
        keys, values = row.cache.write(layer, row.start, key[begin:end], value[begin:end])
        outputs.append(_attend_row(row, query[begin:end], keys, values, scale, window))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).to(number)


def _attend_row(row: Row, query: Tensor, keys: Tensor, values: Tensor, scale: float, window: int | None) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    count, heads, head_dim = query.shape
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    # The heads that share keys become one longer query, so keys and values are never repeated.
    if count == 1:
        if window is not None and keys.shape[1] > window:
            keys, values = keys[:, -window:], values[:, -window:]
        grouped = query.reshape(kv_heads, group, head_dim)
        out = scaled_dot_product_attention(grouped[None], keys[None], values[None], scale=scale)[0]
        return out.reshape(1, heads, -1)
    grouped = query.transpose(0, 1).reshape(kv_heads, group * count, head_dim)
    mask = row.mask(window, group, query)
    out = scaled_dot_product_attention(grouped[None], keys[None], values[None], attn_mask=mask, scale=scale)[0]
    return out.reshape(heads, count, -1).transpose(0, 1)
