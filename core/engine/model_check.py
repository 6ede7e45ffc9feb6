"""Whether a folder is a base model that can be trained and served on this machine: its questions, each with an answer.

Everything in the folder may come from anyone: nothing of it is run but its chat template, in a sandbox. The weights'
files may be empty behind their headers, so a model is looked at before it is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from core.engine.chat_template import BadConversation, read_json, read_text
from core.engine.chat_tokens import load_chat_tokens, read_tokenizer
from core.engine.import_model import check_model_folder
from core.engine.memory_estimate import estimate_card, estimate_peak, number_size, read_shape, read_tensors
from core.engine.model_look import Line, make_defaults
from core.errors import BadInput
from core.words import number, plural, size

# By the model type in config.json. tests/core/engine/test_architectures.py holds each against plain transformers.
ARCHITECTURES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen 2",
    "qwen3": "Qwen 3",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 (text)",
    "phi": "Phi",
    "phi3": "Phi-3",
    "smollm3": "SmolLM3",
}
_SUPPORTED = "Supported: Llama, SmolLM, Mistral, Qwen 2 and 3, Gemma 1 to 3 (text), Phi and Phi-3."
_NUMBERS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Learning rate of LoRA and batch, by the largest number of parameters: the first row is measured, the others published.
_BY_SIZE = ((2e8, 2e-3, 4), (1e9, 5e-4, 4), (4e9, 2e-4, 2), (float("inf"), 1e-4, 1))
ROW_TOKENS = 512
"""How long a row memory is estimated for."""
_TALK = [{"role": "user", "content": "What is the capital of Peru?"}, {"role": "assistant", "content": "It is Lima."}]


@dataclass(frozen=True)
class Space:
    """What this machine has, in bytes. card: of its smallest GPU, 0 without one."""

    memory: int
    card: int = 0


@dataclass
class ModelCheck:
    """The questions about one folder. `tags` fills with what a registry says of the model."""

    folder: Path
    space: Space
    tags: dict[str, str] = field(default_factory=dict)

    def ask(self) -> list[Line]:
        """Return the answers. A question that hangs on one that failed is left out."""
        lines: list[Line] = []
        if not any(self.folder.glob("*.safetensors")):
            hint = "Choose the folder or repository that holds the model itself."
            lines.append(Line("Weights", "failed", "It holds no .safetensors weights.", hint))
        for name, question, needs in _QUESTIONS:
            failed = {line.name for line in lines if line.state == "failed"}
            if not failed & {name, *needs}:
                try:
                    lines.append(question(self, name))
                except BadInput as error:
                    lines.append(Line(name, "failed", error.message, error.hint or "Choose another model."))
                except BadConversation as error:
                    lines.append(Line(name, "failed", str(error), "Choose another model."))
        return lines

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        if not (self.folder / "config.json").is_file():
            raise BadInput("There is no config.json: it is not a model for transformers.", _SUPPORTED)
        return read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """The weights by name."""
        return {name: each for path in self.folder.glob("*.safetensors") for name, each in read_tensors(path).items()}

    def check_architecture(self, name: str) -> Line:
        """Refuse what the trainer was not held against."""
        kind, given = self.config.get("model_type"), self.config.get("architectures")
        title = ARCHITECTURES.get(str(kind))
        if title is None:
            raise BadInput(f"Its architecture '{kind}' cannot be trained here.", _SUPPORTED)
        if not isinstance(given, list) or not str(given[:1]).endswith("ForCausalLM']"):
            raise BadInput(f"It is no language model but {given}.", "Choose the model that writes text.")
        if self.config.get("quantization_config"):
            raise BadInput("Its weights are quantised, and cannot be trained.", "Choose the model in 16 or 32 bits.")
        self.tags["architecture"] = str(kind)
        return Line(name, "ok", title)

    def check_code(self, name: str) -> Line:
        """Refuse a model that wants code of its own."""
        for file in ("config.json", "tokenizer_config.json"):
            if read_json(self.folder / file).get("auto_map"):
                said = f"It wants code of its own (auto_map in {file}), which is never run here."
                raise BadInput(said, "Choose a model that transformers knows by itself.")
        return Line(name, "ok", "None of its own")

    def check_weights(self, name: str) -> Line:
        """Hold the weights against the configuration, name by name."""
        parameters = check_model_folder(self.folder)
        numbers = {str(each.get("dtype")) for each in self.tensors.values()}
        if odd := numbers - _NUMBERS.keys():
            said = f"Its weights are stored as {', '.join(sorted(odd))}, and cannot be trained."
            raise BadInput(said, "Choose the model in 16 or 32 bits.")
        layers = self.config.get("num_hidden_layers")
        if not isinstance(layers, int) or not 0 < layers <= len(self.tensors):
            raise BadInput(f"Its config.json asks for {layers} layers, which the weights do not hold.")
        wanted, linear = _describe_model(self.folder)
        wrong = [each for each, shape in wanted.items() if self.tensors.get(each, {}).get("shape") != shape]
        if wrong:
            said = f"{plural(len(wrong), 'tensor')} of the weights {'is' if len(wrong) == 1 else 'are'} missing or not"
            raise BadInput(
                f"{said} as config.json says, first {wrong[0]}.", "Fetch the model again, or choose another."
            )
        kinds = ", ".join(sorted(_NUMBERS[each] for each in numbers))
        self.tags |= {"parameters": str(parameters), "layers": str(layers), "dtype": kinds}
        self.tags["lora_targets"] = ", ".join(linear)
        return Line(name, "ok", f"safetensors, {_millions(parameters)} in {kinds}, {plural(layers, 'layer')}")

    def check_tokenizer(self, name: str) -> Line:
        """Refuse a tokenizer that writes words which the weights do not know."""
        if not any((self.folder / each).is_file() for each in ("chat_template.jinja", "tokenizer_config.json")):
            raise BadInput("There is no tokenizer_config.json.", "Fetch the model again.")
        if not (self.folder / "tokenizer.json").is_file():
            said = "There is no tokenizer.json, the form that is read here."
            raise BadInput(said, "Write it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…).")
        tokenizer = read_tokenizer(self.folder / "tokenizer.json")
        largest, words = max(tokenizer.get_vocab().values(), default=0), self.config.get("vocab_size", 0)
        if not isinstance(words, int) or largest >= words:
            said = f"Its tokenizer has words up to number {largest:,}; the weights hold {words:,}."
            raise BadInput(said, "Tokenizer and weights are of two models: fetch it again, or choose another.")
        return Line(name, "ok", f"{number(tokenizer.get_vocab_size())} words")

    def check_template(self, name: str) -> Line:
        """Render a conversation, and find in it what would be learned."""
        try:
            tokens = load_chat_tokens(self.folder)
        except BadConversation as error:
            if "no chat template" not in str(error):
                raise
            said = "It has no chat template: it is a base model that was never taught to chat."
            hint = "Choose its chat model, often called -Instruct or -it, or put a chat_template.jinja into a folder."
            raise BadInput(said, hint) from error
        prompt, (talk,) = tokens.encode_prompt(_TALK[:1]), tokens.encode_conversations([_TALK])
        if not prompt or not any(talk.learned[1:]):
            raise BadInput("Its chat template leaves the answer out.", "Choose another model.")
        self.tags["textContextWindow"] = str(tokens.context_length)
        ends = tokens.tokenizer.id_to_token(tokens.stop_ids[0])
        return Line(name, "ok", f"Answers end with {ends}; {number(tokens.context_length)} tokens of context")

    def check_memory(self, name: str) -> Line:
        """Estimate the training by the defaults, with the largest batch that fits."""
        shape = read_shape(self.folder)
        if shape is None:
            raise BadInput("Its config.json leaves out what memory is estimated by.")
        rate, batch = next((rate, batch) for most, rate, batch in _BY_SIZE if shape.parameters <= most)
        has_card = self.space.card > 0
        had = self.space.card if has_card else self.space.memory
        while True:
            values = make_defaults(rate, batch)
            needed = estimate_peak(shape, values, ROW_TOKENS, number_size("16"), self.space.memory)
            needed = estimate_card(shape, values, ROW_TOKENS) if has_card else needed
            if needed <= had or batch == 1:
                break
            batch //= 2
        said = f"Training takes about {size(needed)} with {plural(batch, 'row')} of {ROW_TOKENS} tokens at once"
        said += f"; this {'GPU' if has_card else 'machine'} has {size(had)}"
        if needed > had:
            raise BadInput(f"{said}.", "Choose a smaller model, or train it on Azure.")
        self.tags["model_specific_defaults"] = json.dumps(values)
        return Line(name, "ok", said)

    def check_licence(self, name: str) -> Line:
        """Read the licence in the model's README."""
        readme = self.folder / "README.md"
        head = read_text(readme).partition("\n---")[0] if readme.is_file() else ""
        for key, tag in (("license_name", "license"), ("license", "license"), ("license_link", "license_link")):
            found = re.search(rf"(?m)^{key}:\s*[\"']?([^\"'\n#]+)", head)
            if found and found[1].strip() != "other":
                self.tags.setdefault(tag, found[1].strip()[:200])
        if licence := self.tags.get("license"):
            return Line(name, "ok", licence)
        return Line(name, "warning", "Not stated", "Ask its owner what may be done with it.")


_Question = Callable[[ModelCheck, str], Line]
_QUESTIONS: tuple[tuple[str, _Question, tuple[str, ...]], ...] = (
    ("Architecture", ModelCheck.check_architecture, ()),
    ("Code", ModelCheck.check_code, ()),
    ("Weights", ModelCheck.check_weights, ("Architecture", "Code")),
    ("Tokenizer", ModelCheck.check_tokenizer, ("Architecture",)),
    ("Chat template", ModelCheck.check_template, ("Tokenizer", "Architecture")),
    ("Memory", ModelCheck.check_memory, ("Architecture", "Weights")),
    ("Licence", ModelCheck.check_licence, ()),
)


def _describe_model(folder: Path) -> tuple[dict[str, list[int]], list[str]]:
    """Return the shape of each tensor that transformers wants for a configuration, and which kinds of layer adapt.

    No weight is read. A tensor that is another one's other name is left out.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.engine.pretrained import quiet_transformers

    quiet_transformers()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        make: Any = AutoModelForCausalLM.from_config  # untyped in transformers
        with torch.device("meta"):
            model = make(config, trust_remote_code=False)
        model.tie_weights()
    except BaseException as error:  # what a configuration of any content ends in, the library's own errors among it
        if not isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            said = "Its config.json describes no model that can be built."
            raise BadInput(said, "Fetch the model again, or choose another.", repr(error)) from error
        raise
    wanted = {name: list(each.shape) for name, each in model.named_parameters()}
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, each in model.named_modules()
        if isinstance(each, torch.nn.Linear) and each is not head
    }
    return wanted, sorted(linear)


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} billion parameters" if parameters >= 1e9 else f"{parameters / 1e6:.3g} million"
