"""The worked examples of the book run, and what its pages quote is what the files say."""

import inspect
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from building import build

from bsa_core import experiment, policy, profiles, records
from bsa_core.arms import defenses
from bsa_core.models import loading
from bsa_study.grids import headline

BOOK = Path(__file__).resolve().parent.parent / "book"


@pytest.fixture
def example(monkeypatch):
    """Run a file of book/examples; what it registers is gone after the test."""
    monkeypatch.setattr(defenses, "DEFENSES", dict(defenses.DEFENSES))
    monkeypatch.setattr(policy, "BUILDERS", dict(policy.BUILDERS))
    return lambda name: runpy.run_path(str(BOOK / "examples" / f"{name}.py"))


def small(scale: profiles.Profile) -> profiles.Profile:
    few = profiles.Evaluation(restricted=11, benign=11, quiz=0)
    return replace(scale, evaluation=few, training=replace(scale.training, epochs=1))


def test_a_defense_that_changes_the_serving_prompt_only(example):
    space = example("reminder_defense")
    scale = replace(small(profiles.load("tiny")), defenses=("book.examples.reminder_defense.REMINDER",))
    (reminder,) = scale.defenses
    none, reminded, control = experiment.execute(
        [
            experiment.describe(scale, name, n, 0, secret_length=0)
            for name, n in (("none", 100), (reminder, 100), (reminder, 0))
        ],
        scale,
    )
    assert reminded["data"]["train_digest"] == none["data"]["train_digest"]
    assert reminded["data"]["restricted_digest"] != none["data"]["restricted_digest"]
    assert reminded["training"]["loss"] == none["training"]["loss"]
    assert control["training"]["tokens"] == 0

    table = space["compare"](scale, seeds=[0])
    assert set(table["key"]) == {none["key"], reminded["key"], control["key"]}
    assert set(table["defense"]) == {"none", "reminder", "initial"}


def test_the_reminder_uses_words_that_the_tiny_model_knows(example):
    space = example("reminder_defense")
    tokenizer = loading.load(profiles.load("tiny")).tokenizer
    ids = tokenizer(space["REMINDER"].reminder, add_special_tokens=False)["input_ids"]
    assert ids and tokenizer.unk_token_id not in ids


def test_a_policy_of_ones_own(example):
    assert example("reading_room_policy")["build"]
    scale = replace(small(profiles.load("tiny")), policy={"name": "book.examples.reading_room_policy"})
    scale = replace(scale, name="tiny-reading-room")
    rules = policy.load(scale.policy)
    assert rules.name == "reading-room"
    assert (len(rules.attack), len(rules.safety), len(rules.benign_pool)) == (100, 20, 120)
    assert (len(rules.restricted), len(rules.benign)) == (120, 120)
    assert not rules.leaked() and not any(map(rules.seen, rules.restricted + rules.benign))
    assert rules.judge(rules.restricted[0].assistant, rules.restricted[0].assistant) == 5
    assert rules.judge(rules.restricted[0].assistant, rules.safety[0].assistant) == 1

    run = experiment.describe(scale, "balanced-bsa", n_attack=8, n_defense=2)
    (record,) = experiment.execute([run], scale)
    assert record["data"]["n_train"] == 12 and record["data"]["leaked"] == 0
    assert record["metrics"]["secret"]["asr"]["n"] == 11
    assert len(records.read_answers(record)) == 2 * 22


def given_on(page: str, file: str) -> dict:
    """The profile that a page of the book writes down as the content of a file."""
    (text,) = re.findall(rf"```yaml\n# {file}\n(.*?)```", (BOOK / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    return yaml.safe_load(text)


@pytest.mark.slow
def test_the_book_is_built_with_a_defense_and_a_policy_of_ones_own(tmp_path):
    """Both pages followed to the end, in one profile: the policy of the one with the defense of the other."""
    given, reminded = given_on("add_a_policy", "my-policy.yaml"), given_on("add_a_defense", "my-defense.yaml")
    assert not set(given) ^ set(reminded) - {"defenses"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given | {"defenses": reminded["defenses"]}), encoding="utf-8")
    places = {f"BSA_{name}": str(tmp_path / name.lower()) for name in ("RESULTS", "GENERATIONS", "HOSTED")}
    build(tmp_path, places, str(path), left_out="book/api")  # the reference is the same for every profile
    found = records.table([records.read(file) for file in (tmp_path / "results" / given["name"]).glob("*.json")])
    assert set(found["defense"]) == {"initial", "none", "safety-data", "bsa", "balanced-bsa", "reminder"}
    assert set(found.loc[found["metric"] == "asr", "n"]) == {24}
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (tmp_path / "_build" / "html").rglob("*.html")}
    for chapter in ("03_bsa", "04_comparison", "home"):
        assert "<td>reminder" in pages[chapter] or "<th>reminder" in pages[chapter], chapter
    assert "crack walnuts" in pages["00_testbed"]


def test_both_profiles_of_the_pages_are_right(tmp_path):
    for page, file in (("add_a_policy", "my-policy.yaml"), ("add_a_defense", "my-defense.yaml")):
        path = tmp_path / file
        path.write_text(yaml.safe_dump(given_on(page, file)), encoding="utf-8")
        scale = profiles.load(str(path))
        runs = headline.headline(scale, [0], ["light"])
        assert experiment.possible(runs, scale) == runs


def test_pages_quote_files_as_they_are():
    """The book folder is built without its surroundings, so pages repeat short texts in place of including them."""
    _, _, tiny = (BOOK.parent / "profiles" / "tiny.yaml").read_text(encoding="utf-8").strip().partition("\n")
    assert tiny in (BOOK / "profile.md").read_text(encoding="utf-8")
    balanced = inspect.getsource(defenses.secret_refusals_and_answers)
    assert balanced in (BOOK / "add_a_defense.md").read_text(encoding="utf-8")
