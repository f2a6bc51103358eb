"""Teachers at work: each task is solved through the real loop with the real tools, and leaves an ordinary journal.

A worker process keeps one workspace folder and one sandbox on it, which is what makes teaching quick: opening a
sandbox with its proof costs more than a whole session. Between sessions the folder is emptied and filled anew. Each
session has a memory of its own that holds what the task says was remembered, and no embedding model is loaded for it.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.index import SessionIndex
from agent.learning.curriculum.draw import OUTCOME
from agent.learning.curriculum.task import Act, Play, Task
from agent.parts import Supplied, open_sandbox_in
from agent.runtime import run_goal
from agent.settings import Settings, load_settings
from agent.types import (
    JSON,
    Action,
    Capability,
    Completion,
    Event,
    Limits,
    MemoryKind,
    MemoryRecord,
    Observation,
    Prompt,
    Recalled,
    Sandbox,
    SandboxResult,
    TokenUsage,
    WhetstoneError,
)
from memory.record import record_id

CHARS_PER_TOKEN = 4
CHUNK = 20
"""Tasks that a worker process is handed at a time."""


@dataclass(frozen=True)
class Lesson:
    """What became of one task. `passed` says that the session finished and its check held."""

    id: str
    family: str
    passed: bool
    ending: str
    reason: str
    session: str
    steps: int
    characters: int
    """Of everything in the session's prompt at its end."""


class TeacherPolicy:
    """Plays a task's teacher: hands it each observation, and turns what it does next into an action."""

    def __init__(self, play: Callable[[str], Play], name: str) -> None:
        self._play, self._name = play, name
        self._running: Play | None = None
        self._seen: Observation | None = None
        self.characters = 0
        """Of everything in the last prompt and the action that followed."""

    @property
    def context_tokens(self) -> int:
        return 32768

    def describe(self) -> Mapping[str, JSON]:
        return {"name": f"teacher:{self._name}", "adapter": None, "kind": "teacher"}

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1

    def event(self, event: Event) -> None:
        """Take in what the loop logs: the teacher is told each observation whole."""
        if event.kind == "observation":
            self._seen = Observation(event.data["status"], event.data["text"], event.data["origin"])

    def text(self, piece: str) -> None:
        return

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        action = self._next(prompt)
        if all(action.tool != option["properties"]["tool"]["const"] for option in schema["anyOf"]):
            raise WhetstoneError(f"the teacher of {self._name} needs {action.tool}, which this session does not have")
        text = json.dumps(asdict(action), ensure_ascii=False, separators=(",", ":"))
        on_text(text)
        self.characters = sum(len(message.content) for message in prompt.messages) + len(text)
        tokens = sum(self.count(message.content) for message in prompt.messages)
        return Completion(text, usage=TokenUsage(prompt=tokens, prefilled=tokens, sampled=self.count(text)))

    def close(self) -> None:
        return

    def _next(self, prompt: Prompt) -> Act:
        try:
            if self._running is None:
                self._running = self._play(prompt.messages[1].content)
                return next(self._running)
            if self._seen is None:
                raise WhetstoneError(f"the teacher of {self._name} has not been told what its last action did")
            return self._running.send(self._seen)
        except StopIteration as done:
            if done.value is None:  # its answer was refused, which no teacher of a task in order meets
                raise WhetstoneError(f"the teacher of {self._name} has nothing more to do") from None
            return Act(done.value.thought, "finish", {"answer": done.value.answer})


def teach(ids: Sequence[str], data: Path, *, cache: Path, workers: int = 2) -> Iterator[Lesson]:
    """Solve the tasks of these ids, and leave the journals of those that passed below `data`.

    Yields what became of each. The journal of a session that failed is removed: a teacher's mistake is nothing to
    learn from. Raises WhetstoneError when there is no sandbox, for an unknown id, or when `data` cannot be written.
    """
    chunks = [list(ids[at : at + CHUNK]) for at in range(0, len(ids), CHUNK)]
    if workers <= 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from _teach_chunk(chunk, data, cache)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for lessons in pool.map(_teach_chunk, chunks, [data] * len(chunks), [cache] * len(chunks)):
            yield from lessons


class Classroom:
    """A folder with a sandbox, where one task after another is solved. A context manager."""

    def __init__(self, data: Path, *, cache: Path) -> None:
        # The settings are read as if from the lesson's folder, where a relative path would mean another place.
        self._data, self._cache = data.absolute(), cache.absolute()
        self._stack = ExitStack()
        self._workspace = Path()
        self._sandbox: Sandbox | None = None
        self._capabilities: tuple[Capability, ...] = ()

    def __enter__(self) -> Classroom:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="whetstone-lesson-"))
        self._workspace = Path(folder).resolve() / "workspace"
        self._workspace.mkdir()
        self._sandbox, self._capabilities = open_sandbox_in(self._settings(), self._workspace)
        if self._sandbox is None:
            self._stack.close()
            raise WhetstoneError("teachers need a sandbox for their scripts and none works here: `doctor` says why")
        self._stack.callback(self._sandbox.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sessions(self) -> Path:
        """Where the journals are."""
        return self._data / "sessions"

    def teach(self, task: Task) -> Lesson:
        """Solve one task; its journal is kept if its check passed.

        A teacher who cannot do without a tool that the task leaves out gets all of them.
        """
        lesson = self._lesson(task)
        return lesson if lesson.passed or task.tools == ("*",) else self._lesson(replace(task, tools=("*",)))

    def _lesson(self, task: Task) -> Lesson:
        self._furnish(task)
        settings, policy = self._settings(task), TeacherPolicy(task.play, task.row.family)
        records = [_record("note", text, number) for number, text in enumerate(task.row.remembered)]
        records += [_record(_kind(text), text, number) for number, text in enumerate(task.earlier)]
        supplied = Supplied(memory=lambda: Notes(records) if task.memory else None, sandbox=self._lend)
        goal = replace(task.row.goal, budget=settings.goal_budget())
        end = run_goal(settings, goal, view=policy, asker=None, policy=lambda _: policy, supplied=supplied).data
        lesson = Lesson(
            id=task.row.id,
            family=task.row.family,
            passed=end["ending"] == "finished",
            ending=end["ending"],
            reason=end["reason"],
            session=end["session"],
            steps=end["steps"],
            characters=policy.characters,
        )
        if not lesson.passed:
            (self.sessions / f"{lesson.session}.jsonl").unlink()
            SessionIndex(self.sessions).forget([lesson.session])
        return lesson

    def _furnish(self, task: Task) -> None:
        """The workspace as the task wants it, in the same folder that the sandbox holds."""
        for entry in self._workspace.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for path, text in task.row.files.items():
            (self._workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (self._workspace / path).write_text(text, encoding="utf-8", newline="")

    def _lend(self, folder: Path) -> tuple[Sandbox | None, tuple[Capability, ...]]:
        """The one sandbox for the workspace; a new one for any other folder, such as the copy that a check runs on."""
        if self._sandbox is not None and folder.resolve() == self._workspace:
            return Lent(self._sandbox), self._capabilities
        return open_sandbox_in(self._settings(), folder)

    def _settings(self, task: Task | None = None) -> Settings:
        # The teachers' scripts are ours, so the rung that was found is as good as one that was asked for by name.
        rung = "auto" if self._sandbox is None else self._sandbox.capability.rung
        return load_settings(
            {
                "paths.workspace": str(self._workspace),
                "paths.data": str(self._data),
                "paths.cache": str(self._cache),
                "approval.mode": "auto",
                "sandbox.rung": rung,
                "model.name": "teacher",
                "memory.enabled": task is None or task.memory,
                "tools.enabled": ",".join(task.tools if task else ("*",)),
            },
            env={},
            folder=self._workspace.parent,
        )


class Lent:
    """A sandbox that goes on after the session that used it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    @property
    def capability(self) -> Capability:
        return self._sandbox.capability

    def run_python(self, source: str, *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        return self._sandbox.run_python(source, limits=limits, stdin=stdin)

    def run_command(self, argv: Sequence[str], *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        return self._sandbox.run_command(argv, limits=limits, stdin=stdin)

    def close(self) -> None:
        return


class Notes:
    """A memory that ranks by shared words: quick, and to the session the same as the one that embeds."""

    def __init__(self, records: Iterable[MemoryRecord]) -> None:
        self._records = list(records)

    def add(self, records: Iterable[MemoryRecord]) -> None:
        self._records += records

    def recall(
        self, query: str, *, limit: int = 5, max_chars: int = 1500, exclude_session: str | None = None
    ) -> Sequence[Recalled]:
        wanted = set(_words(query))
        scored = [
            Recalled(record, len(wanted.intersection(_words(record.text))))
            for record in self._records
            if record.session != exclude_session
        ]
        found: list[Recalled] = []
        for hit in sorted(scored, key=lambda hit: -hit.score)[:limit]:
            max_chars -= len(hit.record.text)
            if max_chars < 0:
                break
            found.append(hit)
        return found

    def close(self) -> None:
        return


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]{3,}", text.lower())


def _teach_chunk(ids: Sequence[str], data: Path, cache: Path) -> list[Lesson]:
    from agent.learning.curriculum import task_named

    with Classroom(data, cache=cache) as room:
        return [room.teach(task_named(id)) for id in ids]


def _kind(text: str) -> MemoryKind:
    return "outcome" if text.startswith(OUTCOME) else "observation"


def _record(kind: MemoryKind, text: str, number: int) -> MemoryRecord:
    session = f"earlier-{number}"
    return MemoryRecord(
        id=record_id(session, kind, text),
        text=text,
        kind=kind,
        origin={"note": "user", "observation": f"tool:{text.partition('(')[0]}"}.get(kind, "model"),
        session=session,
        step=1,
        goal=text.split("\n")[0].removeprefix(OUTCOME) if kind == "outcome" else "",
        created=time.time() - 3600 * (number + 1),
        importance=0.8,
    )
