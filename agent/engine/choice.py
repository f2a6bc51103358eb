"""`--dtype auto`: bf16 on a GPU; on the CPU int8 where the model says the same in int8 as in float32, else float32.

The probe reads a few short sessions as the runtime would show them, and compares what either format would say next at
every token of their actions, greedily. It runs once for a model, adapter and torch version, and its result is
remembered in the cache folder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engine.adapter import Adapter, Lineage
from agent.engine.chat import Chat
from agent.engine.digests import write_whole
from agent.engine.kvcache import common_prefix
from agent.engine.network import Network, Row
from agent.engine.precision import DType
from agent.engine.tokenizer import ModelTokenizer
from agent.types import Message, Prompt
from prompts import system_text
from tools.plugins import load_tools
from tools.schema import describe_tools

if TYPE_CHECKING:
    from torch import Tensor

AGREEMENT = 0.9
"""Share of places where int8 must choose the token float32 chooses."""
REGRET = 0.1
"""Mean loss, in nats of float32's own log-probability, that int8's choices may cost. At 0.073 the starter solved 43 of
121 held-out goals in int8 and 40 in float32."""
SESSIONS: tuple[tuple[str, ...], ...] = (
    (
        "Goal: How many lines of notes.txt mention the river? Write the number to result.txt",
        '{"thought":"I search for it first.","tool":"search_files","args":{"pattern":"river","path":"notes.txt"}}',
        "Result (ok): notes.txt:2: The river rises in the hills.\nnotes.txt:7: Two mills stand by the river.",
        '{"thought":"Two lines mention it.","tool":"write_file","args":{"path":"result.txt","content":"2\\n"}}',
        "Result (ok): wrote 2 bytes to result.txt",
        '{"thought":"The number is written.","tool":"finish","args":{"answer":"2"}}',
    ),
    (
        "Goal: what's the total of the amount column in data/orders_2024.csv",
        '{"thought":"I look at the columns first.","tool":"read_file","args":{"path":"data/orders_2024.csv"}}',
        "Result (ok): id,customer,amount\n1,Meyer,120.50\n2,Okafor,75.25\n3,Silva,310.00",
        '{"thought":"Python adds them up.","tool":"run_python","args":{"code":"import csv\\nrows = csv.DictReader('
        "open('data/orders_2024.csv'))\\nprint(sum(float(row['amount']) for row in rows))\"}}",
        "Result (ok): 505.75",
        '{"thought":"The total is 505.75.","tool":"finish","args":{"answer":"505.75"}}',
    ),
    (
        "Goal: Replace the port in server.ini by 7443.",
        '{"thought":"I read the file first.","tool":"read_file","args":{"path":"server.ini"}}',
        "Result (ok): [server]\nhost = staging.example.org\nport = 8080",
        '{"thought":"The port is 8080.","tool":"edit_file","args":{"path":"server.ini","old":"port = 8080",'
        '"new":"port = 7443"}}',
        "Result (ok): replaced 1 line in server.ini",
        '{"thought":"It is done.","tool":"finish","args":{"answer":"The port is 7443 now."}}',
    ),
)
"""Goal, action, result, action, ..., action."""


def choose_dtype(
    build: Callable[[DType], Network],
    lineage: Lineage,
    adapter: Adapter | None,
    tokenizer: ModelTokenizer,
    cache: Path,
    *,
    on_gpu: bool,
) -> tuple[Network, str]:
    """The network in the number format that suits, and one sentence that says why."""
    import torch

    if on_gpu:
        return build("bf16"), "bf16, because it runs on a GPU"
    system = system_text(tools=describe_tools(load_tools(sandbox=True, memory=True)))
    what = [asdict(lineage), adapter.digest if adapter else None, torch.__version__]
    key = [*what, AGREEMENT, REGRET, system, SESSIONS]
    note = cache / "precision" / sha256(json.dumps(key).encode()).hexdigest()[:32]
    known = _read(note)
    if known is not None:
        int8, why = known
        return build("int8" if int8 else "fp32"), why
    actions = list(_actions(tokenizer, system))
    reference, quantized = build("fp32"), build("int8")
    with torch.inference_mode():
        agreement, regret = compare(_next_tokens(reference, actions), _next_tokens(quantized, actions))
    good = agreement >= AGREEMENT and regret <= REGRET
    why = (
        f"{'int8' if good else 'fp32'}, because int8 chose the same token as fp32 at {agreement:.0%} of"
        f" {sum(len(action) for _, action in actions)} places, at a cost of {regret:.3f} nats"
    )
    with contextlib.suppress(OSError):  # a cache folder that cannot be written to costs time at each start
        write_whole(note, json.dumps({"int8": good, "why": why}))
    return (quantized if good else reference), why


def compare(reference: Tensor, other: Tensor) -> tuple[float, float]:
    """Share of rows where both choose the same token, and the mean log-probability lost by the other's choices."""
    chosen, best = other.argmax(dim=-1), reference.argmax(dim=-1)
    logprobs = reference.log_softmax(dim=-1)
    lost = logprobs.gather(1, best[:, None]) - logprobs.gather(1, chosen[:, None])
    return float((chosen == best).float().mean()), float(lost.mean())


def _actions(tokenizer: ModelTokenizer, system: str) -> Iterator[tuple[list[int], list[int]]]:
    """Each action of the probe: the ids of its prompt, and its own."""
    opening = Message("system", system, "system")
    chat = Chat(tokenizer)
    for session in SESSIONS:
        roles = ("user", "assistant") * len(session)
        turns = [Message(role, text, "history") for role, text in zip(roles, session, strict=False)]
        for place in range(1, len(turns), 2):
            yield chat.encode(Prompt((opening, *turns[:place]))), tokenizer.encode(turns[place].content)


def _next_tokens(network: Network, actions: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Logits for each token of each action, [tokens, vocabulary]."""
    import torch

    found: list[Tensor] = []
    cache = network.new_cache()
    for prompt, action in actions:
        ids = [*prompt, *action][-network.context_tokens :][:-1]
        wanted = min(len(action), len(ids))
        cache.crop(min(common_prefix(cache.ids, ids), len(ids) - wanted))
        new = ids[len(cache.ids) :]
        found.append(network.forward([Row(cache, new, wanted=wanted)]))
        cache.ids += new
    return torch.cat(found)


def _read(note: Path) -> tuple[bool, str] | None:
    """Whether int8 is good enough, and why; None where nothing was noted that can be read."""
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        return bool(said["int8"]), str(said["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
