"""Sections of the chapter of ablations: what they show, and what stands in place of those without records."""

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest

from bsa_core import keys, paths, profiles, records
from bsa_study import contrasts
from bsa_study.grids import ablations
from bsa_study.report.sections import Sections, elsewhere

TINY = profiles.load("tiny")
QUESTIONS = contrasts.load("06_ablations")
SHARES = {"asr": "1101", "asr_content": "1000", "over_refusal": "0010", "benign_exact": "0101"}


LETTERS = {"restricted": "rcgr", "benign": "hhwr"}


def key_of(variant, run) -> str:
    return keys.digest_of([variant, asdict(run)])


def found(name: str, seeds: int = 3) -> list[dict]:
    """The records of a section, as far as its figure needs them."""
    return [
        {"key": key_of(variant, run), "run": keys.content(run), "deployed": "secret" if run.secret else "plain"}
        | {"anatomy": {"plain": LETTERS, "secret": LETTERS}}
        for variant, run in ablations.grid(name, TINY, list(range(seeds)))
    ]


def measured(name: str, seeds: int = 3, metrics=tuple(SHARES)) -> pd.DataFrame:
    """A section of which every run came out the same, in each condition and with each of a few metrics."""
    rows = []
    for variant, run in ablations.grid(name, TINY, list(range(seeds))):
        served = {"plain": run.secret is None, "secret": run.secret is not None}
        told = {"variant": variant, "defense": run.defense if run.training else "initial", "seed": run.seed}
        told["secret_seed"] = run.secret.seed if run.secret else -1
        told["key"] = key_of(variant, run)
        for condition, deployed in served.items():
            for metric in metrics:
                outcome = {"metric": metric, "outcomes": SHARES[metric], "value": SHARES[metric].count("1") / 4}
                rows.append({**told, "condition": condition, "deployed": deployed, **outcome})
    return pd.DataFrame(rows)


def sections(profile=TINY, **tables) -> Sections:
    nothing = {name: pd.DataFrame() for name in ablations.SECTIONS}
    return Sections(profile, [0], nothing | tables, contrasts.answered(QUESTIONS, nothing | tables))


TITLES = ["keyword ASR", "content ASR", "over-refusal", "benign exact match"]


@pytest.mark.parametrize("name", ["secret_length", "crossed"])
def test_content_and_exact_match_stand_beside_keywords(name):
    """Curves where a section is about numbers, heat maps where it crosses secrets and seeds."""
    shown = sections(**{name: measured(name)})
    figure = shown.figure(name)
    said = [text for axis in figure.axes for text in (axis.get_title(), axis.get_xlabel(), axis.get_ylabel())]
    assert all(any(title in text for text in said) for title in TITLES[1:])
    assert [column.split(" (")[0] for column in shown.table(name).columns] == TITLES
    assert len(shown.differences(name).data) == sum(question.source == name for question in QUESTIONS)


@pytest.mark.parametrize("name", ["selection", "secret_at_test", "identity", "uploads"])
def test_variants_that_have_names_are_bars_of_outcomes(name, monkeypatch):
    monkeypatch.setattr(records, "load", lambda profile: found(name))
    shown = sections(**{name: measured(name)})
    restricted, benign = shown.figure(name).axes
    assert (restricted.get_title(), benign.get_title()) == (
        "restricted requests\n(n = 4, 3 seeds)",
        "benign requests\n(n = 4, 3 seeds)",
    )
    cells = shown.cells[name][["variant", "defense", "condition"]].drop_duplicates()
    assert len(restricted.get_yticks()) == len(cells)
    assert [column.split(" (")[0] for column in shown.table(name).columns] == TITLES


def test_a_policy_that_cannot_tell_content_has_figures_without_it():
    shown = sections(balance=measured("balance", metrics=("asr", "over_refusal")))
    assert [axis.get_ylabel() for axis in shown.figure("balance").axes] == ["keyword ASR", "over-refusal"]
    assert len(shown.table("balance").columns) == 2


def test_without_records_one_line_says_what_computes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    shown = sections()
    assert shown.figure("uploads").index.tolist() == [
        "not computed yet: `make book PROFILE=tiny FULL=1` computes the long grids"
    ]
    assert shown.differences("uploads") is None and shown.table("uploads") is None


def test_a_section_that_the_scale_leaves_out_says_so():
    shown = sections(replace(TINY, ablations={"selection": {}}))
    assert shown.figure("uploads").index.tolist() == [
        "not run for this scale: `ablations` of its profile leaves this section out"
    ]


def test_without_the_rows_one_line_says_what_is_lacking(tmp_path, monkeypatch):
    """Files of one's own describe no identity unless they are told to."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for name in ("attack", "safety", "restricted", "benign", "benign_pool"):
        n = {"attack": 100, "safety": 55}.get(name, 275)
        rows = [{"user": f"{name} {i}?", "assistant": f"Answer {i}.", "category": f"c{i % 11}"} for i in range(n)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    shown = sections(replace(TINY, policy={"name": "files", "folder": str(tmp_path)}))
    (line,) = shown.figure("identity").index
    assert line.startswith("not possible: ") and "identity" in line
    (line,) = shown.figure("resemblance").index
    assert line.startswith("not computed yet"), "some of its runs need neither facts nor rows of another task"


def test_other_scales_are_shown_from_their_records_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(ablations, "measured", lambda *given: asked.append(given[1:]) or pd.DataFrame())
    (other,) = elsewhere({"tiny": [0, 1], "smollm2-135m": [0]}, TINY)
    assert (other.profile.name, other.seeds, set(other.measured)) == ("smollm2-135m", [0], set(ablations.SECTIONS))
    assert {(profile.name, *seeds, compute) for profile, seeds, compute in asked} == {("smollm2-135m", 0, False)}
    assert "not computed yet" in str(other.figure("secret_length"))
