"""A recipe as a file: YAML that people write and read, taken only where each line of it is understood."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import yaml

from core.errors import BadInput, TunedeckError
from core.launch.recipes import SavedRecipe
from core.recipe import BY_NAME, Parameter, Value, find_fault, parse_value
from core.runs.titles import check_title
from core.words import plural, visible

VERSION = 1
MOST_BYTES = 64 * 1024
_KEYS = ("version", "name", "model", "settings")
_DEEPEST = 3  # the document, its mapping, the settings
_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}  # YAML's own words for the two
_HEAD = "# A recipe of Tunedeck: the settings of a run. What is not listed is left to the model.\n"


def write_recipe(recipe: SavedRecipe) -> str:
    """Return a recipe as YAML."""
    settings = {name: _to_yaml(BY_NAME[name], value) for name, value in recipe.settings.items()}
    found = {"version": VERSION, "name": recipe.name, "model": recipe.model, "settings": settings}
    return f"{_HEAD}{yaml.safe_dump(found, sort_keys=False, allow_unicode=True)}"


def read_recipe(content: bytes) -> SavedRecipe:
    """Return the recipe of a file; raises BadInput that names each line that cannot be used.

    Values are taken as they are written: what YAML 1.1 makes of 1e-5 (text), 010 (eight) or 1:30 (ninety) is no matter.
    An anchor is refused, so that no few lines stand for many.
    """
    if len(content) > MOST_BYTES:
        raise BadInput(f"The file has {len(content):,} bytes.", f"A recipe has at most {MOST_BYTES:,}.")
    try:
        text = content.decode("utf-8-sig")
        _check_shape(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise BadInput("The file is not text in UTF-8.", "Export a recipe to see what one looks like.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"Line {mark.line + 1}" if mark else "The file"
        problem = getattr(error, "problem", None) or getattr(error, "reason", "")
        raise BadInput(f"{at} is not YAML: {visible(str(problem))}.", "Correct it, and import it again.") from None
    if not isinstance(root, yaml.MappingNode):
        raise BadInput("The file is no recipe: it has no 'version' and 'settings'.", "Export one to see its form.")
    problems: list[str] = []
    parts = dict(_walk(root, problems))
    for name, node in parts.items():
        if name not in _KEYS:
            problems.append(f"{_at(node)}: '{_show(name)}' is not a part of a recipe{_suggest(name, _KEYS)}")
    name, model = (_read_text(parts, key, problems) for key in ("name", "model"))
    if (version := _read_text(parts, "version", problems)) != str(VERSION):
        said = f"{_at(parts['version'])}: the version is '{_show(version)}'" if version else "There is no version"
        problems.append(f"{said}; this Tunedeck reads version {VERSION}.")
    settings = _read_settings(parts.get("settings"), problems)
    if not problems:
        try:
            return SavedRecipe(check_title(name, "recipe"), settings, visible(model)[:200])
        except TunedeckError as error:
            problems.append(f"{_at(parts['name']) if 'name' in parts else 'No name'}: {error.message}")
    rest = len(problems) - 1
    more, detail = (f" And {plural(rest, 'more line')}.", "\n".join(problems)) if rest else ("", "")
    raise BadInput(problems[0] + more, "Nothing was imported. Correct the file, and import it again.", detail)


def _check_shape(text: str) -> None:
    """Refuse what a recipe has no need of, before anything is built of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadInput(f"{_at(event)}: anchors and aliases are not taken.", "Write the value out.")
        if str(getattr(event, "tag", None) or "").strip("!"):
            raise BadInput(f"{_at(event)}: a tag such as '{_show(event.tag)}' is not taken.", "Leave it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth >= _DEEPEST:
            raise BadInput(
                f"{_at(event)}: it is nested too deep.", "A recipe is a list of settings with one value each."
            )


def _walk(node: yaml.MappingNode, problems: list[str]) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the entries of a mapping by their name; a name that is none, or is there twice, is a problem."""
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{_at(key)}: a name is expected.")
        elif key.value in seen:
            problems.append(f"{_at(key)}: '{_show(key.value)}' is there twice.")
        else:
            seen.add(key.value)
            yield key.value, value


def _read_text(parts: dict[str, yaml.Node], key: str, problems: list[str]) -> str:
    node = parts.get(key)
    if node is not None and not isinstance(node, yaml.ScalarNode):
        problems.append(f"{_at(node)}: {key} takes one value.")
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _read_settings(node: yaml.Node | None, problems: list[str]) -> dict[str, Value]:
    settings: dict[str, Value] = {}
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{_at(node) if node else 'The file'}: 'settings' is to hold names with their values.")
        return settings
    for name, value in _walk(node, problems):
        parameter = BY_NAME.get(name)
        if parameter is None:
            problems.append(f"{_at(value)}: '{_show(name)}' is not a setting{_suggest(name, BY_NAME)}")
        elif not isinstance(value, yaml.ScalarNode):
            problems.append(f"{_at(value)}: {name} takes one value.")
        elif fault := find_fault(parameter, text := _from_yaml(parameter, value.value)):
            problems.append(f"{_at(value)}: {name} {visible(fault)}")
        else:
            settings[name] = parse_value(parameter, text)
    return settings


def _to_yaml(parameter: Parameter, value: Value) -> object:
    return value == "true" if parameter.kind == "bool" else value


def _from_yaml(parameter: Parameter, text: str) -> str:
    text = text.strip()
    return _BOOLEANS.get(text.lower(), text.lower()) if parameter.kind == "bool" else text


def _at(node: yaml.Node | yaml.Event) -> str:
    return f"Line {node.start_mark.line + 1}"


def _suggest(name: str, known: object) -> str:
    close = get_close_matches(name[:60], list(known), 1)  # type: ignore[call-overload]
    return f". Did you mean '{close[0]}'?" if close else "."


def _show(text: str) -> str:
    return visible(text if len(text) <= 40 else f"{text[:39]}…")
