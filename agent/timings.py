"""How long a run takes to its first token on this machine, part by part, by really starting everything once."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from agent.settings import Settings
from agent.types import Event, Goal


@dataclass(frozen=True)
class StartTimings:
    """Wall seconds. `process` is from the start of the process to when the parts began to open, None where the system
    does not tell; `parts` opened beside each other; `opened` is all of them; `first_token` is reading the first prompt
    of `prompt_tokens` and choosing the first token; `total` is all of it."""

    process: float | None
    parts: dict[str, float]
    opened: float
    first_token: float
    prompt_tokens: int
    total: float


def time_start(settings: Settings) -> StartTimings:
    """Open what the settings name and let the model decode one action, which is then thrown away.

    Nothing is run or logged. Raises WhetstoneError for what cannot be opened.
    """
    from agent.parts import header, open_parts
    from agent.policies import open_policy
    from prompts import render

    process = _seconds_of_process()
    goal = Goal("Read notes.txt and say what it is about.", budget=settings.goal_budget())
    began = time.perf_counter()
    with open_parts(settings, goal, lambda: open_policy(settings, "timings"), autonomous=False) as parts:
        opened = time.perf_counter() - began
        events = [Event(0, "session", time.time(), header(settings, goal, "timings", parts))]
        prompt = render(events)
        completion = parts.policy.act(
            prompt,
            parts.schema,
            step=1,
            max_tokens=goal.budget.action_tokens,
            deadline=time.monotonic() + settings.budget.seconds,
            on_text=lambda _: None,
            cancelled=lambda: False,
        )
    first_token = completion.milliseconds.get("first_token", 0.0) / 1000
    total = (process or 0.0) + opened + first_token
    return StartTimings(process, dict(parts.startup), opened, first_token, completion.usage.prompt, total)


def print_timings(found: StartTimings, stream: TextIO, *, as_json: bool) -> None:
    """Print the breakdown, one part a line, or as one JSON object."""
    if as_json:
        print(json.dumps(asdict(found)), file=stream)
        return
    if found.process is not None:
        print(f"{'process, imports, settings':<30} {found.process:7.2f} s", file=stream)
    print(f"{'opening, all side by side':<30} {found.opened:7.2f} s", file=stream)
    for name, seconds in sorted(found.parts.items(), key=lambda part: -part[1]):
        print(f"  {name:<28} {seconds:7.2f} s", file=stream)
    print(f"{f'prompt of {found.prompt_tokens} tokens':<30} {found.first_token:7.2f} s", file=stream)
    print(f"{'to the first token':<30} {found.total:7.2f} s", file=stream)


def _seconds_of_process() -> float | None:
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - started
    except (OSError, ValueError, IndexError):
        return None
