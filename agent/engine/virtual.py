"""Adapters made of virtual tokens: prefix tuning (Li and Liang 2021) and prompt tuning (Lester et al. 2021).

Either way they end as keys and values that stand before the first token of every session: a prefix is just that, a
prompt is read once. So they cost a token what a prompt longer by so many tokens would, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.engine.adapter import WEIGHTS, Adapter
from agent.engine.finding import with_sizes
from agent.engine.kvcache import KVCache
from agent.engine.network import Network, Reader, Row
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor


class VirtualNetwork:
    """A `Network` whose sessions begin with `pairs`, keys and values of each layer, [kv_heads, positions, head_dim]."""

    def __init__(self, network: Network, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._network, self._pairs = network, pairs
        self.layers = network.layers
        self.vocabulary = network.vocabulary
        self.context_tokens = network.context_tokens - pairs[0][0].shape[1]
        self.dtype = network.dtype
        self.device = network.device

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """See `Network`."""
        return self._network.forward(rows)

    def new_cache(self) -> KVCache:
        """See `Network`. The pairs are shared: a cache copies what it holds before it grows."""
        return KVCache.of((), self._pairs)


def with_virtual_tokens(network: Reader, adapter: Adapter, config: Mapping[str, Any]) -> VirtualNetwork:
    """`network` (of a model with this config.json) behind an adapter's virtual tokens.

    Raises WhetstoneError where the adapter is of another shape.
    """
    import torch
    from safetensors.torch import load_file

    learned = load_file(adapter.folder / WEIGHTS)["prompt_embeddings"].to(network.device)
    config = with_sizes(config, ("hidden_size", "num_attention_heads"))
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    hidden: int = config["hidden_size"]
    head_dim = hidden // heads
    prefix = adapter.config["peft_type"] == "PREFIX_TUNING"
    wanted = 2 * network.layers * kv_heads * head_dim if prefix else hidden
    if learned.shape[1] != wanted:
        raise WhetstoneError(
            f"the adapter {adapter.folder} has virtual tokens of {learned.shape[1]} numbers where the model needs"
            f" {wanted}: give the model it belongs to with --model"
        )
    if prefix:
        # [positions, layers x (keys, values), kv_heads, head_dim], as peft lays them out
        laid = learned.view(len(learned), 2 * network.layers, kv_heads, head_dim).permute(1, 2, 0, 3).contiguous()
        return VirtualNetwork(network, [(laid[2 * n], laid[2 * n + 1]) for n in range(network.layers)])
    cache = network.new_cache()
    with torch.inference_mode():
        network.read(cache, learned)
    return VirtualNetwork(network, [(k.clone(), v.clone()) for k, v in cache.held(len(learned))])
