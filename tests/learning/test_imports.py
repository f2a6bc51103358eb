"""Chats that others made become the same examples as the sessions they describe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.engine.models import LoadedModel
from agent.export import export_sessions
from agent.journal import Session
from agent.learning.dataset import build_dataset, read_examples
from agent.learning.imports import read_chats
from agent.learning.sequences import SessionEncoder
from agent.types import WhetstoneError
from tests.learning.test_dataset import session_of
from tests.sessions import act, finish


@pytest.fixture
def encoder(base: LoadedModel) -> SessionEncoder:
    return SessionEncoder(base.tokenizer, base.lineage, logits=base.model.vocabulary)


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
def test_what_was_exported_comes_back_as_the_same_tokens(tmp_path: Path, encoder: SessionEncoder, format: str) -> None:
    session = session_of(
        tmp_path, act("read_file", path="none.txt"), act("read_file", path="a.txt"), finish("two\nlines"),
        files={"a.txt": "one\ntwo\n"},
    )  # fmt: skip
    with open(tmp_path / "chats.jsonl", "w") as file:
        export_sessions([session], format, file)  # type: ignore[arg-type]
    (imported,) = read_chats(tmp_path / "chats.jsonl")
    (own,), (other,) = encoder.examples(session), encoder.examples(imported)
    assert other.shared == own.shared
    if format == "messages":
        assert (other.ids, other.loss) == (own.ids, own.loss)
        return
    finish_at = own.loss.index(True, len(own.ids) - 60)  # a ShareGPT chat ends with the answer and has no last thought
    assert other.ids[:finish_at] == own.ids[:finish_at]
    assert other.loss[:finish_at] == own.loss[:finish_at]


def test_a_foreign_chat_is_shown_with_this_runtimes_system_turn(
    tmp_path: Path, base: LoadedModel, encoder: SessionEncoder
):
    chat = {
        "messages": [
            {"role": "system", "content": "You are HelperBot."},
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": "I look it up.", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
            {"role": "assistant", "content": "It rains."},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "description": "Ask for the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}],
        "check": {"passed": True, "detail": ""},
    }  # fmt: skip
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps(chat) + "\n" + json.dumps({**chat, "check": None}) + "\n")
    manifest = build_dataset(read_chats(file), tmp_path / "set", encoder)
    assert manifest["counts"]["used"] == 1
    assert manifest["left_out"] == {"not verified": 1}
    (example,) = read_examples(tmp_path / "set")
    text = base.tokenizer.decode(example.ids)
    assert "HelperBot" not in text
    assert "weather(city): Ask for the weather." in text
    assert '{"thought":"I look it up.","tool":"weather","args":{"city":"Oslo"}}<|im_end|>' in text
    assert '"tool":"finish","args":{"answer":"It rains."}}<|im_end|>' in text


def test_files_of_one_name_give_sessions_of_their_own(tmp_path: Path, encoder: SessionEncoder) -> None:
    chats: list[Session] = []
    for word in ("one", "two"):
        chat = {"messages": [{"role": "user", "content": f"Say {word}."}, {"role": "assistant", "content": word}]}
        (tmp_path / word).mkdir()
        (tmp_path / word / "chats.jsonl").write_text(json.dumps({**chat, "check": {"passed": True}}) + "\n")
        chats += read_chats(tmp_path / word / "chats.jsonl")
    manifest = build_dataset([*chats, *read_chats(tmp_path / "one" / "chats.jsonl")], tmp_path / "set", encoder)
    assert [used["digest"] for used in manifest["sessions"]] == [chat.head for chat in chats]
    assert len({used["session"] for used in manifest["sessions"]}) == 2


def test_a_file_that_holds_no_chats_is_refused_with_the_number(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n{"rows": 1}\n')
    with pytest.raises(WhetstoneError, match=r"chat 2 in .* is not understood"):
        read_chats(file)


CALL = {"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}}


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"role": "assistant", "content": "both", "tool_calls": [CALL, CALL]}], "it calls 2 tools in one turn"),
        (
            [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "A"},
             {"role": "user", "content": "And now delete a."}],
            "it has a further turn of the user",
        ),
        ([{"role": "assistant", "content": "Done."}, {"role": "user", "content": "And b?"}], "a further turn of the"),
        ([{"role": "user", "content": "And b."}, {"role": "assistant", "content": "Done."}], "a further turn of the"),
    ],
)  # fmt: skip
def test_a_chat_that_no_session_could_be_is_refused(tmp_path: Path, turns: list[object], reason: str) -> None:
    file = tmp_path / "chats.jsonl"
    fine = {"messages": [{"role": "user", "content": "Say a."}, {"role": "assistant", "content": "a"}]}
    file.write_text(json.dumps(fine) + "\n" + json.dumps({"messages": [fine["messages"][0], *turns]}) + "\n")
    with pytest.raises(
        WhetstoneError, match=f"chat 2 in .* cannot be a session, .*{reason}.*: take it out of the file"
    ):
        read_chats(file)
