"""Step 1: check the parameters, the model folder and every conversation before anything expensive starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from core.engine.answers import find_answers, find_left_out
from core.engine.chat_template import BadConversation, BadTemplate
from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from core.engine.component import check_inputs
from core.engine.conversations import ChatFile, Problems, check_enough, read_chat_file
from core.engine.step import Step, run, write_json
from core.errors import BadInput

_LEFT_OUT = {
    "tools": "the model's chat template leaves out tools",
    "thoughts": "the model's chat template leaves out thoughts",
    "answers": "a call is learned as an empty answer, for the template does not show it,",
}


def validate(step: Step) -> None:
    """Write outputs/validation_info.json, or stop with what is wrong."""
    if problems := check_inputs(step.parameters):
        more = f"{len(problems) - 1} more: see the log." if len(problems) > 1 else ""
        raise BadInput(problems[0], more, "\n".join(problems))
    model_dir = step.path("model_dir")
    tokens = load_tokens(model_dir)
    files = {"train": step.find_path("train_file")}
    if files["train"] is None:
        raise BadInput("The job has no training data.", "Give train_file_path.")
    files |= {split: step.find_path(f"{split}_file") for split in ("validation", "test")}
    report = {}
    for split, path in files.items():
        if path is None:
            continue
        chat_file = read_chat_file(path)
        if split == "train":
            check_enough(chat_file)
        left_out = check_template(tokens, chat_file)
        report[split] = chat_file.facts() | {"left_out": left_out}
        step.say(f"{split}: {chat_file.words()}")
        for part, rows in left_out.items():
            step.say(f"{split}: {_LEFT_OUT[part]} in {rows} of these.")
    write_json(step.outputs / "validation_info.json", {"model": model_dir.name, "data": report})


def check_template(tokens: ChatTokens, chat_file: ChatFile) -> dict[str, int]:
    """Return in how many rows the model's chat template leaves out what; raises BadInput where it refuses one."""
    problems, left_out, template = Problems(), Counter[str](), tokens.template
    for line, messages, tools in chat_file.read():
        try:
            text = template.render(messages, tools)
            find_answers(template, messages, text, tools)
            left_out.update(find_left_out(template, messages, text, tools))
        except BadTemplate as error:
            raise BadInput(str(error), "Pick another model, or mend the chat template in its folder.") from error
        except BadConversation as error:
            problems.add(f"Line {line} of {chat_file.path.name}: {error}")
    problems.check("more: see the log.")
    return dict(left_out)


def load_tokens(model_dir: Path) -> ChatTokens:
    """Read the tokenizer and the chat template of a model's folder; raises BadInput."""
    try:
        return load_chat_tokens(model_dir)
    except BadConversation as error:
        raise BadInput(str(error), "Pick a chat model.") from error


if __name__ == "__main__":
    run(validate)
