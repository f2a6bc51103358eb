"""What a number format costs in quality: the same held-out sessions read in float32 and in the others.

    python -m agent curriculum make --split heldout -o suite.jsonl
    python -m agent curriculum teach suite.jsonl -o taught
    python -m agent dataset build taught/sessions -o heldout --raw --loss-on sampled
    python -m benchmarks.precision heldout [--sessions 60] [--adapter FOLDER]

Every session is read whole, once per format; at each token that the model was free to choose, the two formats are asked
what they would say. *Actions* counts an action as the same where all its free tokens are. KL is from float32.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.models import LoadedModel, load_model
from agent.engine.network import Row
from agent.learning.dataset import read_examples
from agent.learning.examples import Example
from agent.settings import load_settings

if TYPE_CHECKING:
    from torch import Tensor


def logprobs(loaded: LoadedModel, example: Example) -> Tensor:
    """Log-probabilities at the places that are learned, [places, vocabulary]."""
    import torch

    places = torch.tensor([place - 1 for place, learned in enumerate(example.loss) if learned])
    with torch.inference_mode():
        row = Row(loaded.model.new_cache(), example.ids, wanted=len(example.ids) - int(places[0]))
        return loaded.model.forward([row])[places - places[0]].log_softmax(-1)


def runs(example: Example) -> Iterator[slice]:
    """The actions: stretches of learned places with at most the grammar's own tokens between them."""
    places = [place for place, learned in enumerate(example.loss) if learned]
    begin = 0
    for number in range(1, len(places) + 1):
        if number == len(places) or places[number] - places[number - 1] > 24:
            yield slice(begin, number)
            begin = number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    examples = read_examples(options.dataset)
    random.Random(0).shuffle(examples)
    examples = examples[: options.sessions]
    cache = load_settings({}).paths.cache

    def load(dtype: Any) -> LoadedModel:
        return load_model(options.model, adapter=options.adapter, dtype=dtype, threads=options.threads, cache=cache)

    reference = load("fp32")
    print(f"{len(examples)} sessions, {sum(sum(e.loss) for e in examples)} free tokens")
    for dtype in ("bf16", "int8"):
        other = load(dtype)
        same = places = whole = actions = 0
        divergence = drift = 0.0
        for example in examples:
            expected, found = logprobs(reference, example), logprobs(other, example)
            agree = expected.argmax(-1) == found.argmax(-1)
            said = [id for id, learned in zip(example.ids, example.loss, strict=True) if learned]
            drift += float((found - expected)[range(len(said)), said].abs().sum())
            divergence += float((expected.exp() * (expected - found)).sum())
            same, places = same + int(agree.sum()), places + len(agree)
            for action in runs(example):
                whole, actions = whole + bool(agree[action].all()), actions + 1
        print(
            f"{dtype}: same token {same / places:.2%}, same action {whole / actions:.1%} of {actions},"
            f" KL {divergence / places:.5f} nats, log-probability of what was said moves by {drift / places:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
