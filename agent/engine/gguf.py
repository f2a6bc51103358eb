"""A GGUF file as a model folder: de-quantized once, kept as safetensors in the cache folder.

The folder appears by rename when it is complete, so a conversion that was interrupted leaves nothing that loads, and
two that run at once do no harm. `whetstone.json` in it says what it was made from and how large its weights are; a
folder that does not match its own note is made again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.engine.digests import content_digest
from agent.types import WhetstoneError

if TYPE_CHECKING:
    from gguf import GGUFReader

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""

FORMAT = 1
"""Part of the folder's name; raise it when the same GGUF must be converted anew."""
FULL_PRECISION_PARAMETERS = 1_000_000_000
"""Up to here weights are kept in float32, which holds every quantized value exactly; above, in bfloat16."""
NOTE = "whetstone.json"


def converted(file: Path, cache: Path, progress: Progress | None = None) -> tuple[Path, str]:
    """The folder that `file` was converted to (now, if need be), and the sha256 of `file`.

    Raises WhetstoneError for a file that is no GGUF, that is of an unknown architecture, or that is broken, and where
    the cache folder cannot be written to.
    """
    digest = content_digest(file, cache)
    folder = cache / "models" / f"{digest[:32]}-{FORMAT}"
    if _complete(folder):
        return folder, digest
    try:
        _check_room(file, cache)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise WhetstoneError(
            f"{file.name} must be converted once, and the cache folder {cache} cannot be written to ({error.strerror}):"
            " name another with -c paths.cache=FOLDER"
        ) from error
    try:
        with _shown(progress) as show:
            _convert(file, temporary, digest, show)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder, digest


def _complete(folder: Path) -> bool:
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in note["files"].items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def _put_in_place(temporary: Path, folder: Path) -> None:
    if folder.exists() and not _complete(folder):
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if not _complete(folder):  # else: another process was faster
            raise


def _check_room(file: Path, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    needed = file.stat().st_size * 8  # 4-bit weights become 32-bit ones
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise WhetstoneError(
            f"converting {file.name} needs about {needed / 1e9:.1f} GB in {cache} and {free / 1e9:.1f} GB are free:"
            " make room, or move paths.cache"
        )


def _convert(file: Path, folder: Path, digest: str, progress: Progress) -> None:
    import torch
    from gguf import GGUFReader

    progress("reading", 0, 1)
    try:
        reader = GGUFReader(file)
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
        dtype = torch.float32 if parameters <= FULL_PRECISION_PARAMETERS else torch.bfloat16
        with _hurried_transformers(reader, progress):
            _convert_weights(file, folder, dtype)
            _convert_tokenizer(file, folder, reader)
    except WhetstoneError:
        raise
    except (ValueError, KeyError, OSError, RuntimeError, NotImplementedError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WhetstoneError(
            f"{file} cannot be converted ({reason}): fetch the file again, or give the model as a safetensors folder"
        ) from error
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    note = {"source": file.name, "base_digest": digest, "dtype": str(dtype).removeprefix("torch."), "files": sizes}
    (folder / NOTE).write_text(json.dumps(note, indent=2), encoding="utf-8")


def _convert_weights(file: Path, folder: Path, dtype: Any) -> None:
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    config = model.config
    vars(config).pop("quantization_config", None)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set[str]()
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _convert_tokenizer(file: Path, folder: Path, reader: GGUFReader) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    backend = tokenizer.backend_tokenizer
    field = reader.fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() in ("smollm", "starcoder", "refact", "command-r"):
        # transformers leaves out that these split digits first; llama.cpp's list of `pre` names has it.
        from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

        digits = Digits(individual_digits=True)
        backend.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False, use_regex=True)])
    backend.save(str(folder / "tokenizer.json"))
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    (folder / "tokenizer_config.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    if tokenizer.chat_template:
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")


@contextlib.contextmanager
def _hurried_transformers(reader: GGUFReader, progress: Progress) -> Generator[None]:
    """Have transformers report its slow loop to `progress`, print nothing, and parse the file once.

    It opens the file four times, parsing a hundred thousand strings each time, and builds its table of tensor names
    once for every module of the model: two thirds of a conversion.
    """
    from transformers.utils import logging

    gguf: Any = importlib.import_module("gguf")
    conversion: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        listed = list(tensors)
        for done, tensor in enumerate(listed, start=1):
            yield tensor
            progress("de-quantizing", done, len(listed))

    def opened(_: object) -> GGUFReader:
        return reader

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    originals = conversion.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    conversion.tqdm, gguf.GGUFReader = counted, opened
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        conversion.tqdm, gguf.GGUFReader, gguf.get_tensor_name_map = originals
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _shown(progress: Progress | None) -> Generator[Progress]:
    """`progress` itself, or a bar on stderr where that is a terminal."""
    if progress is not None:
        yield progress
    elif not sys.stderr.isatty():
        yield lambda what, done, total: None
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("preparing the model, once", total=None)
            yield lambda what, done, total: bar.update(
                task, description=f"preparing the model, once: {what}", completed=done, total=total
            )
