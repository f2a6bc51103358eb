"""`batch` as its users run it: killed, interrupted, fed with rubbish, and run again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.batch import read_results
from agent.batch.results import Result
from agent.journal import read_session
from agent.view.report import slowest
from tests.command import Place, act

LINES = 4
SIDE_EFFECTS = [*(act("append_line", line=f"line {n}") for n in range(LINES)), act("finish", answer="done")]
WRITES = [act("write_file", path="out.txt", content="hello"), act("finish", answer="done")]


def goals(place: Place, count: int, **fields: Any) -> None:
    rows = [{"id": f"g{n}", "goal": f"Goal {n}.", **fields} for n in range(count)]
    (place.folder / "goals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(place: Place, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        place.argv(*arguments), cwd=place.folder, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def ended(place: Place) -> int:
    path = place.folder / "out/results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed_and_finished(place: Place, count: int) -> None:
    goals(place, count, check={"file": "log.txt", "contains": "line"})
    command = ["--tools", "tests.side_effects:append_line", "batch", "goals.jsonl", "-o", "out", "-j", "8"]
    process = start(place, *command)
    wait_until(lambda: ended(place) >= count // 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert ended(place) < count
    done = read_results(place.folder / "out")

    again = place.run(*command)
    assert again.returncode == 0, again.stderr
    results = read_results(place.folder / "out")
    assert Counter(r.id for r in results) == Counter({f"g{n}": 1 for n in range(count)})
    assert results[: len(done)] == done
    unknown = 0
    for result in results:
        events = read_session(place.folder / "out" / result.journal).events
        told = [e.data["status"] for e in events if e.kind == "observation"]
        lines = (place.folder / "out/workspaces" / result.id / "log.txt").read_text().splitlines()
        assert len(lines) == len(set(lines)), f"{result.id} did something twice"
        assert len(lines) >= told.count("ok") - 1  # all but the finish
        unknown += told.count("unknown")
    # What was cut off went on in its own session.
    assert len(list((place.folder / "out/data/sessions").glob("*.jsonl"))) == count
    assert unknown <= 8


def test_a_killed_batch_goes_on_with_one_result_for_each_goal_and_nothing_done_twice(tmp_path: Path) -> None:
    killed_and_finished(Place(tmp_path, SIDE_EFFECTS), 40)


@pytest.mark.slow
def test_two_hundred_goals_survive_a_killed_process(tmp_path: Path) -> None:
    killed_and_finished(Place(tmp_path, SIDE_EFFECTS), 200)


def test_the_exit_code_is_0_only_if_every_goal_succeeded(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    goals(place, 3, check={"file": "out.txt", "contains": "hello"})
    good = place.call("batch", "goals.jsonl", "-o", "out")
    assert (good.returncode, good.stdout) == (0, "3 of 3 goals succeeded: out/report.html\n")
    goals(place, 3, check={"file": "out.txt", "contains": "bye"})
    changed = place.call("batch", "goals.jsonl", "-o", "out")
    assert (changed.returncode, changed.stdout) == (1, "0 of 3 goals succeeded: out/report.html\n")


def test_other_settings_are_refused_and_fresh_begins_anew(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    goals(place, 2)
    command = ["batch", "goals.jsonl", "-o", "out"]
    assert place.call(*command).returncode == 0
    before = {r.session for r in read_results(place.folder / "out")}
    refused = place.call("-c", "budget.steps=7", *command)
    assert refused.returncode == 1
    assert "budget.steps was 20 and is 7" in refused.stderr
    assert {r.session for r in read_results(place.folder / "out")} == before
    assert place.call("-c", "budget.steps=7", *command, "--fresh").returncode == 0
    after = {r.session for r in read_results(place.folder / "out")}
    assert (len(after), before & after) == (2, set())
    kept = {path.stem for path in (place.folder / "out/data/sessions").glob("*.jsonl")}
    assert kept == after


def test_ctrl_c_lets_running_goals_end_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("append_line", line=f"{n}") for n in range(40)] + [act("finish", answer="done")])
    goals(place, 4, budget={"steps": 200})
    command = ["--tools", "tests.side_effects:append_line", "batch", "goals.jsonl", "-o", "out", "-j", "2"]
    process = start(place, *command)
    wait_until(lambda: any((place.folder / "out/workspaces").glob("*/log.txt")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "no further goal is begun" in err
    assert out.startswith("2 of 4 goals succeeded")
    assert place.run(*command).returncode == 0
    assert len(read_results(place.folder / "out")) == 4


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, [act("append_line", line=f"{n}") for n in range(50)] + [act("finish", answer="done")])
    goals(place, 3, budget={"steps": 200})
    command = ["--tools", "tests.side_effects:append_line", "batch", "goals.jsonl", "-o", "out", "-j", "2"]
    process = start(place, *command)
    wait_until(lambda: any((place.folder / "out/workspaces").glob("*/log.txt")))
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert ended(place) < 2
    assert place.run(*command).returncode == 0
    for log in (place.folder / "out/workspaces").glob("*/log.txt"):
        assert log.read_text().split() == [str(n) for n in range(50)]


def test_bad_rows_are_told_and_the_rest_runs_unless_strict(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    goals(place, 2)
    with open(place.folder / "goals.jsonl", "a") as file:
        file.write('{"gaol": 1}\n{"goal": "x", "check": {"plugin": "no_such_module:f"}}\n')
    ran = place.call("batch", "goals.jsonl", "-o", "out")
    assert ran.returncode == 1
    assert "left out: goals.jsonl, line 3: 'gaol' is not known: did you mean 'goal'?" in ran.stderr
    assert "no_such_module" in ran.stderr
    assert len(read_results(place.folder / "out")) == 2
    assert len(json.loads((place.folder / "out/summary.json").read_text())["bad"]) == 2
    strict = place.call("batch", "goals.jsonl", "-o", "strict", "--strict")
    assert (strict.returncode, "2 of 4 rows cannot be used" in strict.stderr) == (2, True)
    assert not (place.folder / "strict").exists()


def test_what_cannot_work_is_one_sentence(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    goals(place, 1)
    (place.folder / "empty.jsonl").write_text("\n\n")
    (place.folder / "nonsense.jsonl").write_text("{\n")
    (place.folder / "doubles.jsonl").write_text('{"id": "a", "goal": "x"}\n' * 2)
    (place.folder / "lost.jsonl").write_text('{"goal": "x", "workspace": "nowhere"}\n')
    (place.folder / "letter.txt").write_text("Dear Sir")
    for arguments, code, said in [
        (["empty.jsonl", "-o", "out"], 2, "it holds no goal"),
        (["nonsense.jsonl", "-o", "out"], 2, "none of its 1 goals can be used"),
        (["doubles.jsonl", "-o", "out", "--strict"], 2, "the id 'a' is taken by doubles.jsonl, line 1"),
        (["lost.jsonl", "-o", "out", "--strict"], 2, "none of its 1 goals can be used"),
        (["goals.jsonl", "-o", "letter.txt"], 1, "cannot be written"),
        (["goals.jsonl", "-o", "."], 1, "holds something that is no batch"),
        (["goals.jsonl", "-o", "out", "--memory", "some"], 2, "give none, shared-read or own"),
        (["goals.jsonl", "-o", "out", "--template", "Greet {name}."], 2, "A template makes goals of CSV rows"),
        (["goals.jsonl"], 2, "Missing option '-o'"),
        (["goals.jsonl", "-o", "out", "--engine", "rey"], 2, "there is no engine 'rey'"),
    ]:
        ran = place.call("batch", *arguments)
        assert (ran.returncode, said in ran.stderr, "Traceback" in ran.stderr) == (code, True, False), ran.stderr
    assert (place.folder / "letter.txt").read_text() == "Dear Sir"


def test_goals_come_from_standard_input_and_results_go_out_as_json(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    ran = place.call("--json", "batch", "-", "-o", "out", stdin='{"goal": "a"}\n{"goal": "b"}\n')
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [e["event"] for e in events] == ["result", "result", "batch"]
    assert events[-1]["total"]["succeeded"] == 2
    assert ran.stderr == ""


def test_csv_and_template_make_goals(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    (place.folder / "people.csv").write_text("name\nAda\nEmil\n")
    ran = place.call("batch", "people.csv", "-o", "out", "--template", "Greet {name}.")
    assert ran.returncode == 0
    texts = {
        read_session(place.folder / "out" / r.journal).header["goal"]["text"]
        for r in read_results(place.folder / "out")
    }
    assert texts == {"Greet Ada.", "Greet Emil."}


def test_goals_that_took_equally_long_are_listed_by_their_ids() -> None:
    results = [Result(id, "finished", seconds=seconds) for id, seconds in (("c", 1.0), ("b", 2.0), ("a", 1.0))]
    assert [result.id for result in slowest(results)] == ["b", "a", "c"]


def test_the_report_needs_nothing_and_links_the_failures(tmp_path: Path) -> None:
    place = Place(tmp_path, WRITES)
    rows = [
        {"id": f"g{n}", "goal": "<script>alert(1)</script>", "tags": ["family:a" if n % 2 else "family:b", "t"],
         "check": {"file": "out.txt", "contains": "hello" if n else "<b>bye</b>"}}
        for n in range(5)
    ]  # fmt: skip
    (place.folder / "goals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert place.call("batch", "goals.jsonl", "-o", "out").returncode == 1
    page = (place.folder / "out/report.html").read_text()
    assert "4 of 5 goals succeeded" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert "sessions/g0.html" in links
    assert all((place.folder / "out" / link).is_file() for link in links)
    assert not re.search(r"(src|href)=.?(https?:|//)", page)
    sections = dict(re.findall(r"<h2>(.*?)</h2>(.*?)</section>", page, re.S))
    (tag,) = re.findall(r"<tr[^>]*><td>t</td>.*?</tr>", sections["By tag"])
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", tag)
    assert cells[1:4] == ["4/5", "80.0 %", "38-96 %"]  # Wilson, 95 %
    assert re.search(r'<rect class="range" x="37\.5\d" y="3" width="58\.8\d"', tag)
    endings = re.findall(r'<span class="tone-\d">([^<]*)</span>', page)
    assert endings == ["finished 4", "failed check 1"]
    slowest = sorted(read_results(place.folder / "out"), key=lambda result: (-result.seconds, result.id))
    assert re.findall(r"<tr><td>(?:<a [^>]*>)?(g\d)", sections["Slowest"]) == [result.id for result in slowest]
    summary = json.loads((place.folder / "out/summary.json").read_text())
    assert [(f["name"], f["succeeded"], f["goals"]) for f in summary["families"]] == [("a", 2, 2), ("b", 2, 3)]
