"""The settings themselves: sections of frozen fields with their defaults, bounds and one line about each.

`agent.settings` finds their values. A new knob is one more field here and nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, PrivateAttr

from agent.types import Budget, Limits, WhetstoneError

_LIMITS = Limits()


def _check_type(value: Any) -> Any:
    # Lax validation would read `true` as the number 1, and hide a slip of the pen.
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


_Number = BeforeValidator(_check_type)
_Count = Annotated[int, _Number, Field(ge=1)]
_Natural = Annotated[int, _Number, Field(ge=0)]
_Seconds = Annotated[float, _Number, Field(gt=0, allow_inf_nan=False)]
_Bytes = Annotated[ByteSize, _Number, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Section):
    name: str = Field(
        default="starter", min_length=1, description="`starter`, a folder, a .gguf file, a hub id, or http://HOST/v1"
    )
    adapter: str = Field(default="auto", min_length=1, description="`auto` (the promoted one), `none`, or a folder")
    dtype: Literal["auto", "fp32", "bf16", "int8"] = Field(default="auto", description="number format of the weights")
    device: str = Field(default="auto", min_length=1, description="`auto`, `cpu`, `cuda`, `cuda:1`, ...")
    threads: _Natural = Field(default=0, description="threads on the CPU; 0 = one for each physical core")
    context_tokens: _Natural = Field(default=0, description="window in tokens; 0 = the model's own, at most 8192")


class SamplingSettings(Section):
    temperature: Annotated[float, _Number] = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="0 = greedy"
    )
    top_p: Annotated[float, _Number] = Field(default=1.0, gt=0, le=1, description="nucleus sampling; 1 = off")
    seed: _Natural = Field(default=0, description="same seed, same tokens")


class BudgetSettings(Section):
    steps: _Count = Field(default=20, description="actions of one session")
    tokens: _Count = Field(default=8000, description="generated tokens of one session")
    seconds: _Seconds = Field(default=600.0, description="wall time of one session")
    action_tokens: _Count = Field(default=768, description="generated tokens of one action")


class ApprovalSettings(Section):
    mode: Literal["ask", "auto", "read-only"] = Field(
        default="ask", description="what happens to actions that change things"
    )
    allow: tuple[str, ...] = Field(default=(), description="globs `tool` or `tool:main argument` that never ask")
    deny: tuple[str, ...] = Field(default=(), description="globs that are always refused")


class SandboxSettings(Section):
    rung: Literal["auto", "bubblewrap", "landlock", "container", "sandbox-exec", "none"] = Field(
        default="auto", description="which sandbox; auto = the strongest that works"
    )
    packages: tuple[str, ...] = Field(
        default=("numpy", "pandas"), description="packages that scripts may import, read-only"
    )
    container_image: str | None = Field(default=None, description="image for the container rung")
    wall_seconds: _Seconds = _LIMITS.wall_seconds
    cpu_seconds: _Seconds = _LIMITS.cpu_seconds
    memory_bytes: _Bytes = Field(default=ByteSize(_LIMITS.memory_bytes), description="of the whole process tree")
    processes: _Count = _LIMITS.processes
    open_files: _Count = _LIMITS.open_files
    file_bytes: _Bytes = Field(default=ByteSize(_LIMITS.file_bytes), description="of one file")
    disk_bytes: _Bytes = Field(
        default=ByteSize(_LIMITS.disk_bytes), description="growth of the workspace and temporary files"
    )
    output_bytes: _Bytes = Field(default=ByteSize(_LIMITS.output_bytes), description="of stdout and stderr, each")


class MemorySettings(Section):
    enabled: bool = Field(default=True, description="store and recall what was seen")
    embedder: str = Field(default="minilm", min_length=1, description="the embedding model")
    recall: _Natural = Field(default=4, description="records recalled for each step")
    chars: _Natural = Field(default=1200, description="characters recalled for each step")


class ToolSettings(Section):
    enabled: tuple[str, ...] = Field(default=("*",), description="globs of the tools the model may use")
    plugins: tuple[str, ...] = Field(default=(), description="tools of your own, as `module:name`")
    max_chars: _Count = Field(default=4000, description="characters of one observation")


class LearningSettings(Section):
    fine_tune: bool = Field(default=False, description="the agent may ask for training (it still asks you first)")
    every_hours: _Seconds = Field(default=24.0, description="hours between two requests of the agent")
    minutes: _Seconds = Field(default=30.0, description="of a training that the agent asked for, at most")
    memory_bytes: _Bytes = Field(default=ByteSize(8 * 1024**3), description="of such a training, at most")
    held_out: tuple[str, ...] = Field(default=(), description="files of goals that are never trained on")


class PathSettings(Section):
    workspace: Path = Field(
        default=Path(), description="the folder the agent works in; ./workspace if it exists, else ."
    )
    data: Path = Field(default=Path(), description="journals, memory, adapters; must lie outside the workspace")
    cache: Path = Field(default=Path(), description="converted models")


class Settings(Section):
    """All settings, frozen. Attributes are the sections; `flat()` and `origin()` speak in dotted keys."""

    model: ModelSettings = ModelSettings()
    sampling: SamplingSettings = SamplingSettings()
    budget: BudgetSettings = BudgetSettings()
    approval: ApprovalSettings = ApprovalSettings()
    sandbox: SandboxSettings = SandboxSettings()
    memory: MemorySettings = MemorySettings()
    tools: ToolSettings = ToolSettings()
    learning: LearningSettings = LearningSettings()
    paths: PathSettings = PathSettings()
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict[str, str])

    def origin(self, key: str) -> str:
        """Where the value of a dotted key came from: `default`, a file, a variable, or a flag."""
        if key not in setting_keys():
            raise WhetstoneError(unknown_setting(key, "settings"))
        return self._origins.get(key, "default")

    def flat(self) -> dict[str, Any]:
        """Dotted key -> value, JSON values only."""
        nested = cast("dict[str, dict[str, Any]]", self.model_dump(mode="json"))
        return {f"{section}.{name}": value for section, values in nested.items() for name, value in values.items()}

    def limits(self) -> Limits:
        """What one sandboxed run may use."""
        dumped = self.sandbox.model_dump(exclude={"rung", "packages", "container_image"})
        return Limits(**{name: int(v) if isinstance(v, int) else v for name, v in dumped.items()})

    def goal_budget(self) -> Budget:
        """What one session may spend."""
        return Budget(**self.budget.model_dump())

    def sessions_folder(self) -> Path:
        """Where the journals are."""
        return self.paths.data / "sessions"

    def adapters_folder(self) -> Path:
        """Where the registry of adapters is."""
        return self.paths.data / "adapters"

    def refuse_overlap(self) -> None:
        """Raise WhetstoneError when what the agent may write to could hold the journals, the memory or the model.

        A run calls this before it opens anything; looking at settings or sessions needs no such care.
        """
        workspace = self.paths.workspace.resolve()
        for key, path in (("paths.data", self.paths.data), ("paths.cache", self.paths.cache)):
            if path.resolve().is_relative_to(workspace):
                raise WhetstoneError(
                    f"The workspace {workspace} contains {key} ({path}), which the agent must not be able to change: "
                    f"choose a smaller workspace with --workspace, or move {key}."
                )


@cache
def setting_keys() -> Mapping[str, str]:
    """Every dotted key with one line about it, in the order of this file."""
    found: dict[str, str] = {}
    for section, field in Settings.model_fields.items():
        for name, leaf in cast("type[Section]", field.annotation).model_fields.items():
            found[f"{section}.{name}"] = leaf.description or "limit of one sandboxed run"
    return found


def unknown_setting(key: str, origin: str) -> str:
    """The sentence about a key that does not exist, with the nearest one that does."""
    known = list(setting_keys())
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    if not close:  # a bare `steps` is as good a clue as `budget.stesp`
        names = {k.partition(".")[2]: k for k in known}
        close = [names[n] for n in difflib.get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.6)]
    hint = f"did you mean {close[0]!r}?" if close else "`config show` lists the settings."
    return f"{key!r} in {origin} is not a setting: {hint}"
