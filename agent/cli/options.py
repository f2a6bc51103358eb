"""The options of the root command, and how they become settings."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import agent
from agent.cli import UsageError
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from typer.core import TyperGroup
    from typer.exceptions import TyperException

    from agent.settings import Settings

SPELLED = {
    "model.name": "--model",
    "model.adapter": "--adapter",
    "paths.workspace": "--workspace",
    "budget.steps": "--max-steps",
    "budget.tokens": "--max-tokens",
    "budget.seconds": "--timeout",
    "approval.mode": "--approve",
    "memory.enabled": "--no-memory",
    "sampling.seed": "--seed",
    "sampling.temperature": "--temperature",
    "tools.enabled": "--tools",
    "tools.plugins": "--tools",
}

GoalText = Annotated[str | None, typer.Option("--goal", metavar="TEXT|@FILE|-", help="What to achieve.")]
AnswerSchema = Annotated[
    str | None,
    typer.Option("--answer-schema", metavar="JSON|@FILE", help="JSON Schema that the answer must have."),
]
Check = Annotated[
    str | None,
    typer.Option("--check", metavar="CHECK|@FILE", help="How success is verified, e.g. file-contains:a.txt=42."),
]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="[SESSION]", help="Go on with a session, by default the newest.")
]
Force = Annotated[bool, typer.Option("--force", help="Resume although the model or the tools changed.")]
Model = Annotated[
    str | None,
    typer.Option(
        "-m", "--model", metavar="MODEL", help="starter, a folder, a .gguf file, a hub id, or http://HOST/v1."
    ),
]
Adapter = Annotated[str | None, typer.Option("--adapter", metavar="PATH", help="An adapter folder, auto, or none.")]
Workspace = Annotated[
    str | None, typer.Option("-w", "--workspace", metavar="DIR", help="The folder the agent works in.")
]
MaxSteps = Annotated[str | None, typer.Option("--max-steps", metavar="N", help="Actions at most.")]
MaxTokens = Annotated[str | None, typer.Option("--max-tokens", metavar="N", help="Generated tokens at most.")]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="SECONDS", help="Wall time at most.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Allow every action, as --approve auto.")]
NonInteractive = Annotated[
    bool, typer.Option("-n", "--non-interactive", help="Never ask; what needs asking is refused.")
]
Approve = Annotated[str | None, typer.Option("--approve", metavar="MODE", help="ask, auto or read-only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout; for a goal, one event a line.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the answer and nothing else.")]
Profile = Annotated[bool, typer.Option("--profile", help="Say in the end where the time went.")]
NoMemory = Annotated[bool, typer.Option("--no-memory", help="Neither recall nor remember.")]
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help="Same seed, same tokens.")]
Temperature = Annotated[str | None, typer.Option("--temperature", metavar="T", help="0 = greedy.")]
Tools = Annotated[
    list[str] | None,
    typer.Option("--tools", metavar="NAMES", help="Tools to offer: globs, or module:name of your own. Repeatable."),
]
Config = Annotated[
    list[str] | None,
    typer.Option("-c", "--config", metavar="KEY=VALUE", help="Any setting (see config show). Repeatable."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"whetstone {agent.__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")]


@dataclass
class Chosen:
    """What the command line said, before settings are loaded."""

    flags: Mapping[str, Any]
    """Settings with an option of their own."""
    config: Mapping[str, str]
    """Settings given as `-c key=value`."""
    json: bool = False

    def with_config(self, pairs: Sequence[str] | None, *, json: bool = False) -> Chosen:
        """The same with `-c key=value` of a subcommand added. Raises UsageError for what is not a pair."""
        return Chosen(self.flags, {**self.config, **config_pairs(pairs)}, self.json or json)

    def values(self) -> dict[str, Any]:
        """Dotted key -> value of everything given; an option of its own beats `-c`."""
        return {**self.config, **self.flags}

    def spelled(self) -> dict[str, str]:
        """Dotted key -> the option that was written for it."""
        return {key: f"-c {key}" for key in self.config} | {key: SPELLED[key] for key in self.flags}

    def load(self) -> Settings:
        """The settings of this command. Raises UsageError."""
        from agent.settings import load_settings

        try:
            return load_settings(self.values(), spelled=self.spelled())
        except WhetstoneError as error:
            raise UsageError(str(error)) from error


def chosen_in(context: typer.Context, config: Sequence[str] | None, json: bool) -> Chosen:
    """What the command line said for a subcommand: the root's options and its own."""
    return cast("Chosen", context.obj).with_config(config, json=json)


def config_pairs(pairs: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-c needs KEY=VALUE, not {pair!r}: for example -c budget.steps=5")
        found[key.strip()] = value
    return found


def approval_mode(approve: str | None, yes: bool) -> str | None:
    if yes and approve not in (None, "auto"):
        raise UsageError(f"--yes and --approve {approve} contradict each other: give one of them.")
    return "auto" if yes else approve


def tool_flags(items: Sequence[str] | None) -> dict[str, list[str]]:
    """`--tools a,b --tools pkg:name`: names and globs choose, `module:name` adds a plug-in."""
    parts = [part.strip() for item in items or () for part in item.split(",") if part.strip()]
    plugins, names = [p for p in parts if ":" in p], [p for p in parts if ":" not in p]
    return ({"tools.plugins": plugins} if plugins else {}) | ({"tools.enabled": names} if names else {})


def text_or_file(option: str, value: str) -> str:
    """The value itself, of `@FILE` the file's text, of `-` all of stdin. Raises UsageError."""
    if value != "-" and not value.startswith("@"):
        return value
    where = "standard input" if value == "-" else value[1:]
    try:
        raw = sys.stdin.buffer.read() if value == "-" else Path(value[1:]).expanduser().read_bytes()
        return raw.decode()
    except OSError as error:
        raise UsageError(f"{option} {value}: {where} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, RuntimeError) as error:
        raise UsageError(f"{option} {value}: {where} is not a UTF-8 text file.") from error


def completed(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value of an option that may stand alone: `--resume` means the newest session.

    `train` has a `--resume` of its own, which takes none.
    """
    found = list(arguments)
    for at in reversed([i for i, word in enumerate(found) if word == "--resume"]):
        alone = at + 1 == len(found) or found[at + 1].startswith("-")
        if alone and "train" not in found[:at]:
            found[at] = "--resume="
    return found


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value is not None}


def explained(error: TyperException, command: TyperGroup) -> str:
    """The parser's complaint with what would have been right."""
    sentence = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    if isinstance(wrong, str) and context is not None:
        here = [name for param in context.command.params for name in param.opts]
        above = [name for param in command.params for name in param.opts]
        if context.command is not command and wrong in above:
            return f"{wrong} goes before the command {context.info_name!r}, not after it."
        close = difflib.get_close_matches(wrong, here, n=1)
        if close and close[0] != wrong:
            return f"{sentence.split(' (Possible')[0]}: did you mean {close[0]}?"
    if sentence.startswith("No such command"):
        return sentence if sentence.endswith("?") else f"{sentence}: there are {', '.join(command.commands)}."
    return f"{sentence}; --help shows how."
