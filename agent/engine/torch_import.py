"""Importing torch in less time: what only its compilers need is left for later, and its libraries are mapped early.

`import torch` takes about half of what a start takes. A quarter of it registers, in Python, what every operator does to
tensors without storage ("meta" tensors), which tracing, compiling and `torch.Generator` need and a run does not. A
process that does nothing but run leaves it out, and makes up for it before anything that may need it is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

_LEFT_OUT = "torch._meta_registrations"
_NEED_ALL = frozenset(
    {"transformers", "peft", "accelerate", "sentence_transformers", "torch._dynamo", "torch._inductor"}
)
_LIBRARY = "lib/libtorch_cpu.so"
_only_run = False


def map_torch() -> None:
    """Begin to map torch's largest library in a thread, so that an import a little later finds it there.

    Does nothing where torch is imported already or has no such library; the import itself finds out what is wrong.
    """
    spec = None if "torch" in sys.modules else importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or not (library := Path(spec.origin).parent / _LIBRARY).is_file():
        return
    # Called as a foreign function, dlopen lets other threads run; `ctypes.CDLL(library)` and `import` do not.
    # The thread is no daemon: an exit that does not wait for it ends libraries while they begin, and hangs or aborts.
    with contextlib.suppress(OSError, AttributeError):
        dlopen = ctypes.CDLL(None).dlopen
        dlopen.restype = ctypes.c_void_p
        threading.Thread(target=dlopen, args=(os.fsencode(library), os.RTLD_NOW), name="torch").start()


def only_run() -> None:
    """Say that this process runs one session of a model with code of ours alone: then less of torch will do."""
    global _only_run
    _only_run = True


def import_torch() -> None:
    """Import torch, if it is not imported yet; after `only_run` without its meta registrations.

    What the import makes stays until the end: the collector need not look through it, now or later.
    """
    if "torch" in sys.modules:
        return
    placeholder = ModuleType(_LEFT_OUT)
    if _only_run:
        sys.modules[_LEFT_OUT] = placeholder
        sys.meta_path.insert(0, _Completion(placeholder))
    gc.disable()
    try:
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]

        gc.freeze()
    except BaseException:
        if sys.modules.get(_LEFT_OUT) is placeholder:
            del sys.modules[_LEFT_OUT]
        raise
    finally:
        gc.enable()


class _Completion(MetaPathFinder):
    """Makes up for what was left out before a module that may need it is imported."""

    def __init__(self, placeholder: ModuleType) -> None:
        self._placeholder = placeholder
        self._lock = threading.RLock()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in _NEED_ALL:
            with self._lock:
                if sys.modules.get(_LEFT_OUT) is self._placeholder:
                    del sys.modules[_LEFT_OUT]
                    importlib.import_module(_LEFT_OUT)
