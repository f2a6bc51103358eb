"""Another action where the model repeats itself: an action that failed, or a piece of text without end.

Greedy decoding says nearly the same to nearly the same prompt: told that `donors.csv` does not exist, a small model
often asks for `donors.csv` once more, until the brake ends the session. What it would have said next is mostly what is
meant. So the action is taken back to the token it was least sure of, which may not come there again, and goes on from
there as before: a limited discrepancy search (Harvey & Ginsberg 1995) with one discrepancy, over the places in order
of doubt. An action that was cut at its limit because it said one thing over and over is taken back to where it
began to.
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
COPIES, LONGEST_COPY = 8, 96
"""So many copies in a row, up to the cut, of so many tokens at most, are no text that was meant."""
LONGEST_TOKEN = 24
"""Characters."""
Complete = Callable[["Request"], Completion]


def otherwise(
    complete: Complete, request: Request, first: Completion, avoid: Sequence[Action], tokenizer: ModelTokenizer
) -> Completion:
    """`first`, or another action where that is one of `avoid`, or was cut while it repeated itself.

    If none of those nearest will do, it is `first` after all. Usage and milliseconds are of all attempts, with what was
    taken back among the sampled tokens; together they stay within the request's limit, but for the one attempt after a
    cut, which may take as long again.
    """
    if first.finish == "length":
        places = _second_copy(first)
    elif _is_one_of(first, avoid):
        chosen = [place for place, sampled in enumerate(first.sampled) if sampled]
        places = sorted(chosen, key=lambda place: first.logprobs[place])[:PLACES]
    else:
        return first
    attempts, decoded = [first], len(first.token_ids)
    for place in places:
        left = request.max_tokens - (0 if first.finish == "length" else decoded)
        if left <= 0:
            break
        said = tuple(zip(first.token_ids[:place], first.sampled, first.logprobs, strict=False))
        barred = _beginnings(tokenizer.decode(first.token_ids[place:]), first.token_ids[place], tokenizer)
        limit = min(request.max_tokens, place + left)
        other = complete(replace(request, max_tokens=limit, said=said, barred=barred, on_text=_untold))
        attempts.append(other)
        decoded += len(other.token_ids) - place
        if other.finish != "length" and not _is_one_of(other, avoid):
            return _paid(other, attempts, decoded)
    return _paid(first, attempts, decoded)


def _paid(said: Completion, attempts: Sequence[Completion], decoded: int) -> Completion:
    """What was said in the end, with the usage and the time of all attempts; `decoded` is their tokens together."""
    usage = replace(
        attempts[0].usage,
        forced=said.usage.forced,
        sampled=decoded - said.usage.forced,
        drafted=sum(attempt.usage.drafted for attempt in attempts),
        accepted=sum(attempt.usage.accepted for attempt in attempts),
    )
    parts = dict.fromkeys(part for attempt in attempts for part in attempt.milliseconds)
    spent = {part: round(sum(attempt.milliseconds.get(part, 0.0) for attempt in attempts), 3) for part in parts}
    if "first_token" in attempts[0].milliseconds:
        spent["first_token"] = attempts[0].milliseconds["first_token"]
    return replace(said, usage=usage, milliseconds=spent)


def _untold(_: str) -> None:
    """Who watches has seen the first attempt, and sees the action that is taken in the end."""


def _is_one_of(completion: Completion, avoid: Sequence[Action]) -> bool:
    if completion.finish != "stop":
        return False
    said = json.loads(completion.text) if avoid else {}
    return any(said["tool"] == action.tool and said["args"] == action.args for action in avoid)


def _second_copy(cut: Completion) -> list[int]:
    """The place where a text begins to repeat what it then repeats up to its cut; none where it does not."""
    ids = cut.token_ids[: max((place + 1 for place, sampled in enumerate(cut.sampled) if sampled), default=0)]
    for length in range(1, min(LONGEST_COPY, len(ids) // COPIES) + 1):
        begin = len(ids) - length
        while begin > 0 and ids[begin - 1] == ids[begin - 1 + length]:
            begin -= 1
        if len(ids) - begin >= COPIES * length:
            copy = range(begin + length, begin + 2 * length)
            return [place for place in copy if cut.sampled[place]][:1]
    return []


def _beginnings(text: str, first: int, tokenizer: ModelTokenizer) -> frozenset[int]:
    """The tokens that `text` can begin with: any of them would lead back to it."""
    found = {first}
    for length in range(1, LONGEST_TOKEN + 1):
        ids = tokenizer.encode(text[:length])
        if len(ids) == 1 and tokenizer.decode(ids) == text[:length]:
            found.add(ids[0])
    return frozenset(found)
