"""`run_python` runs the script in the real sandbox and tells what happened, in the space it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.types import Limits, Sandbox, SandboxResult
from tools.base import Tool, ToolContext
from tools.python import describe_run


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    from tools.sandbox import open_sandbox

    opened, capabilities = open_sandbox(folder)
    if opened is None:
        pytest.skip("no rung of the sandbox holds here: " + "; ".join(c.reason for c in capabilities))
    yield opened
    opened.close()


def test_a_script_works_in_the_workspace_and_its_changes_are_named(
    tools: dict[str, Tool], make_context: Callable[..., ToolContext], sandbox: Sandbox, folder: Path
) -> None:
    (folder / "sales.csv").write_text("1\n2\n39\n")
    code = "total = sum(map(int, open('sales.csv')))\nopen('total.txt', 'w').write(str(total))\nprint(total)"
    observation = tools["run_python"].call(make_context(sandbox=sandbox), {"code": code})
    assert (observation.status, observation.text) == ("ok", "stdout:\n42\nexit status 0")
    assert observation.files == ("total.txt",)
    assert (folder / "total.txt").read_text() == "42"
    silent = tools["run_python"].call(make_context(sandbox=sandbox), {"code": "x = 1"})
    assert silent.text == "exit status 0, nothing was printed"


def test_a_failing_script_is_an_error_that_shows_the_traceback(
    tools: dict[str, Tool], make_context: Callable[..., ToolContext], sandbox: Sandbox
) -> None:
    code = "open('made.txt', 'w').write('x')\nprint('before')\n1 / 0"
    observation = tools["run_python"].call(make_context(sandbox=sandbox), {"code": code})
    assert observation.status == "error"
    assert observation.text.startswith("stdout:\nbefore\nstderr:\n")
    assert re.search(r"line 3.*ZeroDivisionError: division by zero\nexit status 1$", observation.text, re.DOTALL)
    assert observation.files == ("made.txt",), "a script that failed still changed what it changed"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("open('sale.csv')", "'sale.csv' does not exist; did you mean 'sales.csv'?"),
        ('import csv\ncsv.reader(open("it\'s.csv"))', "'it's.csv' does not exist; the workspace holds sales.csv."),
        ("open('Out/total.txt', 'w')", "There is no folder 'Out'; os.makedirs('Out') makes it."),
        (
            "open('old/sales.csv')",
            "'old/sales.csv' does not exist; did you mean 'sales.csv'? There is no folder 'old'; os.makedirs('old')"
            " makes it.",
        ),
        ("import os\nos.rename('sale.csv', 'b.csv')", "'sale.csv' does not exist; did you mean 'sales.csv'?"),
        ("import os\nos.rename('sales.csv', 'x/b')", "There is no folder 'x'; os.makedirs('x') makes it."),
    ],
)
def test_a_script_that_ends_for_a_missing_path_is_told_what_is_there(
    tools: dict[str, Tool],
    make_context: Callable[..., ToolContext],
    sandbox: Sandbox,
    folder: Path,
    code: str,
    said: str,
) -> None:
    (folder / "sales.csv").write_text("1\n")
    observation = tools["run_python"].call(make_context(sandbox=sandbox), {"code": code})
    assert observation.status == "error"
    assert observation.text.endswith(f"exit status 1\n{said}")


@pytest.mark.parametrize(
    "code",
    [
        "raise FileNotFoundError(2, 'No such file or directory', '/etc/sales.csv')",
        "raise FileNotFoundError(2, 'No such file or directory', '../sale.csv')",
        "raise FileNotFoundError(2, 'No such file or directory', 'sales.csv')",
        "raise FileNotFoundError('sale.csv')",
    ],
)
def test_nothing_is_said_of_a_path_elsewhere_or_one_that_is_there(
    tools: dict[str, Tool], make_context: Callable[..., ToolContext], sandbox: Sandbox, folder: Path, code: str
) -> None:
    (folder / "sales.csv").write_text("1\n")
    assert tools["run_python"].call(make_context(sandbox=sandbox), {"code": code}).text.endswith("exit status 1")


def test_output_is_shown_from_both_ends_in_the_space_there_is(
    tools: dict[str, Tool], make_context: Callable[..., ToolContext], sandbox: Sandbox
) -> None:
    code = "print('x' * 50_000)\nraise RuntimeError('y' * 50_000 + ' the reason')"
    observation = tools["run_python"].call(make_context(sandbox=sandbox, max_chars=1000), {"code": code})
    assert observation.truncated
    assert len(observation.text) <= 1000
    assert observation.text.startswith("stdout:\nxxx")
    assert observation.text.endswith("y the reason\nexit status 1")
    assert "more characters; print less" in observation.text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (SandboxResult(b"", b"", None, "wall_seconds"), "killed: over the limit of wall time (30 s)"),
        (SandboxResult(b"", b"", None, "memory_bytes"), "killed: over the limit of memory (2,147,483,648 bytes)"),
        (SandboxResult(b"a", b"", -9, "signal 9"), "stdout:\na\nkilled by signal 9"),
        (SandboxResult(b"\xff", b"", 0), "stdout:\n\\xff\nexit status 0"),
        (SandboxResult(b"a", b"", 0, truncated=True), "stdout:\na\nexit status 0; the output was longer than is kept"),
    ],
)
def test_the_ending_names_the_limit(result: SandboxResult, said: str) -> None:
    assert describe_run(result, Limits(), 4000) == (said, False)


def test_every_limit_has_a_name_in_words() -> None:
    for name in Limits.__dataclass_fields__:
        text, _ = describe_run(SandboxResult(b"", b"", None, name), Limits(), 4000)
        assert text.startswith("killed: over the limit of ")


def test_the_description_never_exceeds_its_bound() -> None:
    for out, err in ((0, 9000), (9000, 0), (9000, 9000), (100, 9000), (9000, 100)):
        for bound in (300, 1000, 4000):
            text, cut = describe_run(SandboxResult(b"o" * out, b"e" * err, 1), Limits(), bound)
            assert len(text) <= bound
            assert cut
