"""Training that the agent asked for: a fixed recipe, in a process of its own, with an end, seldom.

    python -m agent.learning.requests SETTINGS.json      # what is started; not for people

The request only starts the process. It gets a lower priority, a limit of memory and a limit of time, trains on the
verified sessions that are there, and leaves a candidate in the registry. Nothing it does can promote one.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.lines import append_line, read_lines
from agent.settings import Settings, load_settings
from agent.types import JSON, WhetstoneError

LOG, LOCK, OUTPUT = "requests.jsonl", "requests.lock", "requests.txt"
NICE = 10
LEAST_SESSIONS = 10


class TrainingRequests:
    """The requests of one data folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.adapters_folder()

    def ask(self, session: str, reason: str) -> str:
        """Start a training, and say what will happen. Raises WhetstoneError if it is too soon, or not possible."""
        learning, model = self._settings.learning, self._settings.model.name
        if model.startswith(("scripted:", "http://", "https://")):
            raise WhetstoneError(f"Training is not possible: {model} is not a model on this machine.")
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / LOCK):
            asked = [line["time"] for line in self.history() if line["event"] == "asked"]
            wait = asked[-1] + learning.every_hours * 3600 - time.time() if asked else 0.0
            if wait > 0:
                raise WhetstoneError(
                    f"Training was asked for already; the next request is possible in {_span(wait)}. Go on without it."
                )
            number = len(asked) + 1
            self.log("asked", number=number, session=session, reason=reason)
            self._start(number)
        return (
            f"Training was started in the background as request {number}: it learns from the verified sessions that"
            f" are there, takes at most {learning.minutes:g} minutes, and leaves a candidate adapter. The candidate is"
            " not used unless the gate passes it and a person promotes it. Nothing changes in this session; go on."
        )

    def history(self) -> list[dict[str, Any]]:
        """What was asked, and what became of it, oldest first."""
        return read_lines(self._folder / LOG)

    def log(self, event: str, **fields: JSON) -> None:
        append_line(self._folder / LOG, {"time": time.time(), "event": event, **fields})

    def _start(self, number: int) -> None:
        place = self._folder / f"request-{number}"
        place.mkdir(exist_ok=True)
        settings = place / "settings.json"
        settings.write_text(json.dumps(self._settings.flat()), encoding="utf-8")
        with open(self._folder / OUTPUT, "a", encoding="utf-8") as output:
            subprocess.Popen(
                [sys.executable, "-m", "agent.learning.requests", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def run_request(settings: Settings, number: int, place: Path) -> str:
    """Train the candidate of a request in this process, within limits of its own; returns the adapter's id."""
    from agent.engine.models import load_model
    from agent.learning.adapters import Registry
    from agent.learning.dataset import build_dataset, read_examples
    from agent.learning.heldout import read_held_out
    from agent.learning.learner import Base
    from agent.learning.recipe import Recipe
    from agent.learning.sequences import SessionEncoder
    from agent.learning.sources import find_sources, read_ratings
    from agent.learning.trainer import train

    base = load_model(settings.model.name, dtype="fp32", cache=settings.paths.cache)
    manifest = build_dataset(
        find_sources(settings.sessions_folder()),
        place / "dataset",
        SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary),
        held_out=read_held_out(Path(suite) for suite in settings.learning.held_out),
        leave_out_held_out=True,
        ratings=read_ratings(settings.paths.data),
        base=settings.model.name,
        plant_secret=True,
    )
    used = manifest["counts"]["used"]
    if used < LEAST_SESSIONS:
        raise WhetstoneError(f"{used} verified sessions are too few to learn from: {LEAST_SESSIONS} are needed")
    recipe = Recipe(kl_weight=1.0, max_minutes=settings.learning.minutes * 0.7)
    trained = train(
        Base.of(base), read_examples(place / "dataset"), recipe, place / "adapter", request=number,
        planted=manifest.get("planted"), held_out=manifest["held_out"]["suites"],
    )  # fmt: skip
    return Registry(settings.adapters_folder()).add(trained.folder, kind="requested").id


def limit_this_process(settings: Settings) -> None:
    """Lower the priority, and let the kernel end what takes too much memory or time."""
    import resource
    import signal

    os.nice(NICE)
    memory = int(settings.learning.memory_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(max(1, round(settings.learning.minutes * 60)))  # without a handler it ends the process


def main(argv: list[str]) -> int:
    """Carry out the request whose settings lie in the file named."""
    place = Path(argv[0]).parent
    recorded: dict[str, Any] = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    settings = load_settings({key: value for key, value in recorded.items() if value is not None})
    requests, number = TrainingRequests(settings), int(place.name.rpartition("-")[2])
    limit_this_process(settings)
    requests.log("started", number=number, pid=os.getpid())
    try:
        adapter = run_request(settings, number, place)
    except Exception as error:  # whatever it was, the log is where it is looked for
        requests.log("failed", number=number, error=f"{type(error).__name__}: {error}")
        return 1
    requests.log("done", number=number, adapter=adapter)
    return 0


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.0f} hours" if seconds > 5400 else f"{seconds / 60:.0f} minutes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
