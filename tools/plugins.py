"""Which tools a run has: the built-in ones, and those of other people.

A package offers tools under the entry-point group `whetstone.tools`; `module:name` names them directly. Either way the
object is a `Tool` or a list of them.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from agent.types import JSON, WhetstoneError
from tools.base import Tool
from tools.files import edit_file, list_files, read_file, write_file
from tools.finetune import fine_tune_tool
from tools.finish import finish_tool
from tools.python import run_python
from tools.recall import recall, remember
from tools.search import search_files

ENTRY_POINT_GROUP = "whetstone.tools"


def builtin_tools() -> tuple[Tool, ...]:
    """The tools that come with the runtime, in the order of the prompt; `finish` is the last."""
    looking = (list_files, read_file, search_files)
    return (*looking, write_file, edit_file, run_python, recall, remember, finish_tool())


def load_tools(
    *,
    plugins: Sequence[str] = (),
    enabled: Sequence[str] = ("*",),
    sandbox: bool,
    memory: bool,
    answer_schema: Mapping[str, JSON] | None = None,
    request_training: Callable[[str, str], str] | None = None,
) -> tuple[Tool, ...]:
    """The tools of one run. `plugins` are `module:name`; `enabled` are name patterns (`fnmatch`).

    With `request_training` there is `fine_tune` (`tools.finetune`).

    A tool that needs a sandbox or a memory is left out where the run has none; `finish` is always there, always last.
    Raises WhetstoneError for a plug-in that does not load, for two tools of one name, for a pattern that fits no tool.
    """
    offered: dict[str, tuple[Tool, str]] = {}
    asking = () if request_training is None else (fine_tune_tool(request_training),)
    own = ((tool, "whetstone") for tool in (*builtin_tools(), *asking))
    for tool, source in (*own, *_plugged_in(plugins)):
        if tool.name in offered:
            raise WhetstoneError(
                f"Two tools are named '{tool.name}': from {offered[tool.name][1]} and from {source}; leave one out."
            )
        offered[tool.name] = (tool, source)
    for pattern in enabled:
        if not fnmatch.filter(offered, pattern):
            near = difflib.get_close_matches(pattern, offered, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(offered)}."
            raise WhetstoneError(f"No tool fits '{pattern}'; {hint}")
    has = {"sandbox": sandbox, "memory": memory}
    chosen = [
        tool
        for tool, _ in offered.values()
        if tool.name != "finish"
        and any(fnmatch.fnmatchcase(tool.name, pattern) for pattern in enabled)
        and all(has[need] for need in tool.needs)
    ]
    return (*chosen, finish_tool(answer_schema))


def _plugged_in(plugins: Sequence[str]) -> Iterator[tuple[Tool, str]]:
    """Tools of other packages, each with where it came from."""
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        source = f"the entry point '{point.name}' ({point.value})"
        try:
            loaded: object = point.load()
        except Exception as error:
            raise _broken(source, error, "repair or uninstall its package") from error
        yield from _tools(loaded, source)
    for spec in dict.fromkeys(plugins):
        source = f"'{spec}'"
        module, _, name = spec.partition(":")
        if not module or not name:
            raise WhetstoneError(f"The tool {source} is not of the form module:name.")
        try:
            loaded = importlib.import_module(module)
            for part in name.split("."):
                loaded = getattr(loaded, part)
        except Exception as error:
            raise _broken(source, error, "check the name and that the module can be imported") from error
        yield from _tools(loaded, source)


def _tools(loaded: object, source: str) -> Iterator[tuple[Tool, str]]:
    found = cast(Sequence[object], loaded) if isinstance(loaded, list | tuple) else [loaded]
    for tool in found:
        if not isinstance(tool, Tool):
            raise WhetstoneError(f"{source} is no tool but a {type(tool).__name__}; make it one with @tool.")
        yield tool, source


def _broken(source: str, error: Exception, advice: str) -> WhetstoneError:
    reason = str(error) if isinstance(error, WhetstoneError) else f"{type(error).__name__}: {error}"
    return WhetstoneError(f"The tools of {source} do not load ({reason}); {advice}.")
