"""Recipes: what is saved comes back, from the home and from YAML; a file is refused where any line of it is odd."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput, Conflict, NotFound
from core.launch.recipe_file import MOST_BYTES, read_recipe, write_recipe
from core.launch.recipes import (
    SavedRecipe,
    delete_recipe,
    duplicate_recipe,
    list_recipes,
    make_recipe,
    plan_use,
    save_recipe,
)
from core.recipe import LARGEST, PARAMETERS, Parameter, Value, build_recipe, find_fault

CAREFUL = SavedRecipe("Careful", {"learning_rate": 1e-5, "apply_lora": "true", "max_seq_length": -1}, "tiny-chat")
FILE = """version: 1
name: Careful
model: tiny-chat
settings:
  learning_rate: 1e-5
  apply_lora: yes
  max_seq_length: -1
"""


def values_of(parameter: Parameter) -> st.SearchStrategy[Value]:
    """Values that a parameter takes, as a recipe holds them."""
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.kind == "size":
        return st.sampled_from(["5g", "640m", "1k"])
    low, high = parameter.minimum, parameter.maximum
    if parameter.kind == "int":
        unlimited = [] if parameter.unlimited is None else [st.just(parameter.unlimited)]
        return st.one_of(st.integers(int(low or 0), int(high or LARGEST)), *unlimited)
    found = st.floats(low, high if high is not None else parameter.below, allow_nan=False, allow_infinity=False)
    return found.filter(lambda value: find_fault(parameter, value) is None)


TITLES = st.text(min_size=1, max_size=80).map(str.strip).filter(lambda text: text.isprintable() and text)
TITLES = TITLES.filter(lambda text: not set("<>&`") & set(text))


@settings(max_examples=20, deadline=None)
@given(TITLES, st.fixed_dictionaries({}, optional={each.name: values_of(each) for each in PARAMETERS}))
def test_a_recipe_comes_back_from_yaml_as_it_was(name: str, values: dict[str, Value]) -> None:
    written = SavedRecipe(name, values, "tiny-chat")
    assert read_recipe(write_recipe(written).encode()) == written


def test_a_file_by_hand_is_read_as_it_is_written() -> None:
    assert read_recipe(FILE.encode()) == CAREFUL
    assert read_recipe(("\ufeff" + FILE.replace("1e-5", "0.00001").replace("yes", "True")).encode()) == CAREFUL


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate", "learnig_rate", "Line 5: 'learnig_rate' is not a setting. Did you mean 'learning_rate'?"),
        ("1e-5", "7", "Line 5: learning_rate is 7; the most is 1."),
        ("1e-5", "[1, 2]", "Line 5: it is nested too deep."),
        ("1e-5", "", "Line 5: learning_rate is ''; it takes a number."),
        ("1e-5", ".nan", "Line 5: learning_rate is '.nan'; it takes a number."),
        ("-1", "0", "Line 7: max_seq_length is 0; the least is 1, or -1 for no limit."),
        ("-1", "1:30", "Line 7: max_seq_length is '1:30'; it takes a whole number."),
        ("-1", "&a 5", "Line 7: anchors and aliases are not taken."),
        ("yes", "*a", "Line 6: anchors and aliases are not taken."),
        ("yes", "!!python/object:os.system x", "Line 6: a tag such as 'tag:yaml.org,2002:python/object:os.syst…'"),
        ("yes", "maybe", "Line 6: apply_lora is 'maybe'; it takes true or false."),
        ("apply_lora", "learning_rate", "Line 6: 'learning_rate' is there twice."),
        ("apply_lora", "<<", "Line 6: '<<' is not a setting."),
        ("version: 1", "version: 2", "Line 1: the version is '2'; this Tunedeck reads version 1."),
        ("version: 1", "", "There is no version; this Tunedeck reads version 1."),
        ("model", "modle", "Line 3: 'modle' is not a part of a recipe. Did you mean 'model'?"),
        ("Careful", "<b>", "Line 2: The name has a character that is not shown as itself."),
        ("name: Careful", "", "No name: A recipe needs a name."),
        ("-1", "'", "is not YAML:"),
        (FILE, "- 1\n- 2", "The file is no recipe: it has no 'version' and 'settings'."),
        (FILE, "", "The file is no recipe: it has no 'version' and 'settings'."),
        (FILE, "a: \x00", "The file is not YAML: special characters are not allowed."),
        (FILE, "--- 1\n--- 2", "Line 2 is not YAML:"),
    ],
)
def test_what_a_recipe_cannot_be_is_refused_with_its_line(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_recipe(FILE.replace(old, new, 1).encode())
    assert said in refused.value.message


def test_every_odd_line_is_named_and_nothing_of_the_file_is_taken() -> None:
    with pytest.raises(BadInput) as refused:
        read_recipe(FILE.replace("-1", "0").replace("apply_lora", "lora").encode())
    assert refused.value.message.endswith("And 1 more line.")
    assert [line[:7] for line in refused.value.detail.splitlines()] == ["Line 6:", "Line 7:"]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a" * (MOST_BYTES + 1), b"[" * MOST_BYTES, b"{a: " * 9000, b"- " * (MOST_BYTES // 2)]
)
def test_a_hostile_file_is_refused_in_a_moment(content: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput):
        read_recipe(content)
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("home")
def test_recipes_are_saved_renamed_copied_deleted_and_brought_back() -> None:
    saved = save_recipe(CAREFUL)
    assert list_recipes() == [saved]
    assert replace(saved, id=0) == CAREFUL
    with pytest.raises(Conflict, match="There is a recipe 'CAREFUL' already"):
        save_recipe(replace(CAREFUL, name="CAREFUL"))
    renamed = save_recipe(replace(saved, name=" bold "))
    assert (renamed.name, renamed.id) == ("bold", saved.id)
    names = [duplicate_recipe(renamed).name for _ in range(2)]
    assert names == ["bold copy", "bold copy 2"]
    delete_recipe(renamed)
    for late in (delete_recipe, save_recipe):
        with pytest.raises(NotFound, match="The recipe 'bold' was deleted meanwhile"):
            late(renamed)
    back = save_recipe(replace(renamed, id=0))
    assert [each.name for each in list_recipes()] == ["bold", *names]
    assert back.settings == CAREFUL.settings
    with pytest.raises(BadInput, match="A recipe needs a name"):
        save_recipe(replace(CAREFUL, name=" "))


def test_a_recipe_brings_the_same_settings_into_another_set_up_and_says_what_changes() -> None:
    saved = make_recipe("r", build_recipe({"lora_r": 4}, {"seed": 7}, here=True), "tiny-chat")
    before = build_recipe({"lora_r": 16, "learning_rate": 1e-2}, {"warmup_steps": 5}, here=True)
    own, changes = plan_use(saved, before)
    then = build_recipe({"lora_r": 16, "learning_rate": 1e-2}, own, here=True)
    assert {name: then[name] for name in saved.settings} == saved.settings
    assert changes == {
        "seed": (42, 7),
        "lora_r": (16, 4),
        "learning_rate": (1e-2, 5e-6),
        "warmup_steps": (5, 0),
    }
    assert set(own) == {"seed", "lora_r", "learning_rate"}, "what the lesson says anyway is not one's own"
    assert plan_use(saved, then) == (own, {})
