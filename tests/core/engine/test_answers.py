"""The learned tokens are the answer's: held against transformers' own mask, over eight manners of template."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pytest

from core.engine.answers import find_answers, find_left_out
from core.engine.chat_template import ChatTemplate, TemplateRefused
from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from tests.core.engine.talks import CALL, CALLS, TOOL, Talk, make_talk
from tests.core.engine.templates import FAMILIES
from tests.soak import Soak

UNCERTAIN = ("it does not show where an answer begins", "it does not show where an answer ends")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokens]:
    root = tmp_path_factory.mktemp("families")
    return {name: load_chat_tokens(family.write(root / name, marks=False)) for name, family in FAMILIES.items()}


class Judge:
    """What transformers says is learned, by the marks in a family's template."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(self, talk: Talk) -> tuple[list[int], list[bool]] | None:
        """Return ids and mask, None where the template refuses."""
        messages = [message | {"content": message["content"] or ""} for message in talk["messages"]]
        try:
            encoded = self._tokenizer.apply_chat_template(
                messages, tools=talk.get("tools"), return_dict=True, return_assistant_tokens_mask=True
            )
        except jinja2.TemplateError:
            return None
        return encoded["input_ids"], [bool(learned) for learned in encoded["assistant_masks"]]


@pytest.mark.soak
def test_tokens_and_learned_tokens_are_those_of_transformers_or_the_row_is_named(
    models: dict[str, ChatTokens], tmp_path: Path
) -> None:
    judges = {name: Judge(family.write(tmp_path / name, marks=True)) for name, family in FAMILIES.items()}
    with Soak("answers", quick=50, long=5000, what="learned tokens against transformers' mask") as soak:
        seen: Counter[str] = Counter()
        for _, chance in soak.rounds():
            for name, tokens in models.items():
                talk = make_talk(chance)
                outcome = _compare(tokens, talk, judges[name].encode(talk))
                seen[outcome] += 1
                soak.add(f"rows {outcome}")
        assert seen["uncertain"] <= seen.total() * 0.01, "rows that transformers takes and that are named instead"
        assert seen["equal"] >= seen.total() * 0.85


def _compare(tokens: ChatTokens, talk: Talk, wanted: tuple[list[int], list[bool]] | None) -> str:
    try:
        [row] = tokens.encode_conversations([talk["messages"]], [talk.get("tools")])
    except TemplateRefused as refusal:
        words = refusal.words
    else:
        assert wanted is not None, talk
        assert row.ids == wanted[0], talk
        assert row.learned == wanted[1], talk
        return "equal"
    assert wanted is None or words in UNCERTAIN, talk
    return "refused" if wanted is None else "uncertain"


def learned_texts(tokens: ChatTokens, messages: list[Any], tools: list[Any] | None = None) -> list[str]:
    text = tokens.template.render(messages, tools)
    return [text[begin:end] for begin, end in find_answers(tokens.template, messages, text, tools)]


def left_out(tokens: ChatTokens, messages: list[Any], tools: list[Any] | None = None) -> set[str]:
    return set(find_left_out(tokens.template, messages, tokens.template.render(messages, tools), tools))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_question_is_not_learned_where_it_says_what_the_answer_says(
    models: dict[str, ChatTokens], name: str
) -> None:
    turn = [{"role": "user", "content": "yes"}, {"role": "assistant", "content": "<think>\nyes\n</think>\n\nyes"}]
    tokens, messages = models[name], [*turn, *turn, *turn]
    text = tokens.template.render(messages)
    rest, learned = "", learned_texts(tokens, messages)
    for answer in learned:
        before, found, text = text.partition(answer)
        assert found
        rest += before
    assert len(learned) == 3
    assert (rest + text).count("yes") == 3, "each question is left, and nothing else that was said"


def test_a_thought_that_only_the_asked_turn_opens_is_not_part_of_the_answer(models: dict[str, ChatTokens]) -> None:
    question = {"role": "user", "content": "a"}
    tokens = models["R1"]
    assert tokens.template.render([question], ask=True).endswith("<|Assistant|><think>\n")
    answer = {"role": "assistant", "content": "<think>\nb\n</think>c"}
    assert learned_texts(tokens, [question, answer, question, answer]) == ["c<|end_of_sentence|>"] * 2
    open_thought = {"role": "assistant", "content": "<think>\nb"}
    assert learned_texts(tokens, [question, open_thought]) == ["<think>\nb<|end_of_sentence|>"], (
        "the answer says it too"
    )


def test_an_earlier_answer_is_learned_as_the_template_writes_it_there(models: dict[str, ChatTokens]) -> None:
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "t"}]
    assert learned_texts(models["Qwen 3"], turn * 2) == ["b<|im_end|>", "<think>\nt\n</think>\n\nb<|im_end|>"]
    said = "<|channel|>final<|message|>b"
    assert learned_texts(models["gpt-oss"], turn * 2) == [
        f"{said}<|end|>",
        f"<|channel|>analysis<|message|>t<|end|><|start|>assistant{said}<|return|>",
    ]
    assert left_out(models["Qwen 3"], turn) == set()
    assert left_out(models["Qwen 3"], turn * 2) == {"thoughts"}


SHOWS_TOOLS = ("Llama 3", "Mistral", "Qwen 3", "gpt-oss")


@pytest.mark.parametrize("name", SHOWS_TOOLS)
def test_a_call_is_learned_where_the_template_shows_it(models: dict[str, ChatTokens], name: str) -> None:
    call, answer = learned_texts(models[name], CALLS, [TOOL])
    assert "look_up" in call
    assert "here" in call
    assert "It is blue." in answer
    assert "Look it up." not in call + answer
    assert left_out(models[name], CALLS, [TOOL]) == set()


def test_tools_that_a_template_does_not_show_are_named(models: dict[str, ChatTokens]) -> None:
    for name in ("SmolLM2", "Phi-4"):
        assert left_out(models[name], CALLS) == {"tools", "answers"}, name
        assert learned_texts(models[name], CALLS)[0] == "<|im_end|>", "an empty answer is learned"
        says = [CALLS[0], CALLS[1] | {"content": "Wait."}, *CALLS[2:]]
        assert left_out(models[name], says) == {"tools"}, name
        unlearned = [CALLS[0], CALLS[1] | {"weight": 0}, *CALLS[2:]]
        assert left_out(models[name], unlearned) == {"tools"}, name
    assert left_out(models["R1"], CALLS) == set()
    assert left_out(models["R1"], CALLS, [TOOL]) == {"tools"}, "what the tools are is not shown"
    two = [CALLS[0], CALLS[1] | {"tool_calls": [CALL, CALL]}, *CALLS[2:]]
    assert left_out(models["gpt-oss"], two) == {"tools"}, "the second call"
    with pytest.raises(TemplateRefused, match="One call"):
        models["Llama 3"].template.render(two)


def test_a_template_that_counts_characters_cannot_show_where_an_answer_stands(models: dict[str, ChatTokens]) -> None:
    source = (
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'user' %}{{ m.content }}"
        "{% else %}{{ '' if loop.last else '(earlier) ' }}{{ m.content | length }}{% endif %}.{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    template = ChatTemplate(jinja2.Environment().from_string(source), {})
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert find_answers(template, turn, "user:a.assistant:1.") == [(17, 19)]
    with pytest.raises(TemplateRefused, match="as it was given"):
        find_answers(template, turn * 2, template.render(turn * 2))
