"""Another action where the model says one again that failed.

Greedy decoding says nearly the same to nearly the same prompt: told that `donors.csv` does not exist, a small model
often asks for `donors.csv` once more, until the brake ends the session. What it would have said next is mostly what is
meant. So the action is taken back to the token it was least sure of, which may not come there again, and goes on from
there as before: a limited discrepancy search (Harvey & Ginsberg 1995) with one discrepancy, over the places in order
of doubt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.types import Action, Completion

if TYPE_CHECKING:
    from agent.engine.decode import Request
    from agent.engine.tokenizer import ModelTokenizer

PLACES = 4
"""How many places are tried before the action is said again after all."""
LONGEST_TOKEN = 24
"""Characters."""


def otherwise(
    complete: Callable[[Request], Completion],
    request: Request,
    first: Completion,
    avoid: Sequence[Action],
    tokenizer: ModelTokenizer,
) -> Completion:
    """`first`, or where it is one of `avoid`, an action that is none of them, if one of the nearest is.

    Tokens of what was taken back count as sampled in the usage, so that a budget covers them.
    """
    if not _is_one_of(first, avoid):
        return first
    chosen = [place for place, sampled in enumerate(first.sampled) if sampled]
    taken_back = 0
    for place in sorted(chosen, key=lambda place: first.logprobs[place])[:PLACES]:
        said = tuple(zip(first.token_ids[:place], first.sampled, first.logprobs, strict=False))
        barred = _beginnings(tokenizer.decode(first.token_ids[place:]), first.token_ids[place], tokenizer)
        other = complete(replace(request, said=said, barred=barred, on_text=_untold))
        if not _is_one_of(other, avoid):
            unsaid = len(first.token_ids) - place + taken_back
            return replace(other, usage=replace(other.usage, sampled=other.usage.sampled + unsaid))
        taken_back += len(other.token_ids) - place
    return replace(first, usage=replace(first.usage, sampled=first.usage.sampled + taken_back))


def _untold(_: str) -> None:
    """Who watches has seen the first attempt, and sees the action that is taken in the end."""


def _is_one_of(completion: Completion, avoid: Sequence[Action]) -> bool:
    if completion.finish != "stop":
        return False
    said = json.loads(completion.text)
    return any(said["tool"] == action.tool and said["args"] == action.args for action in avoid)


def _beginnings(text: str, first: int, tokenizer: ModelTokenizer) -> frozenset[int]:
    """The tokens that `text` can begin with: any of them would lead back to it."""
    found = {first}
    for length in range(1, LONGEST_TOKEN + 1):
        ids = tokenizer.encode(text[:length])
        if len(ids) == 1 and tokenizer.decode(ids) == text[:length]:
            found.add(ids[0])
    return frozenset(found)
