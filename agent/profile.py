"""Where a session's time went: from its journal alone, so it can be asked of any session, also years later."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from agent.types import Event

MODEL_PARTS = {
    "tokenize": "prompt to tokens",
    "prefill": "model: reading prompts",
    "decode": "model: writing actions",
    "draft": "guessing ahead",
    "mask": "grammar",
    "sample": "choosing tokens",
}
"""What of an action's milliseconds is told, in this order; together they are nearly its `total`."""


@dataclass(frozen=True)
class Profile:
    """Seconds by part, and counts of tokens. `seconds` is the wall time of the runs from the first event to the last.

    `startup` was spent before the first event (parts of it beside each other, so they do not add up); `parts` do add up
    to `seconds`, the last of them being what no other part took.
    """

    steps: int
    seconds: float
    startup: dict[str, float]
    parts: dict[str, float]
    tools: dict[str, float]
    tokens: dict[str, int]


def profile(events: Iterable[Event]) -> Profile:
    """Add up what the events of a session say about time and tokens."""
    parts: defaultdict[str, float] = defaultdict(float)
    tools: defaultdict[str, float] = defaultdict(float)
    tokens: Counter[str] = Counter()
    startup: dict[str, float] = {}
    steps, seconds, begun, last, tool = 0, 0.0, None, 0.0, ""
    for event in events:
        if event.kind in ("session", "resume"):  # time between two runs was nobody's
            seconds += last - begun if begun is not None else 0.0
            begun = event.time
            startup = dict(event.data.get("startup") or {})
        elif event.kind == "action":
            steps += 1
            tool = event.data["tool"] or ""
            for name in MODEL_PARTS:
                parts[MODEL_PARTS[name]] += event.data["milliseconds"].get(name, 0.0) / 1000
            tokens.update(event.data["usage"])
        elif event.kind == "observation":
            tools[tool] += event.data["seconds"]
        last = event.time
    seconds += last - begun if begun is not None else 0.0
    found: dict[str, float] = {label: parts[label] for label in MODEL_PARTS.values()}
    found["tools"] = sum(tools.values())
    found["memory, journal, waiting for a person"] = max(0.0, seconds - sum(found.values()))
    return Profile(steps, seconds, startup, found, dict(tools), dict(tokens))


def print_profile(found: Profile, stream: TextIO) -> None:
    """A table of seconds and shares, and one line about tokens."""

    def line(name: str, seconds: float, share: str = "") -> None:
        print(f"  {name:<40} {seconds:9.3f} s {share:>6}", file=stream)

    print(f"where the time went: {found.steps} step{'s' * (found.steps != 1)}, {found.seconds:.2f} s", file=stream)
    for name, seconds in found.parts.items():
        line(name, seconds, f"{seconds / found.seconds:.1%}" if found.seconds else "")
        if name == "tools":
            for tool, spent in sorted(found.tools.items(), key=lambda item: -item[1]):
                line(f"  {tool or 'no tool'}", spent)
    if found.startup:
        print("before the first step, partly beside each other:", file=stream)
        for name, seconds in found.startup.items():
            line(name, seconds)
    t = Counter(found.tokens)
    written = t["forced"] + t["sampled"]
    print(
        f"tokens: {t['prompt']} in prompts, {t['cached']} of them cached and {t['prefilled']} read; {written} written,"
        f" {t['forced']} of them forced; {t['drafted']} guessed ahead, {t['accepted']} of them right",
        file=stream,
    )
