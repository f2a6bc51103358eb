"""Runs sessions: a new one, one that goes on, and one that repeats another or branches off it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from agent.approval import Approval, Asker, recorded_asker
from agent.check import Verifier
from agent.journal import Journal, Session, new_session_id, read_session
from agent.loop import Loop
from agent.parts import Parts, Supplied, header, open_parts, open_sandbox_in
from agent.policies import open_policy
from agent.policies.recorded import RecordedPolicy
from agent.recollection import Recollection
from agent.redact import redactor
from agent.resume import changes, refuse_final
from agent.settings import FILE_NAME, Settings, load_settings
from agent.snapshots import ObjectStore, keep_workspace, restore_workspace
from agent.types import JSON, Budget, Event, Goal, Policy, WhetstoneError
from agent.view import View
from tools.base import ToolContext


def run_goal(
    settings: Settings,
    goal: Goal,
    *,
    view: View,
    asker: Asker | None,
    policy: Callable[[str], Policy] | None = None,
    parent: Mapping[str, JSON] | None = None,
    session: str | None = None,
    supplied: Supplied | None = None,
) -> Event:
    """Run one goal to its ending and return the `end` event.

    `asker` is None where nobody can be asked; `policy` makes the policy from the session's id (by default the one the
    settings name); `parent` names the session and step this one branches off; `session` is its id (by default a new
    one); `supplied` is what a batch shares. Raises WhetstoneError when the session cannot be set up; from its first
    step on, whatever goes wrong is an ending.
    """
    session = session or new_session_id()

    def opened() -> Policy:
        return open_policy(settings, session) if policy is None else policy(session)

    with (
        open_parts(settings, goal, opened, autonomous=_autonomous(settings, asker), supplied=supplied) as parts,
        Journal.create(settings.sessions_folder(), session, redact=redactor()) as journal,
    ):
        first = journal.append("session", header(settings, goal, session, parts, parent=parent), durable=True)
        view.event(first)
        kept = keep_workspace(parts.workspace, ObjectStore(objects_folder(settings)))
        events = [first, journal.append("workspace", kept)]
        return _drive(settings, goal, parts, journal, events, view=view, asker=asker, supplied=supplied)


def objects_folder(settings: Settings) -> Path:
    """Where the contents of starting workspaces are kept."""
    return settings.paths.data / "objects"


def settings_of(session: Session) -> dict[str, JSON]:
    """The settings a session ran with last: those of its header, and what was changed when it was resumed."""
    found = dict(session.header["settings"])
    for event in session.events:
        if event.kind == "resume":
            found |= event.data["settings"]
    return found


def resume_settings(path: Path, flags: Mapping[str, Any], *, spelled: Mapping[str, str] | None = None) -> Settings:
    """The settings a session ran with, with `flags` (dotted keys) on top: a larger budget, another approval mode."""
    recorded = {key: value for key, value in settings_of(read_session(path)).items() if value is not None}
    return load_settings({**recorded, **flags}, spelled={**dict.fromkeys(recorded, "the session"), **(spelled or {})})


def resume_session(
    settings: Settings,
    path: Path,
    *,
    force: bool,
    view: View,
    asker: Asker | None,
    policy: Callable[[str], Policy] | None = None,
    supplied: Supplied | None = None,
) -> Event:
    """Go on with the session in the journal at `path` and return its new `end` event.

    `settings` come from `resume_settings`; `policy` and `supplied` are as in `run_goal`. Raises WhetstoneError if the
    session is over, if its journal cannot be trusted, or if the model, the adapter or the tools are not what they
    were, unless `force` accepts that.
    """
    journal, session = Journal.reopen(path, redact=redactor())
    with journal:
        refuse_final(session.events, session.id)
        goal = _goal_of(session, settings)
        with open_parts(
            settings,
            goal,
            lambda: open_policy(settings, session.id) if policy is None else policy(session.id),
            autonomous=_autonomous(settings, asker),
            supplied=supplied,
        ) as parts:
            now = header(settings, goal, session.id, parts)
            before = settings_of(session)
            changed = {key: value for key, value in settings.flat().items() if before.get(key) != value}
            differences = changes(session.header, now, changed)
            if differences and not force:
                raise WhetstoneError(
                    f"session {session.id} cannot go on as it was: {'; '.join(differences)};"
                    " restore that, or accept it with --force"
                )
            resumed: dict[str, JSON] = {
                "step": 1 + sum(e.kind == "action" for e in session.events),
                "changes": differences,
                "settings": changed,
                "budget": asdict(goal.budget),
            }
            if differences:
                resumed |= {key: now[key] for key in ("system", "policy", "tools", "action_schema", "tools_digest")}
            view.event(session.events[0])
            events = [*session.events, journal.append("resume", resumed, durable=True)]
            view.event(events[-1])
            return _drive(
                settings, goal, parts, journal, events, view=view, asker=asker, notes=session.notes, supplied=supplied
            )


def repeat_session(
    session: Session,
    folder: Path,
    settings: Settings,
    *,
    view: View,
    asker: Asker | None,
    before: int | None = None,
    data: Path | None = None,
) -> Event:
    """Do again what `session` did, tools and all, in `folder`, which is made as its workspace was at the start.

    Without `before` all its actions are repeated and nothing else; what a person allowed or refused then is so again.
    With it, the actions before that step are, and then the policy of `settings` goes on: a branch. Either is a new
    session that names its parent; its journal and memory go below `data` (by default where all are). Raises
    WhetstoneError if the folder exists, or if the starting workspace was not kept whole.
    """
    data = settings.paths.data if data is None else data
    kept = next((e.data for e in session.events if e.kind == "workspace"), None)
    if kept is None or kept["left_out"]:  # links and protected names are no loss: no tool can read them
        names = "" if kept is None else f": {', '.join(kept['left_out'][:3])}"
        raise WhetstoneError(f"the workspace that session {session.id} started from was not kept whole{names}")
    if folder.exists():
        raise WhetstoneError(f"{folder} is there already: name a folder that does not exist yet")
    restore_workspace(kept, ObjectStore(objects_folder(settings)), folder)

    budgets = [e.data["budget"] for e in session.events if e.kind == "resume"]
    goal = (
        replace(_goal_of(session, settings), budget=Budget(**budgets[-1])) if budgets else _goal_of(session, settings)
    )

    def policy(new: str) -> Policy:
        live = None if before is None else open_policy(settings, new)
        return RecordedPolicy(session.events, until=before, after=live)

    moved = load_settings({**_given(settings), "paths.workspace": str(folder), "paths.data": str(data)})
    parent = {"session": session.id, "step": before}
    asker = recorded_asker(session.events, before=before, after=asker)
    return run_goal(moved, goal, view=view, asker=asker, policy=policy, parent=parent)


def _loosened(settings: Settings) -> list[str]:
    """What a settings file of the folder the command was started in makes less safe: it may have come with the work."""
    loose = {"approval.mode": "auto", "sandbox.rung": "none"}
    flat = settings.flat()
    found = [key for key, value in loose.items() if flat[key] == value and settings.origin(key) == _project_file()]
    found += [
        key for key in ("approval.allow", "tools.plugins") if flat[key] and settings.origin(key) == _project_file()
    ]
    return [f"{key} = {flat[key]} comes from {_project_file()}" for key in found]


def _project_file() -> str:
    return str(Path.cwd() / FILE_NAME)


def _autonomous(settings: Settings, asker: Asker | None) -> bool:
    return asker is None and settings.approval.mode == "auto"


def _given(settings: Settings) -> dict[str, Any]:
    return {key: value for key, value in settings.flat().items() if value is not None}


def _goal_of(session: Session, settings: Settings) -> Goal:
    """The goal of a recorded session; its budget is the settings', which are the session's own unless overridden."""
    recorded = session.header["goal"]
    fields = {key: recorded[key] for key in ("text", "check", "answer_schema")}
    return Goal(**fields, budget=settings.goal_budget(), tags=tuple(recorded["tags"]))


def _drive(
    settings: Settings,
    goal: Goal,
    parts: Parts,
    journal: Journal,
    events: list[Event],
    *,
    view: View,
    asker: Asker | None,
    notes: Sequence[str] = (),
    supplied: Supplied | None = None,
) -> Event:
    """Run the loop from where `events` end."""

    def context(step: int) -> ToolContext:
        return ToolContext(
            workspace=parts.workspace,
            sandbox=parts.sandbox,
            limits=settings.limits(),
            memory=parts.memory,
            goal=goal,
            session=journal.id,
            step=step,
            max_chars=settings.tools.max_chars,
        )

    check, recollection = goal.check, None
    verifier = Verifier(parts.workspace, lambda copy: open_sandbox_in(settings, copy)[0], settings.limits())
    if parts.memory is not None:
        recollection = Recollection(
            parts.memory, journal.id, limit=settings.memory.recall, max_chars=settings.memory.chars, past=events
        )
    asked = None if supplied is None else supplied.interrupted
    with _stop_on_sigint() if asked is None else contextlib.nullcontext(asked) as interrupted:
        loop = Loop(
            goal=goal,
            journal=journal,
            events=events,
            policy=parts.policy,
            tools={tool.name: tool for tool in parts.tools},
            schema=parts.schema,
            context=context,
            approval=Approval(settings.approval.mode, settings.approval.allow, settings.approval.deny, asker),
            memory=recollection,
            verify=None if check is None else lambda answer: verifier.verify(check, answer),
            on_event=view.event,
            on_text=view.text,
            interrupted=interrupted,
            notices=(*notes, *_loosened(settings), *parts.notices()),
        )
        return loop.run()


@contextlib.contextmanager
def _stop_on_sigint() -> Generator[Callable[[], bool]]:
    """The first Ctrl-C asks the loop to stop; the second one is Python's own KeyboardInterrupt."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    former: Any = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, former)
