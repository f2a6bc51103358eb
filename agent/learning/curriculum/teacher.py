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

from agent.approval import Approval
from agent.check import Verifier
from agent.index import SessionIndex
from agent.journal import Journal, new_session_id
from agent.learning.curriculum.task import Act, Play, Task
from agent.loop import Loop
from agent.parts import Parts, header, open_sandbox_in
from agent.recollection import Recollection
from agent.redact import redactor
from agent.settings import Settings, load_settings
from agent.snapshots import ObjectStore, keep_workspace
from agent.types import (
    JSON,
    Capability,
    Completion,
    Event,
    Memory,
    MemoryRecord,
    Observation,
    Prompt,
    Recalled,
    Sandbox,
    TokenUsage,
    WhetstoneError,
)
from memory.record import record_id
from prompts import render
from tools.base import ToolContext
from tools.plugins import load_tools
from tools.schema import action_schema
from tools.workspace import Workspace

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
    ) -> Completion:
        action = self._next(prompt)
        if all(action.tool != option["properties"]["tool"]["const"] for option in schema["anyOf"]):
            raise WhetstoneError(f"the teacher of {self._name} needs {action.tool}, which this session does not have")
        text = json.dumps(asdict(action), ensure_ascii=False, separators=(",", ":"))
        on_text(text)
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
        self._data, self._cache = data, cache
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="whetstone-lesson-")))
        self._sandbox: Sandbox | None = None
        self._capabilities: tuple[Capability, ...] = ()

    def __enter__(self) -> Classroom:
        (self._folder / "workspace").mkdir()
        self._sandbox, self._capabilities = open_sandbox_in(self._settings(), self._folder / "workspace")
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
        workspace = self._folder / "workspace"
        for entry in workspace.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        for path, text in task.row.files.items():
            (workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace / path).write_text(text, encoding="utf-8", newline="")
        session = new_session_id()
        settings = self._settings(task)
        with ExitStack() as stack:
            notes = [("note", text) for text in task.row.remembered] + [("outcome", text) for text in task.earlier]
            records = (_record(kind, text, number) for number, (kind, text) in enumerate(notes))
            memory = Notes(records) if task.memory else None
            journal = stack.enter_context(Journal.create(settings.sessions_folder(), session, redact=redactor()))
            end, shown = self._drive(task, settings, journal, memory, stack)
        lesson = Lesson(
            id=task.row.id,
            family=task.row.family,
            passed=end.data["ending"] == "finished",
            ending=end.data["ending"],
            reason=end.data["reason"],
            session=session,
            steps=end.data["steps"],
            characters=shown,
        )
        if not lesson.passed:
            (settings.sessions_folder() / f"{session}.jsonl").unlink()
            SessionIndex(settings.sessions_folder()).forget([session])
        return lesson

    def _drive(
        self, task: Task, settings: Settings, journal: Journal, memory: Memory | None, stack: ExitStack
    ) -> tuple[Event, int]:
        workspace = stack.enter_context(Workspace(settings.paths.workspace))
        policy = TeacherPolicy(task.play, task.row.family)
        tools = load_tools(
            enabled=task.tools,
            sandbox=True,
            memory=memory is not None,
            answer_schema=task.row.goal.answer_schema,
        )
        schema = action_schema(tools)
        parts = Parts(policy, workspace, self._sandbox, self._capabilities, memory, tools, schema)
        goal = replace(task.row.goal, budget=settings.goal_budget())
        first = journal.append("session", header(settings, goal, journal.id, parts), durable=True)
        events = [first, journal.append("workspace", keep_workspace(workspace, ObjectStore(self._data / "objects")))]

        def context(step: int) -> ToolContext:
            return ToolContext(workspace, self._sandbox, settings.limits(), memory, goal, journal.id, step)

        verifier = Verifier(workspace, lambda copy: open_sandbox_in(settings, copy)[0], settings.limits())
        check = goal.check
        recollection = None
        if memory is not None:
            limits = settings.memory
            recollection = Recollection(memory, journal.id, limit=limits.recall, max_chars=limits.chars)
        end = Loop(
            goal=goal,
            journal=journal,
            events=events,
            policy=policy,
            tools={tool.name: tool for tool in tools},
            schema=schema,
            context=context,
            approval=Approval("auto", (), (), None),
            memory=recollection,
            verify=None if check is None else lambda answer: verifier.verify(check, answer),
            on_event=policy.event,
            on_text=lambda _: None,
            interrupted=lambda: False,
        ).run()
        return end, sum(len(message.content) for message in render(events).messages)

    def _settings(self, task: Task | None = None) -> Settings:
        return load_settings(
            {
                "paths.workspace": str(self._folder / "workspace"),
                "paths.data": str(self._data),
                "paths.cache": str(self._cache),
                "approval.mode": "auto",
                "model.name": "teacher",
                "memory.enabled": task is None or task.memory,
                "tools.enabled": ",".join(task.tools if task else ("*",)),
            },
            env={},
            folder=self._folder,
        )


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


def _record(kind: str, text: str, number: int) -> MemoryRecord:
    session = f"earlier-{number}"
    return MemoryRecord(
        id=record_id(session, kind, text),
        text=text,
        kind="outcome" if kind == "outcome" else "note",
        origin="model",
        session=session,
        step=1,
        goal=text.split("\n")[0].removeprefix("Goal: ") if kind == "outcome" else "",
        created=time.time() - 3600 * (number + 1),
        importance=0.8,
    )
