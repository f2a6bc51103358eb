"""A start leaves out of torch what only compilers need, and makes up for it before anything may miss it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def _said(code: str) -> str:
    """What a fresh interpreter prints: here torch is imported long since."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("needs_all", ["transformers", "torch._dynamo"])
def test_what_was_left_out_is_there_for_who_needs_it(needs_all: str) -> None:
    said = _said(f"""
        import importlib, sys
        from agent.engine.torch_import import import_torch, map_torch, only_run
        only_run()
        map_torch()
        import_torch()
        import torch
        before = "torch._prims" in sys.modules
        print(before, float(torch.nn.functional.linear(torch.ones(1, 3), torch.ones(2, 3)).sum()))
        importlib.import_module("{needs_all}")
        import torch._meta_registrations as registrations
        print(hasattr(registrations, "register_meta"), "torch._prims" in sys.modules)
        print(torch.nn.functional.scaled_dot_product_attention(*torch.empty(3, 1, 2, 4, 8, device="meta")).shape)
    """)
    assert said.splitlines() == ["False 6.0", "True True", "torch.Size([1, 2, 4, 8])"]


def test_who_does_more_than_run_has_all_of_torch() -> None:
    said = _said("""
        from agent.engine.torch_import import import_torch
        import_torch()
        import torch
        print(torch.Generator().manual_seed(3).initial_seed())
    """)
    assert said == "3"


def test_a_torch_that_is_there_already_is_left_as_it_is() -> None:
    said = _said("""
        import sys
        import torch
        from agent.engine.torch_import import import_torch, map_torch, only_run
        only_run()
        watchers = len(sys.meta_path)
        map_torch()
        import_torch()
        print("torch._prims" in sys.modules, len(sys.meta_path) == watchers)
    """)
    assert said == "True True"


def test_without_torch_the_import_says_so_and_nothing_is_left_behind() -> None:
    said = _said("""
        import sys
        sys.modules["torch"] = None
        from agent.engine.torch_import import map_torch
        map_torch()
        del sys.modules["torch"]
        sys.path[:] = [path for path in sys.path if "site-packages" not in path]
        sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
        from agent.engine.torch_import import import_torch, only_run
        only_run()
        map_torch()
        try:
            import_torch()
        except ModuleNotFoundError as error:
            print(error, "torch._meta_registrations" in sys.modules)
    """)
    assert said == "No module named 'torch' False"


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_an_end_while_the_library_is_being_mapped_waits_for_it(seconds: float) -> None:
    """An exit beside a dlopen would end a library that begins: it aborts, or waits for ever."""
    said = _said(f"""
        import time
        from agent.engine.torch_import import map_torch
        map_torch()
        time.sleep({seconds})
        print("done")
    """)
    assert said == "done"
