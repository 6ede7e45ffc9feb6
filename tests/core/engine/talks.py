"""Makes conversations as they come: tools, thoughts, odd white space, many scripts, answers that repeat a question."""

from __future__ import annotations

import random
from typing import Any

Talk = dict[str, Any]  # "messages", and "tools" where it has some

WORDS = (
    *("Where is the boat?", "It lies in the harbour.", "assistant", "user\n", "a", "0", "yes, 42", "<b>bold</b>"),
    *(
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "สวัสดีครับ",
        "日本語のテスト",
        "한국어",
        "e\u0301",
        "ü",
        "👩‍👩‍👧‍👦",
        "🎣",
        "\u202eabc",
    ),
)
MARKERS = (
    *("<|im_start|>assistant\n", "<|im_end|>", "[/INST]", "</s>", "<end_of_turn>\n", "<start_of_turn>model\n"),
    *("<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|start|>assistant", "<|end|>", "<|User|>"),
    *(
        "<|Assistant|>",
        "<think>",
        "{{ messages }}",
        "{% endfor %}",
        "<|end_of_sentence|>",
        "<tool_call>",
        "</tool_call>",
    ),
)
BLANKS = (" ", "\n", "\n\n", "\t", "\u00a0", "\u200b", "\u2003", "\r\n", " \n ", "\ufeff")
NAMES = ("look_up", "wetter", "fähre_1")

CALL = {"id": "123456789", "type": "function", "function": {"name": "look_up", "arguments": {"place": "here"}}}
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "Look it up."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "123456789", "content": "blue"},
    {"role": "assistant", "content": "It is blue."},
]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks it up.", "parameters": {}},
}


def make_talk(chance: random.Random) -> Talk:
    """Return one conversation, with answers that may repeat a question and blanks where none are expected."""
    return _Maker(chance).talk()


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.said: list[str] = ["x"]  # what was said before, to be repeated

    def talk(self) -> Talk:
        """Return a system message or none, and some turns."""
        messages: list[dict[str, Any]] = []
        if self.happens(0.4):
            messages.append({"role": "system", "content": self.text()})
        tools, thinks = self.happens(0.3), self.happens(0.4)
        for _ in range(self.chance.choice((1, 1, 2, 2, 3, 4))):
            messages.append({"role": "user", "content": self.text()})
            if tools and self.happens(0.6):
                messages += self.calls(thinks)
            messages.append(self.answer(thinks))
            if self.happens(0.05):  # a result as some write it, in a turn of the user
                result = {"role": "user", "content": f"<tool_response>\n{self.text()}\n</tool_response>"}
                messages += [result, self.answer(thinks)]
        if self.happens(0.1):
            messages.append({"role": "user", "content": self.text()})
        if self.happens(0.05):  # some do not keep to turns
            messages.insert(self.chance.randrange(len(messages)), self.answer(thinks))
        described = [self.tool(name) for name in NAMES[: self.chance.randint(1, 3)]]
        return {"messages": messages} | ({"tools": described} if tools and self.happens(0.8) else {})

    def happens(self, share: float) -> bool:
        return self.chance.random() < share

    def text(self, *, blank: float = 0.02) -> str:
        """Return a text with white space round it, at times nothing else, at times one said before."""
        if self.happens(blank):
            return self.chance.choice(("", *BLANKS))
        words = self.chance.choices(WORDS, k=self.chance.randint(1, 4))
        if self.happens(0.2):
            words.insert(self.chance.randint(0, len(words)), self.chance.choice(MARKERS))
        core = self.chance.choice(self.said) if self.happens(0.25) else self.chance.choice((" ", "\n", "")).join(words)
        self.said.append(core)
        before, after = (self.chance.choice(BLANKS) * self.happens(0.15) for _ in range(2))
        return before + core + after

    def answer(self, thinks: bool) -> dict[str, Any]:
        """Return an answer, with a thought in a field of its own or before the content."""
        message = {"role": "assistant", "content": self.text(blank=0.06)}
        if not thinks or self.happens(0.2):
            return message
        thought = self.text(blank=0.1)
        if self.happens(0.5):
            return message | {self.chance.choice(("reasoning_content", "thinking")): thought}
        gap = self.chance.choice(("\n\n", "\n", "", " "))
        return message | {"content": f"<think>\n{thought}\n</think>{gap}{message['content']}"}

    def calls(self, thinks: bool) -> list[dict[str, Any]]:
        """Return an answer that calls tools, and their results."""
        calls = [self.call() for _ in range(1 + self.happens(0.15))]
        content: Any = self.text() if self.happens(0.3) else self.chance.choice(("", None))
        message: dict[str, Any] = {"role": "assistant", "content": content, "tool_calls": calls}
        if thinks and self.happens(0.5):
            message["reasoning_content"] = self.text()
        results = [
            {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": self.text()}
            for call in calls
        ]
        return [message, *results]

    def call(self) -> dict[str, Any]:
        given = {"place": self.text(), "days": self.chance.randint(0, 9)} if self.happens(0.8) else {}
        named = {"name": self.chance.choice(NAMES), "arguments": given}
        return {"id": f"{self.chance.randrange(10**9):09}", "type": "function", "function": named}

    def tool(self, name: str) -> dict[str, Any]:
        properties = {"place": {"type": "string", "description": self.text()}, "days": {"type": "integer"}}
        described = {"name": name, "description": self.text(), "parameters": {"properties": properties}}
        return {"type": "function", "function": described}
