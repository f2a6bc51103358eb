"""A batch on a server that is not ours: llama.cpp's, as the package xllamacpp brings it, with the starter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.batch import run_rows
from agent.engine.finding import STARTER_PACKAGE
from agent.goalfile import GoalRow
from agent.journal import read_session
from agent.types import Budget, Goal
from tests.sessions import settings_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed, so llama.cpp's server is not"
    ),
]
SERVER = """
import sys
from pathlib import Path
from xllamacpp import CommonParams, Server
params = CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.cpuparams.n_threads = sys.argv[1], 8192, 2, 1
server = Server(params)
Path(sys.argv[2]).with_suffix(".part").write_text(server.listening_address)
Path(sys.argv[2]).with_suffix(".part").rename(sys.argv[2])
sys.stdin.read()
"""
START_SECONDS = 120


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the server, whose process ends with the test's."""
    found = importlib.util.find_spec(STARTER_PACKAGE)
    assert found is not None
    assert found.origin is not None
    # Not a model of random weights: its text breaks that server's own reading of answers.
    (model,) = Path(found.origin).parent.glob("*.gguf")
    told = tmp_path_factory.mktemp("foreign") / "address"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model), str(told)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + START_SECONDS
        while not told.exists():
            assert process.poll() is None, "the server ended before it listened"
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.05)
        yield f"{told.read_text()}/v1"
    finally:
        process.kill()
        process.communicate()


def test_a_batch_runs_on_llamacpps_server_with_every_action_valid(tmp_path: Path, address: str) -> None:
    settings = settings_for(tmp_path, [], model__name=address, sampling__temperature="0")
    budget = Budget(steps=2, tokens=800, action_tokens=400, seconds=200)
    rows = [GoalRow(f"g{n}", Goal(f"Read file {n}.", budget=budget), files={"a.txt": "a"}) for n in range(2)]
    results = run_rows(settings, rows, out=tmp_path / "out", in_flight=2)
    assert "error" not in {r.ending for r in results}, [r.reason for r in results]
    header = read_session(tmp_path / "out" / results[0].journal).header
    assert header["policy"]["structured"] == "response_format"
    events = [e for r in results for e in read_session(tmp_path / "out" / r.journal).events if e.kind == "action"]
    whole = [e for e in events if e.data["finish"] == "stop"]
    assert whole, "no action was written to its end"
    assert all(e.data["valid"] for e in whole)
