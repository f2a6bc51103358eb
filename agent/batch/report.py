"""What a batch leaves for people: `summary.json`, `report.html`, and a page for each session worth looking at."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import agent
from agent.batch.folder import place_name, write_whole
from agent.batch.results import Result
from agent.batch.summary import ALL, Summary, by_family, by_tag, group
from agent.goalfile import FAMILY, GoalRow
from agent.journal import read_session
from agent.types import JSON, WhetstoneError
from agent.view.html import session_page
from agent.view.report import SHOWN_FAILURES, report_page, slowest


def write_report(
    out: Path,
    rows: Sequence[GoalRow],
    results: Sequence[Result],
    *,
    bad: Sequence[str] = (),
    in_flight: int = 1,
    run_goals: int = 0,
    run_seconds: float = 0.0,
) -> Summary:
    """Write the summary and the pages of the batch in `out`. Raises WhetstoneError where they cannot be written."""
    summary = Summary(
        name=out.name,
        goals=len(rows),
        unfinished=len(rows) - len(results),
        bad=tuple(bad),
        total=group(ALL, results) if results else None,
        families=tuple(by_family(results)),
        tags=tuple(tag for tag in by_tag(results) if not tag.name.startswith(FAMILY)),
        model=described(results, out),
        in_flight=in_flight,
        run_goals=run_goals,
        run_seconds=run_seconds,
        made=time.time(),
        version=agent.__version__,
    )
    texts = {row.id: row.goal.text for row in rows}
    try:
        links = _session_pages(out, results)
        page = report_page(
            summary, results, goal=lambda id: texts.get(id, ""), link=lambda result: links.get(result.id, "")
        )
        write_whole(out / "report.html", page)
        write_whole(out / "summary.json", json.dumps(summary.as_data(), indent=1) + "\n")
    except OSError as error:
        raise WhetstoneError(
            f"the report cannot be written in {out}: {error.strerror}; the results are safe"
        ) from error
    return summary


def described(results: Sequence[Result], out: Path) -> Mapping[str, JSON]:
    """What the policy of the first session said of itself; empty without a session."""
    journal = next((result.journal for result in results if result.journal), None)
    return {} if journal is None else dict(read_session(out / journal).header["policy"])


def _session_pages(out: Path, results: Sequence[Result]) -> dict[str, str]:
    """Pages of the sessions that did not succeed and of the slowest; id -> link. One that is up to date stays."""
    failed = [result for result in results if not result.succeeded][:SHOWN_FAILURES]
    links: dict[str, str] = {}
    for result in [*failed, *slowest(results)]:
        if not result.journal:
            continue
        journal, page = out / result.journal, out / "sessions" / f"{place_name(result.id)}.html"
        page.parent.mkdir(exist_ok=True)
        if not page.exists() or page.stat().st_mtime < journal.stat().st_mtime:
            write_whole(page, session_page(read_session(journal)))
        links[result.id] = f"sessions/{page.name}"
    return links
