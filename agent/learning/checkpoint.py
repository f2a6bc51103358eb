"""The state of a training on disk, so that a killed one goes on where it was.

Written whole or not at all: a kill at any moment leaves the last complete checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.digests import write_whole
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from torch import Tensor

FOLDER, STATE, TENSORS = "checkpoint", "state.json", "tensors.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` hold parameters, the optimizer's moments and the best parameters, by name; `state` is JSON."""

    state: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def write_checkpoint(out: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in the folder `out`. Raises WhetstoneError, and keeps the one before, if it cannot."""
    from safetensors.torch import save_file

    # Two slots in turn: the state file names the slot that is complete, and is replaced in one step.
    folder = out / FOLDER
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    with resumable(out):
        folder.mkdir(parents=True, exist_ok=True)
        last = _state(folder)
        slot = 1 - last["slot"] if last is not None else 0
        try:
            save_file(tensors, folder / f"{slot}.{TENSORS}")
            write_whole(folder / STATE, json.dumps({**checkpoint.state, "slot": slot}))
        except BaseException:
            (folder / f"{slot}.{TENSORS}").unlink(missing_ok=True)
            raise


@contextmanager
def resumable(out: Path) -> Generator[None]:
    """Where a training's folder is written to: a full disk is a WhetstoneError that says what is kept."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        kept = (out / FOLDER / STATE).is_file()
        then = "give the same command with --resume, the checkpoint there is kept" if kept else "train again"
        raise WhetstoneError(f"{out} cannot be written to ({error}): make room on the disk and {then}") from error


def read_checkpoint(out: Path) -> Checkpoint | None:
    """The last complete checkpoint in `out`, None if there is none. Raises WhetstoneError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = _state(out / FOLDER)
    if state is None:
        return None
    try:
        return Checkpoint(state, load_file(out / FOLDER / f"{state['slot']}.{TENSORS}"))
    except (OSError, SafetensorError) as error:
        raise WhetstoneError(
            f"the checkpoint in {out} is damaged ({error}): remove {out / FOLDER} and train again"
        ) from error


def remove_checkpoint(out: Path) -> None:
    """Remove what is no longer needed after a finished training."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _state(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WhetstoneError(f"{folder / STATE} is damaged ({error}): remove {folder} and train again") from error
