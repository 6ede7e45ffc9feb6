"""The forms of rows that are known by name, as one table; docs/data.md holds the same table for people.

A form is read by its mapping, or refused (refused_forms.py). The first that fits is taken.
"""

from __future__ import annotations

from core.dataset.forms.form import (
    ANSWERS,
    BESIDE,
    CHAT,
    CONTEXT,
    HISTORY,
    PAIR,
    QUESTIONS,
    Form,
    is_any,
    is_asked,
    is_calls,
    is_choice,
    is_list,
    is_messages,
    is_prose,
    is_question,
    is_style,
    is_templated,
    is_text,
)
from core.dataset.forms.refused_forms import REFUSED

_REQUESTS, _REPLIES = "messages prompt input inputs request", "completion output outputs response answer reply"
_READ_AS_CHAT = "Each message under its role."


def _pair(
    title: str, user: str, assistant: str, reads: str = "A question and its answer.", *, name: str = "columns"
) -> Form:
    """Return a form of a column to ask and one to answer."""
    columns = f"`{user}`, `{assistant}`"
    mapping = {**BESIDE, "history": HISTORY, "user": user.lower(), "assistant": assistant.lower()}
    return Form(name, title, columns, reads, {user.lower(): is_text, assistant.lower(): is_text}, mapping)


def _asked_below(context: str, title: str) -> Form:
    """Return a form of a question below its context."""
    return Form(
        "columns",
        title,
        f"`{context}`, `question`, `answer`",
        f"The question is `{context}`, a blank line, `question`.",
        {context: is_question, "question": is_text, "answer": is_text},
        {**BESIDE, "history": HISTORY, "context": context, "user": "question", "assistant": "answer"},
    )


_CHATS = (
    Form(
        "list_chat",
        "Prompt and completion as messages",
        "`prompt`, `completion`: lists of messages",
        "The messages of the prompt, then those of the completion.",
        {"prompt": is_messages, "completion": is_messages},
        {**BESIDE, "user": "prompt", "assistant": "completion"},
    ),
    Form(
        "logged",
        "A request and its answer",
        "`messages`, `input` or `request`: messages that end with a question; `output`, `response` or `completion`",
        "The messages of the request, then the answer.",
        {_REQUESTS: is_asked, _REPLIES: is_question},
        {**BESIDE, "user": _REQUESTS, "assistant": _REPLIES},
    ),
    Form(
        "calls",
        "Questions and calls (xLAM)",
        "a question, `answers`: calls of tools, `tools`",
        "A question, and the calls that answer it.",
        {QUESTIONS: is_text, "answers": is_calls},
        {**BESIDE, "user": QUESTIONS, "assistant": "answers"},
    ),
    Form(
        "sharegpt",
        "ShareGPT",
        "lists of `from`, `value`",
        f"{_READ_AS_CHAT} `function_call` is a call of a tool, `observation` its result.",
        {"*": is_style("from/value")},
        CHAT,
    ),
    Form(
        "gemini",
        "Gemini",
        "`contents`: lists of `role`, `parts`; `systemInstruction`",
        f"{_READ_AS_CHAT} Parts that are texts are joined.",
        {"*": is_style("role/parts")},
        CHAT,
    ),
    Form(
        "claude_export",
        "An export of Claude",
        "`chat_messages`: lists of `sender`, `text`",
        _READ_AS_CHAT,
        {"*": is_style("sender/text", "sender/content")},
        CHAT,
    ),
    Form(
        "chat",
        "Messages",
        "lists of `role` (`from`, `sender`, `speaker`) and `content` (`value`, `text`, `message`)",
        f"{_READ_AS_CHAT} A text in `system` is their system message, if they have none.",
        {"*": is_messages},
        CHAT,
    ),
    Form(
        "pairs",
        "Questions and answers in lists",
        "lists of `{human, assistant}` and the like",
        "Each question, then its answer.",
        {"*": is_style("pairs")},
        CHAT,
    ),
    Form(
        "texts",
        "Texts in turn (UltraChat)",
        "`data`: lists of texts",
        "Question and answer in turn.",
        {"data": is_style("texts")},
        {"chat": "data", **BESIDE},
    ),
)

_PAIRS = (
    Form(
        "alpaca",
        "Alpaca",
        "`instruction`, `output`; `input`, `system`, `history`",
        "The question is `instruction`, a blank line, `input`. `history` holds earlier questions and answers.",
        {"instruction": is_text, "output": is_text},
        {**BESIDE, "history": HISTORY, "user": "instruction", "context": CONTEXT, "assistant": "output"},
    ),
    Form(
        "instruction",
        "Instruction and response",
        "`instruction`, `response` (also `completion`, `answer`); `input` or `context`",
        "The question is `instruction`, a blank line, `input` or `context`.",
        {"instruction": is_text, "response completion answer": is_text},
        {
            **BESIDE,
            "history": HISTORY,
            "user": "instruction",
            "context": CONTEXT,
            "assistant": "response completion answer",
        },
    ),
    _asked_below("context", "A question about a text"),
    _asked_below("article", "A question about an article"),
    Form(
        "choices",
        "A question with choices",
        "`question`, `choices`, `solution` or `explanation`",
        "The question is `question`, a blank line, `choices` in lines.",
        {"question": is_text, "choices": is_list, "solution explanation": is_text},
        {**BESIDE, "user": "question", "context": "choices", "assistant": "solution explanation"},
    ),
    Form(
        "quiz",
        "Questions with choices, answered by a number or letter",
        "`question`, `choices` or `options`, `answer` or `answerKey`: a number or letter",
        "The answer only says which choice is right. Write that choice itself in a column of its own.",
        {"question": is_text, "choices options": is_any, "answer answerkey answer_idx": is_choice},
    ),
    _pair("System, question and response (OpenOrca)", "question", "response", "`system_prompt` is the system message."),
    _pair("Prompt and completion", "prompt", "completion", name="prompt"),
    _pair("Prompt and generation (Metharme)", "prompt", "generation"),
    Form(
        "summary",
        "Article and summary",
        "`article`, `document` or `text`; `summary` or `highlights`",
        "The article is asked as it is.",
        {"article document text": is_text, "summary highlights": is_text},
        {**BESIDE, "user": "article document text", "assistant": "summary highlights"},
    ),
    _pair("Two messages (CAMEL)", "message_1", "message_2"),
    _pair("Instruction and revision", "instruction", "revision"),
    Form(
        "columns",
        "Question and answer columns",
        f"a question in {', '.join(f'`{name}`' for name in QUESTIONS.split())}; "
        f"an answer in {', '.join(f'`{name}`' for name in ANSWERS.split())}",
        "A question and its answer; `context` or `input` beside a question stands below it.",
        {QUESTIONS: is_text, ANSWERS: is_text},
        PAIR,
    ),
    Form(
        "transcript",
        "Texts with speakers",
        "texts `Human: … Assistant: …`",
        "Each speaker's words are a message.",
        {"*": is_style("transcript")},
        CHAT,
    ),
)

_LEFT = (
    Form(
        "classes",
        "Texts and their classes",
        "`text`, `label`",
        "The rows have classes, not answers. Say which column is the question and which the answer, if they are words.",
        {"text sentence": is_prose, "label labels": is_any},
    ),
    Form(
        "templated",
        "Texts in a model's template",
        "`text` with marks such as `[INST]` or `<|im_start|>`",
        "What is asked and answered stands between the marks of one model. Write it as `messages`, without them.",
        {"text content plain_text prompt": is_templated},
    ),
    Form(
        "plain_text",
        "Plain text",
        "`text` or `content`",
        "The rows have no questions and answers. Write what the model is to answer as `messages`.",
        {"text content plain_text": is_prose},
    ),
    Form(
        "prompts",
        "Questions without answers",
        "`prompt`, `question` or `instruction` alone",
        "There is nothing to learn. Add the answers in a column of their own.",
        {"prompt question instruction": is_question},
    ),
)

FORMS = (*REFUSED, *_CHATS, *_PAIRS, *_LEFT)
