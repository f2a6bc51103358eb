"""What memory costs and what it finds. Run from the repository: `python -m benchmarks.memory`.

    python -m benchmarks.memory                        speed at 1,000 and 10,000 records
    python -m benchmarks.memory --records 100000       the same at any size
    python -m benchmarks.memory --keep FOLDER          the same, with the indexes kept there and used again
    python -m benchmarks.memory --quality FILE...      retrieval quality (`benchmarks/memory_quality.py` tells the form)
    python -m benchmarks.memory --quality networkx     the same on the docstrings of a package

Records are windows of words out of the Python files installed beside this one: real text, the same on machines with
the same packages, and as repetitive as what an agent sees. Beyond two thousand, vectors are not computed but made by
mixing those of the first two thousand: embedding 100,000 takes most of an hour, and no other speed depends on it.
Each recall is timed three times and the best one counts, because the machine is seldom alone.
"""

from __future__ import annotations

import argparse
import math
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if sys.path[0] == str(Path(__file__).parent):  # started as a file: this folder's memory.py is not the package
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from numpy.typing import NDArray

from agent.types import Event, MemoryRecord
from benchmarks.memory_quality import quality
from memory import open_memory, rebuild
from memory.embed import Embedder
from memory.index import VectorMemory
from memory.rows import Filter
from memory.search import dense_search

MOST_EMBEDDED = 2000
WINDOW = 20
SESSION_STEPS = 20
KINDS = ("observation",) * 16 + ("note", "note", "outcome", "document")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--quality", nargs="*", default=[])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="keep the indexes in this folder, or use those that are there")
    parser.add_argument("--rebuild", type=int, default=0, help="also time a rebuild of so many records")
    options = parser.parse_args()
    for name in options.quality:
        report(f"quality {Path(name).name}", quality(name))
    if options.quality:
        return
    report("start", start_up())
    for count in options.records:
        report(f"{count} records", speed(count, options.queries, options.keep))
    if options.rebuild:
        report(f"rebuild of {options.rebuild}", rebuilding(options.rebuild))


def report(title: str, figures: dict[str, Any]) -> None:
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:<44} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)


def start_up() -> dict[str, Any]:
    """From process start, in processes of their own; processor time is what a quiet machine would take."""
    vector = "from memory.embed import load_embedder; load_embedder().embed(['a first text'])"
    recall = "import sys; from pathlib import Path; from memory import open_memory; "
    recall += "print(len(open_memory(Path(sys.argv[1])).recall('where do words come from')))"
    with tempfile.TemporaryDirectory() as name:
        memory = open_memory(Path(name))
        memory.add(records(1000))
        memory.close()
        return {
            "first vector, wall s (cpu s)": "{:.2f} ({:.2f})".format(*timed_process(vector)),
            "first recall of 1,000 records, wall s (cpu s)": "{:.2f} ({:.2f})".format(*timed_process(recall, name)),
        }


def timed_process(code: str, *arguments: str) -> tuple[float, float]:
    best = (math.inf, math.inf)
    for _ in range(5):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return best


def speed(count: int, queries: int, keep: Path | None) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp()) if keep is None else keep / f"{count}-records"
    figures: dict[str, Any] = {}
    try:
        memory = open_memory(folder)
        if not memory.list_records(limit=1):
            figures |= filling(memory, count)
        figures |= recall_times(memory, questions(queries, count))
        figures |= against_exact_search(memory, questions(queries, count))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        figures["disk, bytes per record"] = size / count
        memory.close()
        figures["open again and recall once, s"] = timed(lambda: open_memory(folder).recall("where do words come from"))
        return figures
    finally:
        if keep is None:
            shutil.rmtree(folder)


def filling(memory: VectorMemory, count: int) -> dict[str, Any]:
    cpu, started = time.process_time(), time.perf_counter()
    memory.embedder().embed([record.text for record in records(min(count, 1000))])
    embed_cpu, embed_wall = time.process_time() - cpu, time.perf_counter() - started
    figures: dict[str, Any] = {
        "texts embedded per s": min(count, 1000) / embed_wall,
        "texts embedded per cpu s": min(count, 1000) / embed_cpu,
    }
    varied = memory if count <= MOST_EMBEDDED else VectorMemory(memory.folder, embedder=Varied(memory.embedder()))
    started = time.perf_counter()
    for start in range(0, count, 5000):
        varied.add(records(min(5000, count - start), first=start))
    aside = " aside" if varied is not memory else " included"
    figures[f"records added per s, embedding{aside}"] = count / (time.perf_counter() - started)
    new = [replace(record, id=f"new {n}", text=f"{n} {record.text}") for n, record in enumerate(records(20))]
    single = [timed(lambda r=record: memory.add([r])) for record in new]
    return figures | {"one record added, ms p50": 1000 * statistics.median(single)}


class Varied:
    """Vectors for large indexes: of two thousand texts as they are, of the others somewhere between two of those."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.dimensions = embedder.name, embedder.dimensions
        self._base = embedder.embed([record.text for record in records(MOST_EMBEDDED)])
        self._chance = np.random.default_rng(0)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        pairs = self._chance.integers(0, len(self._base), (2, len(texts)))
        share = self._chance.uniform(0.5, 0.8, (len(texts), 1))
        noise = self._chance.standard_normal((len(texts), self.dimensions)) * (0.4 / math.sqrt(self.dimensions))
        vectors = share * self._base[pairs[0]] + (1 - share) * self._base[pairs[1]] + noise
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall_times(memory: VectorMemory, queries: Sequence[str]) -> dict[str, Any]:
    """Wall time of each kind of recall, and the processor time of its median, which a busy machine lengthens less."""
    memory.recall(queries[0])
    embed = [both_times(lambda q=query: memory.embedder().embed([q])) for query in queries]
    figures = {"embedding of the query, ms p50 / p99 (cpu p50)": milliseconds(embed)}
    filters = {
        "recall": Filter(),
        "recall, but one session": Filter(exclude_session="s7"),
        "recall, notes only": Filter(kinds=frozenset({"note"})),
        "recall, outcomes only": Filter(kinds=frozenset({"outcome"})),
        "recall, observations only": Filter(kinds=frozenset({"observation"})),
        "recall, one session only": Filter(session="s7"),
    }
    for name, where in filters.items():
        times = [both_times(lambda q=query, w=where: memory.search(q, limit=5, where=w)) for query in queries]
        without = [(wall - w, cpu - c) for (wall, cpu), (w, c) in zip(times, embed, strict=True)]
        figures[f"{name}, ms p50 / p99 (cpu p50)"] = milliseconds(times)
        figures[f"{name}, embedding aside"] = milliseconds(without)
    return figures


def against_exact_search(memory: VectorMemory, queries: Sequence[str]) -> dict[str, Any]:
    with memory.reading() as catalogue:
        keys, vectors = zip(*catalogue.vectors(), strict=True)
    all_keys, matrix = np.concatenate([np.array(batch) for batch in keys]), np.concatenate(vectors)
    found = 0
    for vector in memory.embedder().embed(queries):
        exact = set(all_keys[np.argsort(-(matrix @ vector))[:10]].tolist())
        found += len(exact & {key for key, _ in dense_search(memory, vector, 10, Filter())})
    return {"Chroma's ten nearest that are the exact ones": found / (10 * len(queries))}


def rebuilding(count: int) -> dict[str, Any]:
    """A rebuild beside the bare embedding of the same texts; in processor time, for the load may change between."""
    made = records(count)
    with tempfile.TemporaryDirectory() as name:
        memory = open_memory(Path(name))
        shown = [f"t() -> ok: {record.text}" for record in made]
        walls, started = [], time.process_time()
        walls.append(timed(lambda: memory.embedder().embed(shown)))
        embedding, started = time.process_time() - started, time.process_time()
        walls.append(timed(lambda: rebuild(Path(name), sessions(made))))
        whole = time.process_time() - started
    return {
        "embedding alone, wall s (cpu s)": f"{walls[0]:.1f} ({embedding:.1f})",
        "rebuild, wall s (cpu s)": f"{walls[1]:.1f} ({whole:.1f})",
        "rebuild over embedding, cpu": whole / embedding,
    }


def records(count: int, first: int = 0) -> list[MemoryRecord]:
    made: list[MemoryRecord] = []
    for number, text in enumerate(windows()):
        if number >= first + count:
            return made
        if number >= first:
            kind: Any = KINDS[number % len(KINDS)]
            session = f"s{number // SESSION_STEPS}"
            made.append(
                MemoryRecord(f"r{number}", text, kind, "model", session, number % SESSION_STEPS, "", 1e9 + number)
            )
    raise SystemExit(f"The installed Python files give only {len(made)} records; ask for fewer.")


def sessions(made: Sequence[MemoryRecord]) -> Iterator[list[Event]]:
    for start in range(0, len(made), SESSION_STEPS):
        name = f"s{start // SESSION_STEPS}"
        events = [Event(0, "session", 1e9 + start, {"session": name, "goal": {"text": "read"}})]
        for step, record in enumerate(made[start : start + SESSION_STEPS]):
            events.append(Event(2 * step + 1, "action", record.created, {"step": step, "tool": "t", "args": {}}))
            result = {"step": step, "status": "ok", "text": record.text, "origin": "tool:t", "files": []}
            events.append(Event(2 * step + 2, "observation", record.created, result))
        yield events


def questions(count: int, known: int) -> list[str]:
    """Every third word or so of records spread over the index: like a goal that shares some words with a past one."""
    made = records(known)
    return [" ".join(made[place].text.split()[::2]) for place in range(0, known, max(1, known // count))][:count]


def windows() -> Iterator[str]:
    roots = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    files = (file for root in roots for file in sorted(root.rglob("*.py")))
    for file in dict.fromkeys(files):
        words = file.read_text(encoding="utf-8", errors="replace").split()
        for start in range(0, len(words) - WINDOW, WINDOW):
            yield " ".join(words[start : start + WINDOW])[:400]


def timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def both_times(work: Any) -> tuple[float, float]:
    """Wall and processor seconds, each the best of three."""
    best = (math.inf, math.inf)
    for _ in range(3):
        cpu, started = time.process_time(), time.perf_counter()
        work()
        wall = time.perf_counter() - started
        best = min(best[0], wall), min(best[1], time.process_time() - cpu)
    return best


def milliseconds(times: Sequence[tuple[float, float]]) -> str:
    wall, cpu = np.array(times).T * 1000
    p50, p99 = np.percentile(wall, [50, 99])
    return f"{p50:.1f} / {p99:.1f} ({np.median(cpu):.1f})"


if __name__ == "__main__":
    main()
