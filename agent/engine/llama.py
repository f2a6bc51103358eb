"""The Llama family (Llama, SmolLM, Mistral, Qwen2, Qwen3) on bare tensors.

A small model spends more time in module bookkeeping than in arithmetic, and importing transformers' modelling code
takes three times as long as importing torch. So this family, the one the runtime is used with most, is written out
here: forty lines of arithmetic that tests hold equal to transformers' own. Other models run through
`agent/engine/generic.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.engine.kvcache import KVCache
from agent.engine.network import Row, attend, wanted_places
from agent.engine.precision import DType, Int8Linear, Linear, Rounded, linear, multiplies_bf16, rounded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FAMILY = frozenset({"llama", "mistral", "qwen2", "qwen3"})
PACKING_THREADS = 4
ROPE_TYPES = frozenset({"default", "linear", "llama3"})


def understands(config: Mapping[str, Any]) -> bool:
    """Whether a model with this config.json is exactly what this file computes."""
    return (
        config.get("model_type") in FAMILY
        and config.get("hidden_act", "silu") == "silu"
        and _rope(config).get("rope_type", "default") in ROPE_TYPES
        and _rope(config).get("partial_rotary_factor", 1.0) == 1.0
        and "quantization_config" not in config
    )


@dataclass
class _Layer:
    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear
    attention_norm: Tensor
    mlp_norm: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None
    window: int | None


class LlamaNetwork:
    """A `Network` from a config and the state dict of transformers' `...ForCausalLM`.

    For int8, `known` holds weights that were rounded before, by name; what it lacks is rounded and put there. What it
    has need not be in `weights`, and is made ready for this processor in the background.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        *,
        dtype: DType,
        device: torch.device,
        known: dict[str, Rounded] | None = None,
    ) -> None:
        import torch

        self.dtype: str = dtype
        self.device = device
        self.layers: int = config["num_hidden_layers"]
        self.vocabulary: int = config["vocab_size"]
        self.context_tokens: int = config.get("max_position_embeddings", 2048)
        self._heads: int = config["num_attention_heads"]
        self._kv_heads: int = config.get("num_key_value_heads") or self._heads
        self._head_dim: int = config.get("head_dim") or config["hidden_size"] // self._heads
        self._intermediate: int = config["intermediate_size"]
        self._epsilon: float = config.get("rms_norm_eps", 1e-6)
        self._frequencies = _frequencies(config, self._head_dim).to(device)
        self._number = torch.bfloat16 if dtype == "bf16" else torch.float32
        # Keys and values of a long history are more to read than int8 weights: half of it where bf16 is quick.
        self._stored = torch.bfloat16 if dtype == "int8" and multiplies_bf16() else None

        def get(name: str) -> Tensor:
            return weights[name].to(device=device, dtype=self._number)

        def optional(name: str) -> Tensor | None:
            return get(name) if name in weights else None

        known = {} if known is None else known
        background = ThreadPoolExecutor(PACKING_THREADS) if known else None

        def product(name: str, weight: Callable[[], Tensor], bias: Tensor | None) -> Linear:
            if dtype != "int8":
                return linear(weight(), bias, dtype)
            if name in known:
                return Int8Linear(known[name], bias, background)
            known[name] = rounded(weight())
            return Int8Linear(known[name], bias)

        def fused(prefix: str, *names: str) -> Linear:
            biases = [optional(f"{prefix}.{name}.bias") for name in names]
            bias = torch.cat([b for b in biases if b is not None]) if biases[0] is not None else None
            every = [f"{prefix}.{name}.weight" for name in names]
            return product(every[0], lambda: torch.cat([get(name) for name in every]), bias)

        def single(name: str) -> Linear:
            return product(f"{name}.weight", lambda: get(f"{name}.weight"), optional(f"{name}.bias"))

        def layer(number: int) -> _Layer:
            name = f"model.layers.{number}"
            return _Layer(
                qkv=fused(f"{name}.self_attn", "q_proj", "k_proj", "v_proj"),
                out=single(f"{name}.self_attn.o_proj"),
                gate_up=fused(f"{name}.mlp", "gate_proj", "up_proj"),
                down=single(f"{name}.mlp.down_proj"),
                attention_norm=get(f"{name}.input_layernorm.weight"),
                mlp_norm=get(f"{name}.post_attention_layernorm.weight"),
                query_norm=optional(f"{name}.self_attn.q_norm.weight"),
                key_norm=optional(f"{name}.self_attn.k_norm.weight"),
                window=_window(config, number),
            )

        self._embedding = get("model.embed_tokens.weight")
        self._norm = get("model.norm.weight")
        tied = "lm_head.weight" not in weights or config.get("tie_word_embeddings", False)
        # Rounding and packing int8 weights takes longer than all else at a start, and each does it on one core.
        with ThreadPoolExecutor(min(PACKING_THREADS, torch.get_num_threads())) as threads:
            head = threads.submit(
                product, "lm_head.weight", lambda: self._embedding if tied else get("lm_head.weight"), None
            )
            self._layers = list(threads.map(layer, range(self.layers)))
            self._head = head.result()
        if background is not None:
            background.shutdown(wait=False)

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """See `Network.forward`."""
        import torch
        from torch.nn.functional import embedding

        ids = torch.tensor([id for row in rows for id in row.ids], device=self.device)
        x = self._through(embedding(ids, self._embedding), rows)
        x = torch.rms_norm(x[wanted_places(rows, self.device)], (x.shape[1],), self._norm, self._epsilon)
        return self._head(x).float()

    def new_cache(self) -> KVCache:
        """See `Network`."""
        return KVCache(self.layers)

    def read(self, cache: KVCache, embeddings: Tensor) -> None:
        """See `Reader`."""
        x = embeddings.to(device=self.device, dtype=self._number)
        self._through(x, [Row(cache, [0] * len(x))])

    def _through(self, x: Tensor, rows: Sequence[Row]) -> Tensor:
        """All layers, [tokens, hidden] to [tokens, hidden]."""
        import torch
        from torch.nn.functional import silu

        cos, sin = self._rotation(rows)
        tokens, heads, both = len(x), self._heads, self._heads + self._kv_heads
        shape, scale = (x.shape[1],), self._head_dim**-0.5
        for number, layer in enumerate(self._layers):
            h = torch.rms_norm(x, shape, layer.attention_norm, self._epsilon)
            qkv = layer.qkv(h).view(tokens, both + self._kv_heads, self._head_dim)
            qk = qkv[:, :both]
            if layer.query_norm is not None and layer.key_norm is not None:
                size = (self._head_dim,)
                q = torch.rms_norm(qk[:, :heads], size, layer.query_norm, self._epsilon)
                qk = torch.cat([q, torch.rms_norm(qk[:, heads:], size, layer.key_norm, self._epsilon)], dim=1)
            qk = torch.addcmul(qk * cos, qk.roll(self._head_dim // 2, -1), sin)
            h = attend(
                rows,
                number,
                qk[:, :heads],
                qk[:, heads:],
                qkv[:, both:],
                scale=scale,
                window=layer.window,
                stored=self._stored,
            )
            x = x + layer.out(h.reshape(tokens, -1))
            h = torch.rms_norm(x, shape, layer.mlp_norm, self._epsilon)
            gate, up = layer.gate_up(h).split(self._intermediate, dim=-1)
            x = x + layer.down(silu(gate).mul_(up))
        return x

    def _rotation(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """cos and sin of the rotary embedding, [tokens, 1, head_dim]; sin carries the sign of the half-rotation."""
        import torch

        places = torch.cat([torch.arange(r.start, r.start + r.count, device=self.device) for r in rows])
        angles = places[:, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        together = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        return together[0][:, None].to(self._number), together[1][:, None].to(self._number)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    # transformers 5 writes `rope_parameters`; before, `rope_theta` stood alone and `rope_scaling` beside it.
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
    return rope


def _frequencies(config: Mapping[str, Any], head_dim: int) -> Tensor:
    """Rotary frequencies, [head_dim / 2] (Su et al. 2021), with Llama 3's long-context rescaling where asked for."""
    import torch

    rope = _rope(config)
    powers = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (rope["rope_theta"] ** powers)
    if rope["rope_type"] == "linear":
        return frequencies / rope["factor"]
    if rope["rope_type"] != "llama3":
        return frequencies
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    wavelengths = 2 * math.pi / frequencies
    blend = (original / wavelengths - low) / (high - low)
    smoothed = (1 - blend) * frequencies / factor + blend * frequencies
    slowed = torch.where(wavelengths > original / low, frequencies / factor, frequencies)
    return torch.where((wavelengths <= original / low) & (wavelengths >= original / high), smoothed, slowed)


def _window(config: Mapping[str, Any], layer: int) -> int | None:
    window: int | None = config.get("sliding_window")
    kinds: Sequence[str] | None = config.get("layer_types")
    if window is None or kinds is not None:
        return window if kinds is not None and kinds[layer] == "sliding_attention" else None
    if config["model_type"].startswith("qwen"):
        return window if config.get("use_sliding_window") and layer >= config.get("max_window_layers", 0) else None
    return window
