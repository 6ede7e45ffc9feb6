"""The counts kept for every row are those of the trainer's own function, on random conversations."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from core.dataset.file_check import check_file
from core.dataset.token_counts import LengthCounter, count_lengths
from core.engine.chat_template import BadConversation
from core.engine.chat_tokens import load_chat_tokens
from tests.core.dataset.test_model_view import TEMPLATES
from tests.tiny_model import build_tiny_model

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
    assert not check_file(path).errors
    records, refused = count_lengths(path, LengthCounter(folder))
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
    assert list(refused) == lines


def test_one_message_alone_counts_for_nothing_as_it_is_not_trained_on(tmp_path: Path, tiny: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps({"messages": one}) for one in (talk, talk[1:])), encoding="utf-8")
    check_file(path)
    records, refused = count_lengths(path, LengthCounter(tiny))
    assert records["tokens"][0] > records["trained"][0] > 0
    assert (records["tokens"][1], records["trained"][1], refused) == (0, 0, {})
