"""The Llama family with LoRA, forward and backward over a pack of sessions, written out for speed on a CPU.

Only the LoRA matrices learn, so most of what autograd keeps and computes for a module tree is not needed. Three
things make this several times faster than peft over transformers on a small model:

* a LoRA and the weight it belongs to are one product: y = [x, x A^T] [W, s B]^T, and so is its gradient;
* the weights of RMSNorm are multiplied into the frozen weight behind it once;
* a layer is one step of autograd, which keeps ten tensors and computes the cheap ones again.

The layers are in `agent.learning.packed_layers`. Tests hold loss and gradients equal to peft's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from agent.engine.llama import _frequencies, understands  # pyright: ignore[reportPrivateUsage]
from agent.learning.packed_layers import Layer, LayerStep, Part, Projection, Run

if TYPE_CHECKING:
    from agent.learning.packing import Pack

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LINEAR = ATTENTION + MLP


def trains(config: Mapping[str, Any]) -> bool:
    """Whether a model with this config.json is what this file computes."""
    return understands(config) and config["model_type"] in ("llama", "mistral", "qwen2") and not _windowed(config)


def _windowed(config: Mapping[str, Any]) -> bool:
    if config["model_type"] == "qwen2":
        return bool(config.get("use_sliding_window"))
    return config.get("sliding_window") is not None


class PackedLlama:
    """A frozen model with a LoRA that learns.

    `weights` is the state dict of transformers' `...ForCausalLM`. The LoRA has rank `rank` and scale `scale` on the
    `targets` of the layers from `first_layer` on. `parameters` maps peft's names to float32 leaves: A like peft's
    (Kaiming uniform), B zero. `keep_weights` keeps attention weights for the backward pass, which is quicker and takes
    twice the memory.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        *,
        rank: int,
        scale: float,
        targets: Sequence[str] = LINEAR,
        first_layer: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
        checkpointing: bool = False,
        keep_weights: bool = False,
    ) -> None:
        self.dtype, self.device = dtype, torch.device(device)
        self._checkpointing, self._keep_weights = checkpointing, keep_weights and not checkpointing
        self._epsilon: float = config.get("rms_norm_eps", 1e-6)
        heads: int = config["num_attention_heads"]
        kv_heads: int = config.get("num_key_value_heads") or heads
        head_dim: int = config.get("head_dim") or config["hidden_size"] // heads
        self._frequencies = _frequencies(config, head_dim).to(self.device)
        self.embedding = weights["model.embed_tokens.weight"].to(self.device, dtype)
        tied = "lm_head.weight" not in weights or config.get("tie_word_embeddings", False)
        self.head = self.embedding if tied else weights["lm_head.weight"].to(self.device, dtype)
        self._norm = weights["model.norm.weight"].to(self.device, torch.float32)
        self.parameters: dict[str, torch.nn.Parameter] = {}
        random = torch.Generator().manual_seed(seed)

        def projection(prefix: str, names: Sequence[str], norm: str | None, number: int) -> Projection:
            parts: list[Part] = []
            for name in names:
                weight = weights[f"{prefix}.{name}.weight"].to(self.device, torch.float32)
                bias = weights.get(f"{prefix}.{name}.bias")
                part = Part(weight, None if bias is None else bias.to(self.device, dtype))
                if rank and number >= first_layer and name in targets:
                    a = torch.empty(rank, weight.shape[1])
                    torch.nn.init.kaiming_uniform_(a, a=5**0.5, generator=random)
                    part.a = torch.nn.Parameter(a.to(self.device))
                    part.b = torch.nn.Parameter(torch.zeros(weight.shape[0], rank, device=self.device))
                    self.parameters[f"base_model.model.{prefix}.{name}.lora_A.weight"] = part.a
                    self.parameters[f"base_model.model.{prefix}.{name}.lora_B.weight"] = part.b
                parts.append(part)
            folded = None if norm is None else weights[norm].to(self.device, torch.float32)
            return Projection(parts, folded, scale, dtype)

        self._layers = [
            Layer(
                qkv=projection(f"{name}.self_attn", ATTENTION[:3], f"{name}.input_layernorm.weight", number),
                out=projection(f"{name}.self_attn", ATTENTION[3:], None, number),
                gate_up=projection(f"{name}.mlp", MLP[:2], f"{name}.post_attention_layernorm.weight", number),
                down=projection(f"{name}.mlp", MLP[2:], None, number),
                heads=heads,
                kv_heads=kv_heads,
                head_dim=head_dim,
                epsilon=self._epsilon,
            )
            for number, name in ((n, f"model.layers.{n}") for n in range(config["num_hidden_layers"]))
        ]

    def refresh(self) -> None:
        """Take over the parameters' values after the optimizer changed them."""
        for layer in self._layers:
            for projection in layer.projections:
                projection.refresh()

    def hidden(self, pack: Pack, *, adapted: bool = True, perturbation: Tensor | None = None) -> Tensor:
        """Normalised hidden states at `pack.at`, [targets, hidden size]; times `head` they are logits.

        `adapted=False` gives the base's. `perturbation`, [tokens, hidden size], is added to the embeddings.
        """
        x = embedding(pack.ids, self.embedding)
        if perturbation is not None:
            x = x + perturbation.to(self.dtype)
        run = self._run(pack, adapted)
        for layer in self._layers:
            if adapted:
                x = LayerStep.apply(x, layer, run, *layer.parameters)
            else:
                x, _ = layer.forward(x, run)
        x = x[pack.at].float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self._epsilon) * self._norm
        return x.to(self.dtype)

    @torch.no_grad()
    def states(self, pack: Pack) -> Iterator[Tensor]:
        """What goes into the first layer and what comes out of each, [tokens, hidden size], without the LoRA."""
        x = embedding(pack.ids, self.embedding)
        run = self._run(pack, adapted=False)
        yield x
        for layer in self._layers:
            x, _ = layer.forward(x, run)
            yield x

    def _run(self, pack: Pack, adapted: bool) -> Run:
        angles = pack.positions[:, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        cos = torch.cat([cos, cos], -1)[:, None].to(self.dtype)
        sin = torch.cat([-sin, sin], -1)[:, None].to(self.dtype)
        keep = self._keep_weights and adapted and torch.is_grad_enabled()
        return Run(pack, cos, sin, adapted, self._checkpointing, keep)
