"""The commands on logged sessions, through the real command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agent.journal import read_session
from tests.sessions import act, finish
from tests.test_end_to_end import command, run_goal
from tests.test_replay import rechained

SCRIPT = [
    act("read_file", path="sales.csv"),
    act("write_file", path="a.txt", content="mail ann@example.org"),
    finish("ok"),
]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    assert run_goal(folder, "--yes", script=SCRIPT).returncode == 0
    return folder


def test_verify_says_what_is_whole_and_what_is_not(logged: Path, tmp_path: Path) -> None:
    done = command(logged, "verify", "--all", script=SCRIPT)
    assert (done.returncode, done.stdout.count("whole and unchanged")) == (0, 1)
    journal = next((logged / "data/whetstone/sessions").glob("*.jsonl"))
    (tmp_path / "data/whetstone/sessions").mkdir(parents=True)
    damaged = tmp_path / "data/whetstone/sessions" / journal.name
    damaged.write_bytes(journal.read_bytes().replace(b"croissant", b"croissent", 1))
    done = command(tmp_path, "verify", script=SCRIPT)
    assert done.returncode == 1
    assert "line" in done.stdout


def test_replay_is_identical_for_the_same_policy_and_says_where_another_departs(logged: Path) -> None:
    done = command(logged, "replay", script=SCRIPT)
    assert done.returncode == 0, done.stderr
    assert "identical: 3 of 3" in done.stdout
    other = [SCRIPT[0], act("list_files"), SCRIPT[2]]
    done = command(logged, "replay", script=other)
    assert done.returncode == 1
    assert "first departure is at step 2" in done.stdout
    command(logged, "show", script=SCRIPT)  # puts the script back


def test_replay_says_that_the_prompt_templates_changed(logged: Path, tmp_path: Path) -> None:
    shutil.copytree(logged, tmp_path, dirs_exist_ok=True)
    session = read_session(next((tmp_path / "data/whetstone/sessions").glob("*.jsonl")))
    header, *rest = session.events
    rechained(session, [replace(header, data={**header.data, "templates_digest": "0" * 64}), *rest])
    done = command(tmp_path, "replay", script=SCRIPT)
    assert "the prompt templates changed" in done.stdout


def test_replay_live_runs_the_tools_again_in_a_copy(logged: Path) -> None:
    before = (logged / "workspace/a.txt").stat().st_mtime_ns
    first = command(logged, "sessions", "--json", script=SCRIPT).stdout.splitlines()[-1]
    done = command(logged, "replay", json.loads(first)["session"], "--live", "-c", "approval.mode=auto", script=SCRIPT)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "identical" in done.stdout
    assert (logged / "workspace/a.txt").stat().st_mtime_ns == before


def test_a_branch_needs_a_folder_and_a_step(logged: Path) -> None:
    assert command(logged, "replay", "--from", "2", script=SCRIPT).returncode == 2
    assert command(logged, "replay", "--from", "9", "--into", "b", script=SCRIPT).returncode == 2
    done = command(logged, "replay", "--from", "2", "--into", "b", "-c", "approval.mode=auto", script=SCRIPT)
    assert done.returncode == 0, done.stderr
    assert (logged / "b/a.txt").exists()


def test_export_writes_every_format_with_placeholders(logged: Path) -> None:
    for format in ("atif", "messages", "sharegpt", "markdown"):
        done = command(logged, "export", "--format", format, script=SCRIPT)
        assert done.returncode == 0, done.stderr
        assert "[EMAIL_1]" in done.stdout
        assert "ann@example.org" not in done.stdout
    assert "ann@example.org" in command(logged, "export", "--no-redact", script=SCRIPT).stdout
    assert command(logged, "export", "--format", "docx", script=SCRIPT).returncode == 2
    done = command(logged, "export", "--ending", "finished", "-o", "out.jsonl", script=SCRIPT)
    assert done.returncode == 0
    assert all(json.loads(line)["messages"] for line in (logged / "out.jsonl").read_text().splitlines())


def test_show_prints_a_prompt_and_writes_a_page(logged: Path) -> None:
    done = command(logged, "show", "--prompt", "2", script=SCRIPT)
    assert done.returncode == 0, done.stderr
    assert "== system (system)" in done.stdout
    assert "espresso" in done.stdout
    assert "history" in done.stdout
    assert command(logged, "show", "--prompt", "99", script=SCRIPT).returncode == 1
    assert command(logged, "show", "--html", "page.html", script=SCRIPT).returncode == 0
    page = (logged / "page.html").read_text()
    assert page.startswith("<!")
    assert "espresso" in page
    assert command(logged, "show", "--html", "no/such/page.html", script=SCRIPT).returncode == 2


def test_sessions_are_filtered_removed_and_pruned(tmp_path: Path) -> None:
    for script in ([finish("one")], [act("list_files")] * 9):
        run_goal(tmp_path, "--yes", script=script)
    stuck = command(tmp_path, "sessions", "--ending", "stuck", "--json").stdout.splitlines()
    assert len(stuck) == 1
    assert "is like that" in command(tmp_path, "sessions", "--text", "no such words").stderr
    assert command(tmp_path, "sessions", "--since", "someday").returncode == 2
    assert command(tmp_path, "sessions", "rm").returncode == 2
    assert command(tmp_path, "sessions", "rm", json.loads(stuck[0])["session"]).returncode == 0
    assert len(command(tmp_path, "sessions").stdout.splitlines()) == 1
    assert "0 session(s) removed" in command(tmp_path, "sessions", "prune", "--older-than", "1h").stderr
    assert "1 session(s) removed" in command(tmp_path, "sessions", "prune", "--older-than", "0s").stderr
    assert "no sessions" in command(tmp_path, "sessions").stderr
