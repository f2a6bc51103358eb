"""The ways to adapt a model, as peft's configs.

LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), AdaLoRA (Zhang et al. 2023), prefix tuning
(Li and Liang 2021), prompt tuning (Lester et al. 2021), IA3 (Liu et al. 2022).
"""

from __future__ import annotations

from typing import Any

from agent.learning.recipe import Recipe


def peft_config(recipe: Recipe, *, layers: int, steps: int) -> Any:
    """peft's config for a recipe of `steps` optimizer steps on a model of `layers` layers; None for `full`."""
    import peft

    task: dict[str, Any] = {"task_type": "CAUSAL_LM"}
    if recipe.method == "full":
        return None
    if recipe.method == "prefix":
        return peft.PrefixTuningConfig(num_virtual_tokens=recipe.rank, **task)
    if recipe.method == "prompt":
        return peft.PromptTuningConfig(num_virtual_tokens=recipe.rank, **task)
    chosen: dict[str, Any] = {"target_modules": list(recipe.targets) or "all-linear", **task}
    if recipe.layers:
        chosen["layers_to_transform"] = list(range(max(layers - recipe.layers, 0), layers))
    if recipe.method == "ia3":
        chosen.pop("layers_to_transform", None)
        # Without names given, the keys, values and one feed-forward layer that peft knows for the family.
        return peft.IA3Config(**(chosen if recipe.targets else task), **_feedforward(recipe))
    chosen |= {"lora_alpha": recipe.alpha, "lora_dropout": 0.0}
    if recipe.method == "adalora":
        # Ranks start half as large again as wanted on average, and are taken away where they matter least.
        return peft.AdaLoraConfig(
            init_r=max(recipe.rank * 3 // 2, recipe.rank + 1),
            target_r=recipe.rank,
            tinit=steps // 10,
            tfinal=steps // 3,
            deltaT=max(1, steps // 50),
            total_step=max(steps, 1),
            **chosen,
        )
    return peft.LoraConfig(
        r=recipe.rank, use_rslora=recipe.method == "rslora", use_dora=recipe.method == "dora", **chosen
    )


def _feedforward(recipe: Recipe) -> dict[str, Any]:
    """IA3 scales a feed-forward layer's input instead of its output; it must be told which layers these are."""
    found = [name for name in recipe.targets if name in ("down_proj", "fc2", "c_proj", "dense_4h_to_h")]
    return {"feedforward_modules": found} if recipe.targets else {}
