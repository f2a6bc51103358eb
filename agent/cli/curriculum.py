"""The commands on the curriculum: list its families, make goals, let teachers solve goals."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import UsageError
from agent.cli.logs import written

if TYPE_CHECKING:
    from agent.learning.curriculum.teacher import Lesson

Count = Annotated[int | None, typer.Option("--count", min=1, metavar="N", help="How many training goals.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="Which ones; same seed, same goals.")]


def list_families() -> None:
    """Name the families of goals, and what each is about."""
    from agent.learning.curriculum import families

    for family in families().values():
        kept = "" if family.seen else " (never trained on)"
        print(f"{family.name:<18} {family.about}{kept}")


def make(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where the goals go, one a line.")],
    count: Count = None,
    seed: Seed = None,
    split: Annotated[
        str, typer.Option("--split", metavar="train|heldout", help="Goals to train on, or the held-out suite.")
    ] = "train",
) -> None:
    """Write goals with their files and checks: COUNT training goals, or the held-out suite."""
    from agent.learning.curriculum import task_named, training_ids
    from agent.learning.curriculum.suite import SEED, row_data, suite, suite_digest

    if split == "heldout":
        if count is not None:
            raise UsageError("The held-out suite has a fixed size: leave --count out.")
        rows = suite(SEED if seed is None else seed)
    elif split == "train":
        rows = [task_named(id).row for id in training_ids(count or 1000, seed or 0)]
    else:
        raise UsageError(f"There is no split {split!r}: use train or heldout.")
    with written(out) as file:
        for row in rows:
            file.write(json.dumps(row_data(row), ensure_ascii=False) + "\n")
    print(f"{len(rows)} goals written to {out} (sha256 {suite_digest(rows)[:16]})", file=sys.stderr)


def teach(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DATA", help="The folder the journals go to.")],
    goals: Annotated[Path | None, typer.Argument(metavar="FILE", help="Goals that `curriculum make` wrote.")] = None,
    count: Count = None,
    seed: Seed = None,
    missed: Annotated[
        Path | None,
        typer.Option("--missed", metavar="MEASURED", help="Only goals that were not solved in this folder of `eval`."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes side by side.")] = 2,
) -> None:
    """Let teachers solve goals with the real tools; the journals of verified sessions are kept."""
    from agent.learning.curriculum import training_ids
    from agent.learning.curriculum.teacher import teach
    from agent.settings import load_settings

    if (goals is None) == (count is None):
        raise UsageError("Name a file of goals, or say how many with --count.")
    ids = training_ids(count or 0, seed or 0) if goals is None else _ids_in(goals)
    if missed is not None:
        ids = _missed(ids, missed)
    passed: Counter[str] = Counter()
    failed: list[Lesson] = []
    for lesson in _watched(teach(ids, out, cache=load_settings().paths.cache, workers=workers), len(ids)):
        passed[lesson.family] += lesson.passed
        if not lesson.passed:
            failed.append(lesson)
    for lesson in failed:
        print(f"{lesson.id}: {lesson.ending}: {lesson.reason}", file=sys.stderr)
    print(f"{passed.total()} of {len(ids)} sessions verified; journals in {out / 'sessions'}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _ids_in(goals: Path) -> list[str]:
    """The ids of the tasks in a file of goals; each goal must be the one its id stands for."""
    from agent.learning.curriculum import task_named

    try:
        lines = [line for line in goals.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The goals in {goals} cannot be read: {error}.") from error
    ids: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            id, text = str(row["id"]), str(row["goal"])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"Line {number} of {goals} is not a goal of the curriculum: {error!r}.") from error
        if task_named(id).row.goal.text != text:
            raise UsageError(
                f"Line {number} of {goals} is not what this version of the curriculum makes of {id}:"
                " make the file anew."
            )
        ids.append(id)
    return ids


def _missed(ids: Sequence[str], measured: Path) -> list[str]:
    """Those of `ids` that were run in `measured` and not solved."""
    from agent.batch.results import read_results

    solved = {result.id: result.succeeded for result in read_results(measured)}
    found = [id for id in ids if solved.get(id) is False]
    if not found:
        raise UsageError(f"None of the {len(ids)} goals is among those that were not solved in {measured}.")
    return found


def _watched(lessons: Iterator[Lesson], total: int) -> Iterator[Lesson]:
    """The same lessons, with a progress bar where a person watches."""
    if not sys.stderr.isatty():
        yield from lessons
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(lessons, "teaching", total=total, console=Console(stderr=True), transient=True)
