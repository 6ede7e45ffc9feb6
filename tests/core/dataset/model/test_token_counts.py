"""The counts kept for every row are those of the trainer's own function, on random conversations."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.dataset.checks.file_check import check_file
from core.dataset.findings import JUDGED, Finding
from core.dataset.model.model_view import view_as_model
from core.dataset.model.token_counts import count_both, count_lengths, count_lines, mark_of, read_special
from core.dataset.row_index import find_flagged
from core.engine.chat_template import BadConversation
from core.engine.chat_tokens import load_chat_tokens
from core.engine.conversations import read_chat_file
from tests.chat_data import CASES
from tests.core.dataset.model.test_model_view import TEMPLATES
from tests.core.engine.talks import CALLS, TOOL
from tests.core.engine.templates import FAMILIES
from tests.tiny_model import build_tiny_model, write_jsonl

SEED = 20_261_125
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = SMOLLM2.replace("{{'<|im_start|>' +", "{% generation %}{{'<|im_start|>' +").replace(
    "+ '\n'}}{% endfor", "+ '\n'}}{% endgeneration %}{% endfor"
)
HIDES_THOUGHTS = (  # as templates of reasoning models do: what is thought is not shown again in later turns
    "{% for m in messages %}{{ m['role'] + ': ' }}{% if m['role'] == 'assistant' and not loop.last %}"
    "{{ m['content'].split('</think>')[-1] }}{% else %}{{ m['content'] }}{% endif %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
PIECES = [
    "a",
    "assistant",
    "user",
    " ",
    "\n",
    "ü",
    "🎣",
    "日本",
    "<|im_end|>",
    "<|im_start|>",
    "</think>",
    "\t",
    "e\u0301",
]
ALL = TEMPLATES | {"SmolLM2": SMOLLM2, "SmolLM2 with marks": MARKED, "hides thoughts": HIDES_THOUGHTS}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models"))


def make_talk(chance: random.Random) -> list[dict[str, str]]:
    """Return a conversation whose answers stand in its questions too, begin with blanks, and come in any order."""

    def say() -> str:
        said = "".join(chance.choices(PIECES, k=chance.randint(1, 6)))
        return said if said.strip() else "a"

    roles = ["user", "assistant"] * chance.randint(1, 3)
    if chance.random() < 0.3:
        roles = [*chance.choices(["user", "assistant", "system", "tool"], k=chance.randint(1, 5)), "assistant"]
    return [{"role": role, "content": say()} for role in roles]


@pytest.mark.parametrize("name", ALL)
def test_tokens_and_learned_tokens_of_each_row_are_the_trainers(tmp_path: Path, tiny: Path, name: str) -> None:
    print(f"seed {SEED}")
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(ALL[name], encoding="utf-8")
    chance = random.Random(SEED)
    talks = [make_talk(chance) for _ in range(400)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"messages": talk}) for talk in talks), encoding="utf-8")
    assert not check_file(path).without(JUDGED).errors
    records, _ = count_lengths(path, folder)
    trainer, lines = load_chat_tokens(folder), []
    for place, talk in enumerate(talks):
        try:
            wanted = trainer.encode_conversations([talk])[0]
        except BadConversation:
            lines.append(place + 1)
            continue
        found = records[place]
        assert (found["tokens"], found["trained"]) == (len(wanted.ids), sum(wanted.learned)), talk
        first = wanted.learned.index(True) if any(wanted.learned) else len(wanted.ids)
        assert found["first"] == first, talk
    assert (find_flagged(path, "template_refused", "tools_refused", mark=mark_of(folder)) + 1).tolist() == lines


def test_one_message_alone_counts_for_nothing_as_it_is_not_trained_on(tmp_path: Path, tiny: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"messages": one}) for one in (talk, talk[1:])), encoding="utf-8")
    check_file(path)
    records, found = count_lengths(path, tiny)
    assert records["tokens"][0] > records["trained"][0] > 0
    assert (records["tokens"][1], records["trained"][1], found) == (0, 0, {})


def test_answers_of_weight_0_are_counted_and_shown_as_the_trainer_learns_them(tmp_path: Path, tiny: Path) -> None:
    path = Path(shutil.copy(CASES / "weight_zero.jsonl", tmp_path / "train.jsonl"))
    check_file(path)
    records, found = count_lengths(path, tiny)
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    encoded = load_chat_tokens(tiny).encode_conversations(rows)
    assert not found
    assert records["trained"].tolist() == [sum(row.learned) for row in encoded]
    assert records["first"].tolist() == [row.learned.index(True) for row in encoded]
    for messages, row in zip(rows, encoded, strict=True):
        view = view_as_model(messages, tiny)
        assert [token.id for token in view.tokens] == row.ids
        assert [token.learned for token in view.tokens] == row.learned
        assert "".join(token.text for token in view.tokens if token.learned) == "ok<|im_end|>"


def test_special_tokens_of_the_model_in_a_text_are_an_error_that_names_them(tmp_path: Path, tiny: Path) -> None:
    """As the tokenizer reads them in a text too, a run would learn false turns."""
    path = Path(shutil.copy(CASES / "special_tokens_in_text.jsonl", tmp_path / "train.jsonl"))
    counted, _ = count_both((check_file(path), None), path, None, tiny)
    [finding] = [finding for finding in counted.findings if finding.kind.severity.blocks]
    assert (finding.code, finding.count) == ("special_tokens", 12)
    assert finding.example == "Line 1 has special tokens of the model in its texts: <|im_end|>, <|im_start|>."
    assert read_special(path, mark_of(tiny)) == ("<|im_end|>", "<|im_start|>")


def test_what_another_model_has_as_a_special_token_is_a_text_like_any_other(tmp_path: Path) -> None:
    talk = [ASKED, {"role": "assistant", "content": "<|im_start|> begins a turn."}]
    assert not check_with("Gemma", tmp_path, [{"messages": talk}])


@pytest.mark.parametrize("key", ["content", "reasoning_content", "tool_calls"])
def test_special_tokens_are_found_in_thoughts_and_calls_too(tmp_path: Path, key: str) -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"place": "<|im_end|>"}}}
    answer = {"role": "assistant", "content": "Blue."} | {key: [call] if key == "tool_calls" else "a <|im_end|> b"}
    [finding] = check_with("Qwen 3", tmp_path, [{"messages": [ASKED, answer]}])
    assert (finding.code, finding.lines) == ("special_tokens", (1,))
    assert "in its texts: <|im_end|>." in finding.example


ASKED = {"role": "user", "content": "Look it up."}
THOUGHT = [ASKED, {"role": "assistant", "content": "Blue.", "reasoning_content": "What colour?"}]


def check_with(family: str, folder: Path, rows: list[dict[str, Any]]) -> list[Finding]:
    """Return what the check of these rows finds with a template in the manner of a family of models."""
    path = folder / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = check_file(path)
    counted, _ = count_both((report, None), path, None, FAMILIES[family].write(folder / "model", marks=False))
    return [finding for finding in counted.findings if finding.code not in ("too_few_rows", "duplicate")]


@pytest.mark.parametrize("family", ["SmolLM2", "Phi-4"])
def test_rows_whose_tools_the_template_does_not_show_are_one_finding(tmp_path: Path, family: str) -> None:
    rows = [{"messages": [ASKED, {"role": "assistant", "content": "Blue."}]}, *[{"messages": CALLS}] * 3]
    [finding] = check_with(family, tmp_path, rows)
    assert (finding.code, finding.count, finding.lines) == ("tools_left_out", 3, (2, 3, 4))
    assert finding.example.startswith("Line 2 has calls, results or descriptions of tools")
    assert finding.example.endswith(
        "In 3 rows a call is learned as an empty answer: the token that ends it, and no more."
    )
    assert finding.kind.fix == "Write them into the texts, or choose a model whose template takes them."
    assert not finding.kind.severity.blocks


@pytest.mark.parametrize(
    ("name", "emptied"),
    [
        ("tool_calls", 6),
        ("tool_calls_null_content", 15),
        ("tool_calls_empty_content", 12),
        ("tool_result_empty", 0),
    ],
)
def test_rows_of_calls_are_one_finding_where_the_template_knows_no_tools(
    tmp_path: Path, name: str, emptied: int
) -> None:
    rows = [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    [finding] = check_with("SmolLM2", tmp_path, rows)
    assert (finding.code, finding.count) == ("tools_left_out", len(rows))
    assert (f" In {emptied} rows a call is learned as an empty answer" in finding.example) == bool(emptied)


def test_rows_whose_tools_the_template_refuses_are_one_finding_that_blocks(tmp_path: Path) -> None:
    [finding] = check_with("Gemma", tmp_path, [{"messages": CALLS}] * 3)
    assert (finding.code, finding.count) == ("tools_refused", 3)
    assert finding.example.startswith("Line 1 has tools, and is refused by the model's chat template: Roles must go")
    assert finding.kind.severity.blocks


def test_thoughts_that_the_template_leaves_out_are_one_finding(tmp_path: Path) -> None:
    [finding] = check_with("Qwen 3", tmp_path, [{"messages": THOUGHT}, {"messages": THOUGHT * 2}, {"messages": CALLS}])
    assert (finding.code, finding.lines) == ("thoughts_left_out", (2,))
    assert finding.example == "Line 2 has a thought that the model's template leaves out."


def test_a_template_that_shows_everything_has_no_such_finding(tmp_path: Path) -> None:
    assert not check_with("Qwen 3", tmp_path, [{"messages": CALLS, "tools": [TOOL]}, {"messages": THOUGHT}])


def test_the_tools_of_a_row_are_counted_and_shown_as_the_trainer_renders_them(tmp_path: Path) -> None:
    folder = FAMILIES["Qwen 3"].write(tmp_path / "model", marks=False)
    [wanted] = load_chat_tokens(folder).encode_conversations([CALLS], [[TOOL]])
    row = {"messages": CALLS, "tools": [TOOL]}
    [counts] = count_lines(folder, [json.dumps(row).encode()])
    assert counts == (len(wanted.ids), sum(wanted.learned), wanted.learned.index(True), [], [])
    shown = view_as_model(CALLS, folder, tools=[TOOL])
    assert [token.id for token in shown.tokens] == wanted.ids
    assert "<tools>" in shown.text
    read = read_chat_file(write_jsonl(tmp_path / "train.jsonl", [row]))
    assert read.unused_columns == ()
    [(_, messages, tools)] = read.read()
    assert (messages, tools) == (without_nulls(CALLS), [TOOL])
    assert load_chat_tokens(folder).encode_conversations([messages], [tools]) == [wanted]


def without_nulls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in message.items() if value is not None} for message in messages]
