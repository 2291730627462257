"""Grids of the ablations, their questions, and the variants of balanced BSA."""

from dataclasses import replace

import pandas as pd
import pytest

from bsa_core import keys, paths, policy, profiles
from bsa_core.arms import defenses
from bsa_core.examples import NotEnough
from bsa_core.experiment import runs
from bsa_study import contrasts
from bsa_study.grids import ablations, headline, variants

TINY = profiles.load("tiny")
SEEDS = [0, 1]
QUESTIONS = contrasts.load("06_ablations")


@pytest.fixture(scope="module")
def world() -> policy.Policy:
    return policy.load({"name": "guild", "seed": 0})


SMOL = profiles.load("smollm2-135m")  # the rows of further profiles are no part of the project
GRIDS = [*(("tiny", name) for name in ablations.SECTIONS), *((SMOL.name, name) for name in SMOL.ablations)]


@pytest.mark.parametrize(("profile", "name"), GRIDS)
def test_every_grid_describes_runs_whose_rows_exist(profile, name):
    profile = profiles.load(profile)
    pairs = ablations.grid(name, profile, SEEDS)
    described = [run for _, run in pairs]
    assert {run.seed for run in described} == set(SEEDS)
    of = runs.material(profile, described)
    for run in described[: len(described) // 2]:
        assert runs.rows_of(run, profile, of).restricted


@pytest.mark.parametrize("name", ablations.SECTIONS)
def test_a_run_stands_once_in_each_cell(name):
    """A cell that held one run twice would count it twice."""
    cells = [
        (variant, balanced_name(run.defense), run.seed, run.secret and run.secret.seed)
        for variant, run in ablations.grid(name, TINY, SEEDS)
        if run.training
    ]
    assert len(cells) == len(set(cells))


def balanced_name(defense: str) -> str:
    return "balanced-bsa" if defense in variants.VARIANTS else defense


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question.source}: {question.statement}"[:60])
def test_every_question_names_cells_that_its_section_has(question):
    pairs = ablations.grid(question.source, TINY, SEEDS)
    for cell in (question.first, question.second):
        matching = [
            variant
            for variant, run in pairs
            if cell.get("variant", variant) == variant
            and cell["defense"] == ("initial" if run.training is None else balanced_name(run.defense))
        ]
        assert matching, f"{question.source}: no run of {cell}"


def test_the_questions_ask_about_cells_with_one_variant():
    """Without a variant, a cell of a section with several would mix them."""
    for question in QUESTIONS:
        variants = {variant for variant, _ in ablations.grid(question.source, TINY, [0])}
        cells = (question.first, question.second)
        assert len(variants) == 1 or all("variant" in cell for cell in cells), question.source


def test_settings_that_are_the_default_share_runs_with_the_main_table():
    main = set(headline.headline(TINY, SEEDS, ["light"]))
    for name, variant in (("secret_kind", "random"), ("method", "LoRA"), ("capacity", "r 8"), ("uploads", "100 + 0")):
        described = {run for value, run in ablations.grid(name, TINY, SEEDS) if value == variant}
        assert described <= main, name


def test_full_fine_tuning_is_the_profile_s_own():
    """Of 7B at the paper's rate; a profile without a pressure `full` shows LoRA only."""
    scale = profiles.load("llama2-7b-chat")
    full = {run.training for variant, run in ablations.grid("method", scale, [0]) if variant == "full"}
    assert {(of.method, of.learning_rate, of.epochs) for of in full} == {("full", 5e-5, 5)}
    assert {variant for variant, _ in ablations.grid("method", replace(TINY, pressures={"light": {}}), [0])} == {"LoRA"}
    of_tiny = {run.training for variant, run in ablations.grid("method", TINY, [0]) if variant == "full"}
    assert of_tiny == {replace(TINY.training, method="full", learning_rate=0.0003)}, "as in the shipped records"


def test_a_profile_says_which_cells_of_which_sections_it_measures():
    sizes = {"bsa": (1, 11), "safety-data": (300,)}
    few = replace(TINY, ablations={"safety_examples": sizes, "secret_kind": {}})
    cells = {(run.defense, n) for n, run in ablations.grid("safety_examples", few, SEEDS)}
    assert cells == {("bsa", 1), ("bsa", 11), ("safety-data", 300)}
    assert len(ablations.grid("secret_kind", few, SEEDS)) == len(ablations.grid("secret_kind", TINY, SEEDS))
    assert ablations.grid("crossed", few, SEEDS) == [] and ablations.measured("crossed", few, SEEDS, True).empty
    with pytest.raises(ValueError, match="section 'secrets' is unknown; expected one of selection, "):
        ablations.grid("crossed", replace(TINY, ablations={"secrets": {}}), SEEDS)


def test_identity_has_settings_of_its_own_where_the_profile_has_them():
    without = replace(TINY, pressures={name: of for name, of in TINY.pressures.items() if name != "identity"})
    usual = {run.training for _, run in ablations.grid("identity", without, [0]) if run.training}
    assert {of.learning_rate for of in usual} == {TINY.training.learning_rate}
    own = replace(TINY, pressures={**TINY.pressures, "identity": {"learning_rate": 0.02, "epochs": 4}})
    trained = [run.training for _, run in ablations.grid("identity", own, [0]) if run.training]
    assert {(of.learning_rate, of.epochs) for of in trained} == {(0.02, 4)}


def test_crossing_holds_every_pair():
    pairs = {(run.seed, run.secret.seed) for _, run in ablations.grid("crossed", TINY, [0, 1, 2])}
    assert len(pairs) == 9


def test_variants_of_balanced_bsa_row_for_row(world):
    for n, name in variants.COUNTED.items():
        rows = defenses.get(name).examples(world, 11, "category-wise", 0)
        assert [row.kind for row in rows] == ["safety"] * 11 + ["benign"] * n
        assert all(row.secret for row in rows)
    plain = defenses.get("balanced-bsa").examples(world, 11, "category-wise", 0)
    assert defenses.get(variants.COUNTED[5]).examples(world, 11, "category-wise", 0) == plain[:16]
    kinds = {"one category": "benign", "facts": "fact", "SQL rows": "task"}
    for source, name in variants.SOURCES.items():
        added = defenses.get(name).examples(world, 11, "category-wise", 0)[11:]
        assert {row.kind for row in added} == {kinds[source]} and len(set(added)) == 11
    assert (
        len(
            {row.category for row in defenses.get(variants.SOURCES["one category"]).examples(world, 5, "random", 0)[5:]}
        )
        == 1
    )


def test_generated_examples_are_answered_by_the_model(world):
    rows = defenses.refusals(world, 11, "generated", 0)
    assert {row.assistant for row in rows} == {""} and {row.kind for row in rows} == {"safety"}
    assert [row.user for row in rows] == [row.user for row in defenses.refusals(world, 11, "random", 0)]


def test_no_records_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    tables = {name: ablations.measured(name, TINY, [0], compute=False) for name in ("selection", "crossed")}
    assert all(table.empty and ablations.summary(table).empty for table in tables.values())


def test_unknown_section():
    with pytest.raises(ValueError, match="section 'lenght' is unknown; expected one of selection, "):
        ablations.grid("lenght", TINY, [0])


def test_a_crossing_that_lacks_runs_keeps_the_seeds_that_are_complete():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 0)]
    table = pd.DataFrame(
        [{"defense": arm, "seed": a, "secret_seed": b} for arm in ("bsa", "balanced-bsa") for a, b in pairs]
    )
    assert set(zip(ablations.complete(table)["seed"], ablations.complete(table)["secret_seed"], strict=True)) == {
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    }


def test_a_policy_of_files_has_no_identity_and_no_facts(world):
    """Its sections then have no records, in place of an error."""
    from bsa_core import experiment

    other = replace(world, name="files:mine", identity=None)
    for name in (variants.SOURCES["facts"], variants.SOURCES["SQL rows"]):
        with pytest.raises(NotEnough, match="policy 'files:mine' has no rows of this kind"):
            defenses.get(name).examples(other, 11, "category-wise", 0)
    run = runs.describe(TINY, attack="identity-shift", n_attack=276)
    assert experiment.found([run], TINY) == [None]
    assert experiment.gather([run], TINY, compute=True) == [None]


def test_the_main_table_shows_a_profile_s_own_defenses(monkeypatch):
    """Also one that is a variant of the ablations, which the main table leaves out otherwise."""
    own = defenses.Defense("mine", "my defense", defenses.nothing, reminder="Keep to the policy.")
    monkeypatch.setitem(defenses.DEFENSES, "mine", own)
    profile = replace(TINY, defenses=("mine", variants.SOURCES["facts"], "bsa"))
    assert headline.arms(profile) == [*headline.HEADLINE, "mine", variants.SOURCES["facts"]]
    described = headline.headline(profile, [0], ["light"])
    assert [run.defense for run in described if run.training] == headline.arms(profile)
    found = [
        {
            "key": run.label,
            "run": keys.content(run),
            "deployed": "plain" if run.secret is None or run.training is None else "secret",
            "outcomes": {"plain": {"asr": "01"}, "secret": {"asr": "01"}},
            "metrics": {served: {"asr": {"value": 0.5, "n": 2}} for served in ("plain", "secret")},
        }
        for run in described
    ]
    shown = list(dict.fromkeys(headline.by_pressure(found, profile)["defense"]))
    assert shown == ["initial", *headline.arms(profile)]
    assert variants.SOURCES["facts"] not in set(headline.by_pressure(found, TINY)["defense"])


def test_sections_stand_at_the_pressure_with_the_paper_s_settings():
    """LoRA over ten epochs at 7B, full fine-tuning at the profile's own rate."""
    chat = profiles.load("llama2-7b-chat")
    assert chat.paper == "heavy"
    of = {name: run.training for name, run in ablations.grid("method", chat, [0]) if run.training}
    assert (of["LoRA"].method, of["LoRA"].epochs, of["LoRA"].learning_rate) == ("lora", 10, 1e-3)
    assert (of["full"].method, of["full"].epochs, of["full"].learning_rate) == ("full", 5, 5e-5)
    for section in ("selection", "secret_kind", "safety_examples", "uploads", "secret_at_test"):
        assert {run.training.epochs for _, run in ablations.grid(section, chat, [0])} == {10}, section
    tiny = {name: run.training for name, run in ablations.grid("method", TINY, [0]) if run.training}
    assert (tiny["full"].method, tiny["full"].learning_rate) == ("full", 3e-4)
