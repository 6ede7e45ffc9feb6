"""Eight chat templates, written here in the manner of well-known families, and a small tokenizer for each.

Each has the marks `{% generation %}` round what the assistant writes, the token that ends it included: transformers
finds by them what is learned. Our code is given the same template without the marks (`without_marks`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


@dataclass(frozen=True)
class Family:
    """One manner of writing a conversation. special: its tokens, those of the configuration by name in `named`."""

    template: str
    special: tuple[str, ...]
    named: dict[str, str]
    pieces: bool = False  # a tokenizer of pieces with ▁ for a space, else one of bytes

    def write(self, folder: Path, *, marks: bool) -> Path:
        """Write tokenizer, configuration and template of a model folder, and return it."""
        folder.mkdir(parents=True)
        (self._pieces() if self.pieces else self._bytes()).save(str(folder / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **self.named}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "config.json").write_text("{}", encoding="utf-8")
        template = self.template if marks else without_marks(self.template)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        return folder

    def _bytes(self) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        self._train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
        return tokenizer

    def _pieces(self) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        self._train(tokenizer, [chr(code) for code in range(0x20, 0x7F)], [f"<0x{byte:02X}>" for byte in range(256)])
        return tokenizer

    def _train(self, tokenizer: Tokenizer, alphabet: list[str], more: list[str] | None = None) -> None:
        trainer = trainers.BpeTrainer(
            vocab_size=900, special_tokens=more or [], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(_WORDS, trainer)
        tokenizer.add_special_tokens(list(self.special))


def without_marks(template: str) -> str:
    """Return a template without the marks of what the assistant writes."""
    return re.sub(r"\{%(-?) (?:end)?generation (-?)%\}", r"{#\1 \2#}", template)


# White space in runs, so that some tokens hold the end of a heading and the beginning of an answer.
_WORDS = [
    "system user assistant model tool answer hello what is the of a to and in it for on with as at by from\n\n\n",
    "Where is the boat?\n\nIt lies in the harbour.\n \n  \n\nअच्छा ไทย 日本 مرحبا 🎣 <think>\n\n</think>\n\n",
] * 3

SMOLLM2 = """\
{%- if messages and messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a small and helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' -%}
{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else -%}
{{ m.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

# The system block is always there; tools stand before the first question; one call in an answer, as JSON.
LLAMA3 = """\
{%- macro head(role) -%}{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}{%- endmacro -%}
{{ bos_token }}
{%- set first = 0 -%}
{{ head('system') }}
{%- if tools -%}{{ 'Environment: python\\n' }}{%- endif -%}
{{ 'Knowledge until: March 2024\\n\\n' }}
{%- if messages[0].role == 'system' -%}
{{ messages[0].content | trim }}
{%- set first = 1 -%}
{%- endif -%}
{{ '<|eot_id|>' }}
{%- for m in messages[first:] -%}
{%- if m.tool_calls -%}
{%- if m.tool_calls | length != 1 -%}{{ raise_exception('One call of a tool at a time, please.') }}{%- endif -%}
{%- set call = m.tool_calls[0].function -%}
{{ head('assistant') }}{% generation %}{{ '{"name": "' + call.name + '", "parameters": ' }}
{{- call.arguments | tojson }}{{ '}<|eot_id|>' }}
{%- endgeneration %}
{%- elif m.role == 'assistant' -%}
{{ head('assistant') }}{% generation %}{{ m.content | trim + '<|eot_id|>' }}{% endgeneration %}
{%- elif m.role == 'tool' -%}
{{ head('ipython') }}{{ m.content | tojson }}{{ '<|eot_id|>' }}
{%- else -%}
{{ head(m.role) }}
{%- if tools and loop.first -%}
{{ 'These functions can be called:\\n\\n' }}
{%- for tool in tools -%}{{ tool | tojson(indent=4) }}{{ '\\n\\n' }}{%- endfor -%}
{%- endif -%}
{{ m.content | trim + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ head('assistant') }}{%- endif -%}
"""

# Roles alternate; tools and system text stand in the last question only, so that earlier text is written anew.
MISTRAL = """\
{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set talk = messages[1:] if messages[0].role == 'system' else messages -%}
{%- set ns = namespace(turn=0, last=-1) -%}
{%- for m in talk -%}
{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) -%}
{%- if (m.role == 'user') != (ns.turn % 2 == 0) -%}
{{ raise_exception('After the system message, user and assistant take turns.') }}
{%- endif -%}
{%- set ns.turn = ns.turn + 1 -%}
{%- endif -%}
{%- endfor -%}
{{ bos_token }}
{%- for m in talk -%}
{%- if m.role == 'user' -%}
{%- if loop.index0 == ns.last and tools -%}{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}
{%- endif -%}
{%- if loop.index0 == ns.last and system -%}{{ '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}
{%- else -%}{{ '[INST] ' + m.content + '[/INST]' }}
{%- endif -%}
{%- elif m.tool_calls -%}
{% generation %}{{ '[TOOL_CALLS] [' }}
{%- for call in m.tool_calls -%}
{%- if not call.id or call.id | length != 9 -%}{{ raise_exception('The id of a call has nine characters.') }}
{%- endif -%}
{{ (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last else ']' }}
{%- endfor -%}
{{ eos_token }}{% endgeneration %}
{%- elif m.role == 'assistant' -%}
{% generation %}{{ ' ' + m.content | trim + eos_token }}{% endgeneration %}
{%- elif m.role == 'tool' -%}
{{ '[TOOL_RESULTS] {"content": ' + (m.content | tojson) + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- else -%}
{{ raise_exception('Only user, assistant and tool may speak here.') }}
{%- endif -%}
{%- endfor -%}
"""

GEMMA = """\
{{ bos_token }}
{%- set opening = '' -%}
{%- set talk = messages -%}
{%- if messages[0].role == 'system' -%}
{%- set opening = messages[0].content + '\\n\\n' -%}
{%- set talk = messages[1:] -%}
{%- endif -%}
{%- for m in talk -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('Roles must go user, assistant, user, assistant and so on.') }}
{%- endif -%}
{%- if m.role == 'assistant' -%}
{{ '<start_of_turn>model\\n' }}{% generation %}{{ m.content | trim + '<end_of_turn>' }}{% endgeneration %}{{ '\\n' }}
{%- else -%}
{{ '<start_of_turn>' + m.role + '\\n' + (opening if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

# Other roles than these three are passed over without a word.
PHI4 = """\
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ '<|im_start|>system<|im_sep|>' + m.content + '<|im_end|>' }}
{%- elif m.role == 'user' -%}{{ '<|im_start|>user<|im_sep|>' + m.content + '<|im_end|>' }}
{%- elif m.role == 'assistant' -%}
{{ '<|im_start|>assistant<|im_sep|>' }}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant<|im_sep|>' }}{%- endif -%}
"""

# Thoughts are shown only behind the last question; results of tools stand together in a turn of the user.
QWEN3 = """\
{%- if tools -%}
{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' -%}{{ messages[0].content + '\\n\\n' }}{%- endif -%}
{{ '# Tools\\n\\nThese can be called:\\n<tools>' }}
{%- for tool in tools -%}{{ '\\n' }}{{ tool | tojson }}{%- endfor -%}
{{ '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' -%}
{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif -%}
{%- set ns = namespace(asked=messages | length - 1, looking=true) -%}
{%- for m in messages[::-1] -%}
{%- set result = m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>') -%}
{%- if ns.looking and m.role == 'user' and not result -%}
{%- set ns.looking = false -%}
{%- set ns.asked = messages | length - 1 - loop.index0 -%}
{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) -%}
{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' -%}
{%- set thought = '' -%}
{%- set content = m.content -%}
{%- if m.reasoning_content is string -%}
{%- set thought = m.reasoning_content -%}
{%- elif '</think>' in m.content -%}
{%- set thought = m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = m.content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{ '<|im_start|>assistant\\n' }}{% generation %}
{%- if loop.index0 > ns.asked and (loop.last or thought) -%}
{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else -%}
{{ content }}
{%- endif -%}
{%- for call in m.tool_calls or [] -%}
{%- if not loop.first or content -%}{{ '\\n' }}{%- endif -%}
{{ '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{%- if call.function.arguments is string -%}{{ call.function.arguments }}
{%- else -%}{{ call.function.arguments | tojson }}
{%- endif -%}
{{ '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- elif m.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
{{ '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\\n' }}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{%- endif -%}
"""

# An answer goes through channels. The last one ends otherwise than those before it, which lose their thoughts.
GPT_OSS = """\
{{ '<|start|>system<|message|>You are a large model.\\nCurrent date: ' + strftime_now('%Y') + '\\n<|end|>' }}
{%- set talk = messages[1:] if messages[0].role == 'system' else messages -%}
{%- if messages[0].role == 'system' or tools -%}
{{ '<|start|>developer<|message|>' }}
{%- if messages[0].role == 'system' -%}{{ '# Instructions\\n\\n' + messages[0].content }}{%- endif -%}
{%- if tools -%}
{{ '\\n\\n# Tools\\n\\nnamespace functions {\\n' }}
{%- for tool in tools -%}
{{ '// ' + tool.function.description + '\\ntype ' + tool.function.name + ' = (_: ' }}
{{- tool.function.parameters | tojson }}{{ ') => any;\\n' }}
{%- endfor -%}
{{ '}' }}
{%- endif -%}
{{ '<|end|>' }}
{%- endif -%}
{%- set ns = namespace(caller='') -%}
{%- for m in talk -%}
{%- if m.role == 'assistant' -%}
{%- if '<|channel|>' in m.content -%}{{ raise_exception('Give the channels as fields of the message.') }}{%- endif -%}
{%- if m.tool_calls and m.content and m.thinking -%}
{{ raise_exception('A call has a content or a thought, not both.') }}
{%- endif -%}
{%- set later = talk[loop.index:] | selectattr('role', 'equalto', 'assistant') | rejectattr('tool_calls') | list -%}
{{ '<|start|>assistant' }}{% generation %}
{%- set thought = m.thinking or (m.content if m.tool_calls else '') -%}
{%- if thought and not later -%}
{{ '<|channel|>analysis<|message|>' + thought + '<|end|><|start|>assistant' }}
{%- endif -%}
{%- if m.tool_calls -%}
{%- set call = m.tool_calls[0].function -%}
{{ ' to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}
{{- call.arguments if call.arguments is string else call.arguments | tojson }}{{ '<|call|>' }}
{%- else -%}
{{ '<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}
{%- endif -%}
{% endgeneration %}
{%- if m.tool_calls -%}{%- set ns.caller = m.tool_calls[0].function.name -%}{%- endif -%}
{%- elif m.role == 'tool' -%}
{%- if not ns.caller -%}{{ raise_exception('A result without a call.') }}{%- endif -%}
{{ '<|start|>functions.' + ns.caller + ' to=assistant<|channel|>commentary<|message|>' }}
{{- m.content | tojson }}{{ '<|end|>' }}
{%- else -%}
{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start|>assistant' }}{%- endif -%}
"""

# A thought is opened for the asked turn, and shown in none; results of tools are answered without a heading.
R1 = """\
{{ bos_token }}
{%- for m in messages -%}{%- if m.role == 'system' -%}{{ m.content }}{%- endif -%}{%- endfor -%}
{%- set ns = namespace(results=false) -%}
{%- for m in messages -%}
{%- if ns.results and m.role != 'tool' -%}{{ '<|results_end|>' }}{%- endif -%}
{%- if m.role == 'user' -%}
{%- set ns.results = false -%}
{{ '<|User|>' + m.content }}
{%- elif m.role == 'assistant' -%}
{%- if not ns.results -%}{{ '<|Assistant|>' }}{%- endif -%}
{%- set ns.results = false -%}
{% generation %}
{{- m.content.split('</think>')[-1] }}
{%- if m.tool_calls -%}
{{ '<|calls_begin|>' }}
{%- for call in m.tool_calls -%}
{{ '<|call_begin|>' + call.type + '<|sep|>' + call.function.name + '\\n```json\\n' }}
{{- call.function.arguments | tojson }}{{ '\\n```<|call_end|>' }}
{%- endfor -%}
{{ '<|calls_end|>' }}
{%- endif -%}
{{ '<|end_of_sentence|>' }}{% endgeneration %}
{%- elif m.role == 'tool' -%}
{%- if not ns.results -%}{{ '<|results_begin|>' }}{%- endif -%}
{%- set ns.results = true -%}
{{ '<|result_begin|>' + m.content + '<|result_end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if ns.results -%}{{ '<|results_end|>' }}{%- endif -%}
{%- if add_generation_prompt and not ns.results -%}{{ '<|Assistant|><think>\\n' }}{%- endif -%}
"""

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "SmolLM2": Family(SMOLLM2, _CHATML, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}),
    "Llama 3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    "Mistral": Family(
        MISTRAL,
        (
            *("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
            *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
        ),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        pieces=True,
    ),
    "Gemma": Family(
        GEMMA,
        ("<bos>", "<eos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"},
        pieces=True,
    ),
    "Phi-4": Family(PHI4, (*_CHATML, "<|im_sep|>"), {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    "Qwen 3": Family(QWEN3, _CHATML, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}),
    "gpt-oss": Family(
        GPT_OSS,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>", "<|return|>"),
        {"eos_token": "<|return|>"},
    ),
    "R1": Family(
        R1,
        (
            *("<|begin_of_sentence|>", "<|end_of_sentence|>", "<|User|>", "<|Assistant|>", "<|calls_begin|>"),
            *("<|calls_end|>", "<|call_begin|>", "<|call_end|>", "<|sep|>", "<|results_begin|>", "<|results_end|>"),
            *("<|result_begin|>", "<|result_end|>"),
        ),
        {"bos_token": "<|begin_of_sentence|>", "eos_token": "<|end_of_sentence|>"},
    ),
}
