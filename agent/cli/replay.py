"""`replay`: drive a session again, run it again, or branch off it."""

from __future__ import annotations

import contextlib
import json as json_module
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import UsageError
from agent.cli.logs import SessionId, open_session, tell_notes
from agent.cli.options import Adapter, Chosen, Config, Json, chosen_in, given
from agent.types import Ending, Event

if TYPE_CHECKING:
    from agent.journal import Session
    from agent.replay import ReplayedStep
    from agent.settings import Settings


def replay(
    context: typer.Context,
    session: SessionId = None,
    live: Annotated[bool, typer.Option("--live", help="Run the tools again too, in a copy of the workspace.")] = False,
    from_step: Annotated[int | None, typer.Option("--from", metavar="STEP", help="Branch off at this step.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="The new folder for --live or --from.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("-m", "--policy", "--model", metavar="MODEL", help="Ask this model instead.")
    ] = None,
    adapter: Adapter = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Write every action of a session again and report the first departure; exit code 1 if there is one."""
    chosen = chosen_in(context, config, json)
    flags = given({"model.name": policy, "model.adapter": adapter})
    chosen = Chosen({**chosen.flags, **flags}, chosen.config, chosen.json)
    logged = tell_notes(open_session(chosen, session))
    from agent.runtime import resume_settings

    settings = resume_settings(logged.path, chosen.values(), spelled=chosen.spelled())
    from agent.cli.run import let_plugins_be_found

    let_plugins_be_found(settings)
    if from_step is not None:
        raise typer.Exit(_branch(logged, settings, from_step, folder, as_json=chosen.json))
    if live:
        raise typer.Exit(_live(logged, settings, folder, as_json=chosen.json))
    other = bool({"model.name", "model.adapter"} & chosen.values().keys())
    raise typer.Exit(_regenerate(logged, settings, other=other, as_json=chosen.json))


def _regenerate(logged: Session, settings: Settings, *, other: bool, as_json: bool) -> int:
    from agent.policies import open_policy
    from agent.replay import replay as regenerate
    from agent.resume import model_changes
    from prompts import templates_digest

    with contextlib.closing(open_policy(settings, logged.id)) as policy:
        changed = model_changes(logged.header["policy"], policy.describe())
        if logged.header["templates_digest"] != templates_digest():
            changed.append("the prompt templates changed, so no prompt can be the one that was recorded")
        for sentence in changed:
            _say({"note": sentence}, f"note: {sentence}", as_json=as_json)
        steps = regenerate(
            logged.events, policy, same_model=not other, on_step=lambda step: _report(step, as_json=as_json)
        )
    agreeing = sum(step.agrees for step in steps)
    verdict = "identical" if agreeing == len(steps) else "departs"
    if other:
        verdict = "compared"
    first = next((step.departure for step in steps if step.departure), None)
    line = f"{verdict}: {agreeing} of {len(steps)} actions are the same"
    if first is not None:
        line += f"; the first departure is at step {first.step}: {first.what}"
    _say({"verdict": verdict, "same": agreeing, "actions": len(steps)}, line, as_json=as_json)
    return 0 if other or agreeing == len(steps) else 1


def _report(step: ReplayedStep, *, as_json: bool) -> None:
    data: dict[str, Any] = {"step": step.step, "same": step.agrees, "recorded": step.recorded, "now": step.replayed}
    line = f"step {step.step}: identical"
    if step.departure is not None:
        data |= {"token": step.departure.token, "departure": step.departure.what}
        line = f"step {step.step}: {step.departure.what}"
    if step.logprob is not None:
        data["logprob"] = step.logprob
        line += f" (log-probability of the recorded action {step.logprob:.2f})"
    _say(data, line, as_json=as_json)


def _live(logged: Session, settings: Settings, folder: Path | None, *, as_json: bool) -> int:
    from agent.journal import find_session, read_session
    from agent.replay import compare_results
    from agent.runtime import repeat_session
    from agent.view.plain import QuietView

    with tempfile.TemporaryDirectory(prefix="whetstone-replay-") as temporary:
        # The repetition is a proof and no session to keep: its journal and its memory go with the temporary folder.
        target, data = folder or Path(temporary) / "workspace", Path(temporary) / "data"
        end = repeat_session(logged, target.absolute(), settings, view=QuietView(), asker=None, data=data)
        repeated = read_session(find_session(data / "sessions", end.data["session"]))
    departure = compare_results(logged.events, repeated.events)
    what = "identical: every result is the same" if departure is None else f"step {departure.step}: {departure.what}"
    _say(
        {"verdict": "identical" if departure is None else "departs", "departure": what},
        what,
        as_json=as_json,
    )
    return 0 if departure is None else 1


def _branch(logged: Session, settings: Settings, step: int, folder: Path | None, *, as_json: bool) -> int:
    if folder is None:
        raise UsageError("Say where the branch works: --into DIR, a folder that does not exist yet.")
    last = sum(event.kind == "action" for event in logged.events)
    if not 1 <= step <= last + 1:
        raise UsageError(f"--from {step} is not a step of session {logged.id}: it has {last}.")
    from agent.cli.run import answer_of, next_command, open_view
    from agent.runtime import repeat_session
    from agent.view.progress import Progress

    view, asker = open_view(settings, Progress(next_command(settings)), as_json, False, True)
    with contextlib.closing(view):
        end: Event = repeat_session(logged, folder.absolute(), settings, view=view, asker=asker, before=step)
    answer_of(end, as_json=as_json)
    return Ending(end.data["ending"]).exit_code


def _say(data: dict[str, Any], line: str, *, as_json: bool) -> None:
    from agent.sanitize import for_terminal

    print(json_module.dumps(data) if as_json else for_terminal(line), flush=True)
