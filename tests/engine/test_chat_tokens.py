from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.local.engine.chat_tokens import (
    BadConversation,
    ChatTokens,
    Conversation,
    Threads,
    check_messages,
    choose_number_format,
    load_chat_tokens,
)

TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is the kettle?"},
    {"role": "assistant", "content": " It is blue.\n"},
    {"role": "user", "content": "assistant"},
    {"role": "assistant", "content": "ü 🎣"},
]


def learned_text(tokens: ChatTokens, row: Conversation) -> list[str]:
    """Return the learned stretches as text, special tokens included."""
    stretches: list[list[int]] = [[]]
    for token, learned in zip(row.ids, row.learned, strict=True):
        if learned:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [tokens.tokenizer.decode(ids, skip_special_tokens=False) for ids in stretches if ids]


def test_only_what_the_assistant_says_and_the_end_of_it_is_learned(tiny_model: Path) -> None:
    tokens = load_chat_tokens(tiny_model)
    row = tokens.encode_conversations([TALK])[0]
    assert learned_text(tokens, row) == [" It is blue.\n<|im_end|>", "ü 🎣<|im_end|>"]


def test_ids_are_those_of_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_model)
    tokens = load_chat_tokens(tiny_model)
    assert tokens.encode_conversations([TALK])[0].ids == theirs.apply_chat_template(TALK, return_dict=False)
    asked = theirs.apply_chat_template(TALK[:2], add_generation_prompt=True, return_dict=False)
    assert tokens.encode_prompt(TALK[:2]) == asked


def test_a_trained_row_begins_with_the_very_prompt_that_serving_sends(tiny_model: Path) -> None:
    tokens = load_chat_tokens(tiny_model)
    row = tokens.encode_conversations([TALK[:3]])[0]
    prompt = tokens.encode_prompt(TALK[:2])
    assert row.ids[: len(prompt)] == prompt
    assert row.learned.index(True) == len(prompt)


def other_template(tiny_model: Path, folder: Path, template: str) -> ChatTokens:
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return load_chat_tokens(folder)


def test_a_template_that_drops_thoughts_from_earlier_turns_still_finds_the_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}"
        "{% if loop.last and m.role == 'assistant' %} now{% endif %}\n{{ m.content.strip() }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokens = other_template(tiny_model, tmp_path / "model", template)
    row = tokens.encode_conversations([TALK])[0]
    assert learned_text(tokens, row) == ["It is blue.<|im_end|>", "ü 🎣<|im_end|>"]


def test_generation_marks_of_a_template_are_understood(tiny_model: Path, tmp_path: Path) -> None:
    template = (
        "{%- for m in messages -%}<|im_start|>{{ m.role }}\n"
        "{%- if m.role == 'assistant' -%}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
        "{%- else -%}{{ m.content }}<|im_end|>{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
    )
    tokens = other_template(tiny_model, tmp_path / "model", template)
    assert learned_text(tokens, tokens.encode_conversations([TALK[1:3]])[0]) == [" It is blue.\n<|im_end|>"]


def test_what_the_template_refuses_is_a_sentence(tiny_model: Path, tmp_path: Path) -> None:
    tokens = other_template(tiny_model, tmp_path / "model", "{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(BadConversation, match="chat template refuses the conversation: Roles must alternate"):
        tokens.render(TALK)


def test_a_model_without_a_chat_template_is_no_chat_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(BadConversation, match="has no chat template"):
        load_chat_tokens(tmp_path / "model")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hello", "must be a list"),
        ([], "must be a list"),
        (["hello"], "Message 1 must be an object"),
        ([{"role": "user"}], "Message 1 needs 'content' as text"),
        ([{"role": "user", "content": 3}], "Message 1 needs 'content' as text"),
        ([{"role": "robot", "content": "x"}], "role 'robot'"),
    ],
)
def test_messages_that_are_not_chat_are_named(messages: object, words: str) -> None:
    assert words in (check_messages(messages) or "")


def test_the_number_format_is_measured_and_explained() -> None:
    name, why = choose_number_format()
    assert name in ("bfloat16", "float32")
    assert "GPU" in why or "times as fast" in why


class Machine:
    """A clock that each matrix product moves on, by how fast so many threads are said to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> None:
        self.now, self.speeds, self.threads = 0.0, speeds, 0
        monkeypatch.setattr("core.local.engine.chat_tokens.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("torch.set_num_threads", self.use)
        monkeypatch.setattr("torch.nn.functional.linear", self.multiply)

    def use(self, threads: int) -> None:
        self.threads = threads

    def multiply(self, left: object, right: object) -> None:
        self.now += 1 / self.speeds[self.threads]


def test_fewer_threads_are_used_while_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {2: 1700, 1: 1000})
    threads = Threads(2)
    assert machine.threads == 2
    machine.speeds = {2: 60, 1: 700}
    threads.adapt()
    assert machine.threads == 2, "it is not tried again at once"
    machine.now += Threads.TRY_EVERY_S + 1
    threads.adapt()
    assert machine.threads == 1
    machine.speeds = {2: 1700, 1: 1000}
    machine.now += Threads.TRY_EVERY_S + 1
    threads.adapt()
    assert machine.threads == 2


def test_a_fixed_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {4: 1, 2: 100})
    Threads(4, fixed=True)
    assert machine.threads == 4
    assert machine.now == 0
