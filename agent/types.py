"""The vocabulary of Whetstone as frozen dataclasses and protocols. Imports nothing of ours.

Every other module speaks in these words (`docs/design.md`, "Vocabulary"). A value that crosses from one part to
another is one of these types, so reading this file top to bottom is reading the contract between the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

JSON = Any
"""A value that `json.dumps` accepts."""


class WhetstoneError(Exception):
    """A failure that a person can act on. `str(error)` is one sentence: what happened, to what, what to do next."""


class Ending(StrEnum):
    """Why a session stopped. There is no other way to stop."""

    FINISHED = "finished"
    FAILED_CHECK = "failed_check"
    STUCK = "stuck"
    OUT_OF_STEPS = "out_of_steps"
    OUT_OF_TOKENS = "out_of_tokens"
    OUT_OF_TIME = "out_of_time"
    DENIED = "denied"
    INTERRUPTED = "interrupted"
    ERROR = "error"

    @property
    def exit_code(self) -> int:
        """The process exit code that reports this ending."""
        return _EXIT_CODES[self]


USAGE_EXIT_CODE = 2
_EXIT_CODES: dict[Ending, int] = {
    Ending.FINISHED: 0,
    Ending.FAILED_CHECK: 1,
    Ending.ERROR: 1,
    Ending.STUCK: 3,
    Ending.DENIED: 4,
    Ending.OUT_OF_STEPS: 124,
    Ending.OUT_OF_TOKENS: 124,
    Ending.OUT_OF_TIME: 124,
    Ending.INTERRUPTED: 130,
}


class Effect(StrEnum):
    """What a tool does to the world. A tool with none of the last four only looks, and may be repeated safely."""

    READS = "reads"
    WRITES = "writes"
    EXECUTES = "executes"
    NETWORK = "network"
    TRAINS = "trains"


@dataclass(frozen=True)
class Budget:
    """How much one session may spend. All limits count over the whole session, resumes included."""

    steps: int = 20
    tokens: int = 8000
    """Generated tokens (sampled and forced), prompt tokens not counted."""
    seconds: float = 600.0
    action_tokens: int = 768
    """Generated tokens of one action."""


@dataclass(frozen=True)
class Goal:
    """What to achieve. `check` (how success is verified) is a mapping in the form `agent.check` documents."""

    text: str
    check: Mapping[str, JSON] | None = None
    answer_schema: Mapping[str, JSON] | None = None
    budget: Budget = field(default_factory=Budget)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """One JSON object of the policy: `thought`, `tool`, `args`, valid against the action schema."""

    thought: str
    tool: str
    args: Mapping[str, JSON]


ObservationStatus = Literal["ok", "error", "refused", "invalid", "unknown"]
"""`ok` the tool did it; `error` it tried and failed; `refused` approval said no; `invalid` the action was not valid or
was cut short, nothing ran; `unknown` the process died between the intent and the result (effect unknown)."""


@dataclass(frozen=True)
class Observation:
    """What came back from an action."""

    status: ObservationStatus
    text: str
    origin: str
    """`tool:<name>` or `runtime`."""
    truncated: bool = False
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    """Workspace-relative POSIX paths the action changed, as far as the tool knows."""
    value: JSON = None
    """The answer, when the tool ended the session."""
    ends: bool = False
    """True when the tool asks to end the session with `value` as its answer (`finish`)."""


@dataclass(frozen=True)
class Event:
    """One line of the journal. `data` holds JSON values only; `docs/journal.md` lists the fields of each kind."""

    seq: int
    kind: str
    time: float
    """Unix time, seconds."""
    data: Mapping[str, JSON]


# --- prompt and policy ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """One chat turn. `content` is always data: no text in it can turn into a control token.

    `token_ids` are the exact ids the model generated for an assistant turn, so that the history a cache holds and the
    history a dataset trains on are what was sampled, not a re-tokenization of it.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    section: Literal["system", "goal", "memory", "history"]
    step: int = 0
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Prompt:
    """The chat that is shown to the policy: a pure function of the session's events."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class TokenUsage:
    """Counts of tokens of one completion."""

    prompt: int = 0
    cached: int = 0
    """Prompt tokens whose keys and values were reused; `prompt == cached + prefilled`."""
    prefilled: int = 0
    forced: int = 0
    """Generated tokens that the grammar left no choice about."""
    sampled: int = 0
    drafted: int = 0
    """Tokens guessed ahead and read by the model before it was known whether it would choose them."""
    accepted: int = 0
    """Guessed tokens that it chose."""

    @property
    def generated(self) -> int:
        """Tokens that count against the budget."""
        return self.forced + self.sampled


@dataclass(frozen=True)
class Completion:
    """What a policy produced for one prompt.

    `token_ids`, `sampled` and `logprobs` have one entry per generated token, thinking and end-of-turn token included;
    `sampled[i]` is False where the grammar forced the token; `logprobs[i]` is the natural log of the probability of
    the token under the masked distribution before temperature. Policies without tokens leave them empty.
    """

    text: str
    """The JSON of the action, without thinking."""
    thinking: str = ""
    finish: Literal["stop", "length", "time", "cancelled"] = "stop"
    token_ids: tuple[int, ...] = ()
    sampled: tuple[bool, ...] = ()
    logprobs: tuple[float, ...] = ()
    usage: TokenUsage = field(default_factory=TokenUsage)
    prompt_digest: str = ""
    """sha256 hex of the prompt's token ids (little-endian int32), empty for policies without tokens."""
    milliseconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Wall time by part: `tokenize`, `prefill`, `decode`, `draft`, `mask`, `sample`, `total`."""


class Policy(Protocol):
    """What chooses the next action."""

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and completion may have together."""
        ...

    def describe(self) -> Mapping[str, JSON]:
        """What the journal's header says of the model: name, adapter, dtype, digests, sampling, seed."""
        ...

    def count(self, text: str) -> int:
        """Tokens of `text`, for budgeting."""
        ...

    def act(
        self,
        prompt: Prompt,
        schema: Mapping[str, JSON],
        *,
        step: int,
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        avoid: Sequence[Action] = (),
    ) -> Completion:
        """Choose the next action.

        `schema` is the action schema (JSON Schema); `deadline` is in `time.monotonic()` seconds; `on_text` is given
        each new piece of decoded text as it comes; `cancelled` is asked between tokens. `avoid` are actions that
        failed already, with nothing changed since: a policy that can choose otherwise does. Never raises for a limit:
        the completion's `finish` says how it ended. Raises WhetstoneError when the model cannot answer at all.
        """
        ...

    def close(self) -> None: ...


# --- memory -----------------------------------------------------------------------------------------------------

MemoryKind = Literal["observation", "outcome", "lesson", "note", "document"]


def ago(seconds: float) -> str:
    """How long ago, in the largest whole unit: `2 days ago`; `just now` below a minute."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // size)) > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@dataclass(frozen=True)
class MemoryRecord:
    """One thing worth remembering. Derived from journal events (or from a document), so the index can be rebuilt."""

    id: str
    text: str
    kind: MemoryKind
    origin: str
    """`user`, `model` or `tool:<name>`."""
    session: str
    step: int
    goal: str
    created: float
    """Unix time, seconds."""
    importance: float = 0.5
    """0 to 1."""


@dataclass(frozen=True)
class Recalled:
    """A record that a query brought back, with the parts of its score (each named, higher is better)."""

    record: MemoryRecord
    score: float
    parts: Mapping[str, float] = field(default_factory=dict[str, float])


class Memory(Protocol):
    """The vector memory as the loop and the tools see it."""

    def add(self, records: Iterable[MemoryRecord]) -> None: ...

    def recall(
        self, query: str, *, limit: int = 5, max_chars: int = 1500, exclude_session: str | None = None
    ) -> Sequence[Recalled]:
        """The best records for `query`, best first, at most `limit` and at most `max_chars` of text together."""
        ...

    def close(self) -> None: ...


# --- sandbox ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What one sandboxed run may use. Exceeding any kills the whole process tree."""

    wall_seconds: float = 30.0
    cpu_seconds: float = 30.0
    memory_bytes: int = 2 * 1024**3
    """Resident memory of the whole process tree."""
    processes: int = 64
    open_files: int = 256
    file_bytes: int = 256 * 1024**2
    """Size of one file."""
    disk_bytes: int = 512 * 1024**2
    """Growth of the workspace plus everything in the sandbox's temporary folders."""
    output_bytes: int = 256 * 1024
    """stdout and stderr, each."""


@dataclass(frozen=True)
class Usage:
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class SandboxResult:
    """What a sandboxed run left. `killed_by` names the limit that ended it, a field name of `Limits`, or `signal N`."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    killed_by: str | None = None
    truncated: bool = False
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Capability:
    """Whether a rung of the sandbox ladder works on this machine, and what it is worth."""

    rung: Literal["bubblewrap", "landlock", "container", "sandbox-exec", "none"]
    available: bool
    reason: str
    """One sentence: why it works or why not."""
    fix: str = ""
    """What to do on this machine to make it work, empty if it does or nothing helps."""
    reduced: bool = False
    """True where the rung holds less than bubblewrap; `not_covered` says what."""
    proof: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """Self-report from inside, taken with the production arguments."""
    not_covered: tuple[str, ...] = ()


class Sandbox(Protocol):
    """Runs code that nobody trusts."""

    @property
    def capability(self) -> Capability: ...

    def run_python(self, source: str, *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        """Run a Python script with the workspace as its current folder. Raises WhetstoneError if it cannot start."""
        ...

    def run_command(self, argv: Sequence[str], *, limits: Limits, stdin: bytes = b"") -> SandboxResult:
        """Run a program with the workspace as its current folder. Raises WhetstoneError if it cannot start."""
        ...

    def close(self) -> None:
        """End every process and remove every temporary folder. Safe to call twice."""
        ...
