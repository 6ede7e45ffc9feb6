"""What the data page shows as learned is what the trainer learns: both are run on the same rows and compared."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.dataset.checks.line_check import check_line
from core.dataset.model.model_view import view_as_model
from core.dataset.model.token_counts import count_lines
from core.engine.chat_template import TemplateRefused
from core.engine.chat_tokens import load_chat_tokens
from core.engine.conversations import read_chat_file
from core.errors import BadInput
from tests.chat_data import CASES
from tests.core.engine.talks import CALLS
from tests.core.engine.talks import make_talk as make_talk_with_tools
from tests.core.engine.templates import FAMILIES
from tests.tiny_model import TEMPLATE, build_tiny_model, write_jsonl

SEED = 20_261_123
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
TRIMS = (
    "{{ bos_token }}{% for m in messages %}{%- if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] | trim + eos_token }}{% endgeneration %}{% else %}"
    "{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}"
)
HIDES_EARLIER = (  # as templates of reasoning models do: an earlier answer is written otherwise than the last
    "{% for m in messages %}{{ m['role'] + ': ' }}{% if m['role'] == 'assistant' and not loop.last %}"
    "{{ '(earlier) ' }}{% endif %}{{ m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TEMPLATES = {"chatml": TEMPLATE, "phi": PHI, "trims": TRIMS, "hides earlier": HIDES_EARLIER}
NAMES = ("tool_calls", "tool_calls_null_content", "tool_calls_empty_content", "tool_result_empty", "reasoning_content")
FILES = [CASES / f"{name}.jsonl" for name in (*NAMES, "weight_zero")]
PIECES = [
    "hello",
    " ",
    "\n",
    "ü",
    "🎣",
    "assistant",
    "<|im_end|>",
    "\u202e",
    "日本",
    "<b>",
    "\x1b[31m",
    "kettle",
    "e\u0301",
]


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models"))


def make_talk(chance: random.Random) -> list[dict[str, str]]:
    def say() -> str:
        return "x" + "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 12)))

    talk = [{"role": "system", "content": say()}] if chance.random() < 0.3 else []
    for _ in range(chance.randint(1, 4)):
        talk += [{"role": "user", "content": say()}, {"role": "assistant", "content": say()}]
    return talk + ([{"role": "user", "content": say()}] if chance.random() < 0.2 else [])


@pytest.mark.parametrize("name", TEMPLATES)
def test_learned_tokens_are_the_trainers_own(folder: Path, name: str) -> None:
    print(f"seed {SEED}")
    (folder / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    trainer, chance = load_chat_tokens(folder), random.Random(SEED)
    for _ in range(60):
        talk = make_talk(chance)
        line = json.dumps({"messages": talk}).encode()
        wanted, found = trainer.encode_conversations([talk])[0], view_as_model(talk, folder)
        assert [token.id for token in found.tokens] == wanted.ids, talk
        assert count_lines(folder, [line])[0][0] == len(wanted.ids), "what the page counts for each row"
        assert [token.learned for token in found.tokens] == wanted.learned, talk
        assert "".join(token.text for token in found.tokens) == found.text == trainer.template.render(talk)
        assert found.learned == sum(wanted.learned) > 0
        limit = chance.randint(1, len(wanted.ids) + 3)
        short = view_as_model(talk, folder, limit)
        assert short.learned == sum(wanted.learned[:limit])
        assert short.cut == max(0, len(wanted.ids) - limit)


@pytest.mark.parametrize("name", FAMILIES)
def test_tools_calls_thoughts_and_weights_are_shown_as_they_are_trained(tmp_path: Path, name: str) -> None:
    """The file is read as the trainer reads it, the row as the page does; what one refuses the other does too."""
    folder, chance = FAMILIES[name].write(tmp_path / "model", marks=False), random.Random(SEED)
    talks = [make_whole_talk(chance) for _ in range(120)]
    talks += [json.loads(line) for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    talks = [talk for talk in talks if check_line(1, json.dumps(talk).encode())[1] == [] and len(talk["messages"]) > 1]
    read = read_chat_file(write_jsonl(tmp_path / "train.jsonl", talks))
    trainer, equal = load_chat_tokens(folder), 0
    assert len(read) == len(talks) > 30
    for talk, (_, messages, tools) in zip(talks, read.read(), strict=True):
        try:
            [wanted] = trainer.encode_conversations([messages], [tools])
        except TemplateRefused:
            with pytest.raises(BadInput, match="refuses this row"):
                view_as_model(talk["messages"], folder, tools=talk.get("tools"))
            continue
        found = view_as_model(talk["messages"], folder, tools=talk.get("tools"))
        assert [token.id for token in found.tokens] == wanted.ids, talk
        assert [token.learned for token in found.tokens] == wanted.learned, talk
        equal += 1
    assert equal > 10


def make_whole_talk(chance: random.Random) -> dict[str, Any]:
    """Return a row with tools, calls, results and thoughts, some of whose answers have a weight."""
    talk = make_talk_with_tools(chance)
    for message in talk["messages"]:
        if message["role"] == "assistant" and chance.random() < 0.2:
            message["weight"] = chance.choice((0, 1))
    return talk


def test_a_template_kept_by_name_in_the_configuration_is_found(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["chat_template"] = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": PHI}]
    path.write_text(json.dumps(config), encoding="utf-8")
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert (
        view_as_model(talk, folder).text
        == load_chat_tokens(folder).template.render(talk)
        == ("<|user|>\na<|end|>\n<|assistant|>\nb<|end|>\n<|im_end|>")
    )


def test_a_refusal_is_a_sentence_with_the_templates_words_as_detail(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        view_as_model([{"role": "user", "content": "a"}], folder)
    assert caught.value.message == "The model's chat template refuses this row: roles must alternate."
    assert caught.value.hint == "Change what it names in this row, or choose another model."
    with pytest.raises(BadInput) as caught:
        view_as_model(CALLS, folder)
    assert caught.value.hint == "Write the tools into the texts, or choose a model whose template takes them."
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match="The model's tokenizer is not on this machine"):
        view_as_model([{"role": "user", "content": "a"}], folder)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.upper() }}{{ ''.__class__.__mro__ }}",
        "{{ messages.copy() }}{{ messages.append(1) }}",
        "{% for one in messages %}{{ one.keys() }}{{ one.clear() }}{% endfor %}",
        "{{ raise_exception.__globals__.keys() }}",
        "{% set one = namespace(clear=1) %}{{ one.clear }}{{ messages[0].clear() }}",
    ],
)
def test_a_template_that_reaches_for_the_machine_gets_nothing(folder: Path, source: str) -> None:
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    with pytest.raises(BadInput, match="refuses"):
        view_as_model([{"role": "user", "content": "a"}], folder)
