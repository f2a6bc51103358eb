"""What a person is told of a session's parts before its first step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agent.parts import Parts
from agent.types import Capability

MISSING = Capability("bubblewrap", False, "bubblewrap is not installed.", fix="`sudo apt-get install bubblewrap`")
REDUCED = Capability("landlock", True, "Landlock holds.", reduced=True)


def _notices(sandbox: Capability | None, *capabilities: Capability) -> list[str]:
    part: Any = SimpleNamespace(capability=sandbox)
    nothing: Any = None
    return Parts(nothing, nothing, None if sandbox is None else part, capabilities, nothing, (), {}).notices()


def test_a_full_sandbox_needs_no_words() -> None:
    full = Capability("bubblewrap", True, "bubblewrap holds.")
    assert _notices(full, full) == []


def test_a_reduced_sandbox_is_told_with_what_would_make_a_full_one() -> None:
    (told,) = _notices(REDUCED, MISSING, REDUCED)
    assert "landlock" in told
    assert "sudo apt-get install bubblewrap" in told


def test_without_run_python_it_is_told_how_to_have_it() -> None:
    (told,) = _notices(None, MISSING, REDUCED)
    assert "sudo apt-get install bubblewrap" in told
    assert "-c sandbox.rung=landlock" in told


def test_where_nothing_would_make_a_full_one_nothing_is_promised() -> None:
    (told,) = _notices(REDUCED, REDUCED)
    assert "full one" not in told
