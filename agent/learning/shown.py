"""Datasets as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from agent.engine.tokenizer import ModelTokenizer
from agent.learning.examples import Example


def marked(example: Example, tokenizer: ModelTokenizer) -> str:
    """The text of an example; what is learned stands between ⟦ and ⟧."""
    pairs = zip(example.ids, example.loss, strict=True)
    parts = [
        (learned, tokenizer.decode([id for id, _ in group])) for learned, group in groupby(pairs, key=lambda p: p[1])
    ]
    return "".join(f"⟦{text}⟧" if learned else text for learned, text in parts)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """The counts of a manifest in a few lines."""
    counts = manifest["counts"]
    share = 100 * counts["loss_tokens"] / counts["tokens"]
    lines = [
        f"{counts['used']} of {counts['read']} sessions, {counts['goals']} goals, {counts['examples']} sequences",
        f"{counts['tokens']} tokens, {counts['loss_tokens']} learned ({share:.0f} %), longest {counts['longest']}",
    ]
    if any(manifest["families"]):
        lines.append("families: " + ", ".join(f"{name or '-'} {n}" for name, n in manifest["families"].items()))
    if told := manifest.get("augmented"):
        lines.append("told again: " + ", ".join(f"{n} {what}" for what, n in told["counts"].items()))
    if manifest["left_out"]:
        lines.append("left out: " + ", ".join(f"{n} {reason}" for reason, n in manifest["left_out"].items()))
    if manifest["held_out"]["goals"]:
        lines.append(f"kept apart from {manifest['held_out']['goals']} held-out goals")
    return "\n".join(lines)
