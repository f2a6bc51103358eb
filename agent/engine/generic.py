"""Any other causal language model of transformers, behind the same forward pass.

transformers' models ask a named function for their attention. Ours packs rows and keeps the caches, so no model code
is copied; what a model must not do is remember anything outside attention. That is tried out when it is loaded: a
prompt read in one piece and in two must give the same output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.kvcache import KVCache
from agent.engine.network import Row, attend, wanted_places
from agent.engine.precision import DType, linear
from agent.types import WhetstoneError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ATTENTION = "whetstone"
KINDS_OF_LAYER = frozenset({"full_attention", "sliding_attention"})


def load_transformers(folder: Path, dtype: DType) -> Any:
    """transformers' model in `folder`, on the CPU, in eval mode. Raises WhetstoneError if it has no such model."""
    import torch
    from transformers import AttentionInterface, AutoModelForCausalLM
    from transformers.utils import logging

    AttentionInterface.register(ATTENTION, _attention)
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    number = torch.bfloat16 if dtype == "bf16" else torch.float32
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=number, attn_implementation=ATTENTION, local_files_only=True
        )
    except Exception as error:  # from_pretrained raises of every kind
        reason = " ".join(str(error).split())[:300]
        raise WhetstoneError(f"the model in {folder} cannot be loaded: {reason}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    return model.eval()


class GenericNetwork:
    """A `Network` around a transformers model that `load_transformers` returned.

    Raises WhetstoneError for models that cannot be run from a cache of keys and values.
    """

    def __init__(self, model: Any, *, dtype: DType, device: torch.device) -> None:
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ())
        if kinds - KINDS_OF_LAYER:
            raise _unsupported(f"it has {' and '.join(sorted(kinds - KINDS_OF_LAYER))} layers")
        self.dtype: str = dtype
        self.device = device
        self.layers: int = config.num_hidden_layers
        self.vocabulary: int = config.vocab_size
        self.context_tokens: int = getattr(config, "max_position_embeddings", None) or 2048
        self._model = model.to(device)
        if dtype == "int8":
            _quantize(self._model)
        self._try_out()

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """See `Network.forward`."""
        import torch

        ids = torch.tensor([id for row in rows for id in row.ids], device=self.device)
        return self._run(rows, input_ids=ids[None]).logits[0].float()

    def new_cache(self) -> KVCache:
        """See `Network`."""
        return KVCache(self.layers)

    def read(self, cache: KVCache, embeddings: Tensor) -> None:
        """See `Reader`."""
        x = embeddings.to(device=self.device, dtype=self._model.dtype)
        self._run([Row(cache, [0] * len(x))], inputs_embeds=x[None])

    def _run(self, rows: Sequence[Row], **inputs: Tensor) -> Any:
        import torch

        places = torch.cat([torch.arange(r.start, r.start + r.count, device=self.device) for r in rows])
        keep = wanted_places(rows, self.device)
        return self._model(
            **inputs, position_ids=places[None], use_cache=False, logits_to_keep=keep, whetstone_rows=rows
        )

    def _try_out(self) -> None:
        import torch

        ids = [(7 * n + 3) % self.vocabulary for n in range(12)]
        whole, halves = self.new_cache(), self.new_cache()
        try:
            with torch.inference_mode():
                expected = self.forward([Row(whole, ids)])
                self.forward([Row(halves, ids[:7])])
                halves.ids += ids[:7]
                found = self.forward([Row(halves, ids[7:])])
        except (TypeError, KeyError, AttributeError, ValueError, RuntimeError, IndexError) as error:
            raise _unsupported(" ".join(str(error).split())[:200]) from error
        tolerance = 1e-3 if self.dtype == "fp32" else 0.1
        if not torch.allclose(expected, found, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
            raise _unsupported("it remembers more than keys and values")


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    whetstone_rows: Sequence[Row] | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, heads, tokens, head_dim] -> [1, tokens, heads, head_dim]."""
    extras = [name for name in ("softcap", "s_aux", "position_bias") if more.get(name) is not None]
    if extras or whetstone_rows is None:
        raise ValueError(f"its attention uses {' and '.join(extras) or 'no keyword arguments'}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    out = attend(whetstone_rows, module.layer_idx, q, k, v, scale=scale, window=sliding_window)
    return out[None], None


def _quantize(model: Any) -> None:
    """Put an int8 product in place of every linear layer; embeddings stay as they are."""
    import torch

    class Quantized(torch.nn.Module):
        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            bias: Tensor | None = getattr(layer, "bias")  # noqa: B009 - torch types it as never None
            self._product = linear(layer.weight.data, None if bias is None else bias.data, "int8")

        def forward(self, x: Tensor) -> Tensor:
            return self._product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(module, name, Quantized(child))


def _unsupported(reason: str) -> WhetstoneError:
    return WhetstoneError(
        f"the model's architecture cannot be run with a kept cache ({reason}): give another with --model"
    )
