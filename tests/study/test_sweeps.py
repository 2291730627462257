"""Sweeps: the file and its mistakes, points and jobs, what counts as computed, how long the rest takes, the table."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bsa_core import paths, profiles, records
from bsa_core.experiment import describe
from bsa_study.grids import ablations, headline
from bsa_study.sweeps import cost, grid, jobs, results

TINY = profiles.load("tiny")
SHIPPED = sorted((paths.ROOT / "sweeps").glob("*.yaml"))
GRID = """
profiles: [tiny]
seeds: [0, 4]
grid:
  defense: [none, bsa]
  n_attack: [22]
  epochs: [2, 5]
  secret:
    short: {secret_length: 8, secret_seed: 3}
    paper: {}
  evaluation.restricted: [22, 44]
"""


@pytest.fixture
def written(tmp_path):
    """A function that writes the file of a sweep and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def runs(path: Path) -> set:
    return {run for job in jobs.read(str(path)) for run in job.runs}


# the sweeps that ship


def test_one_for_every_ablation_and_every_scale():
    expected = {"example", *ablations.SECTIONS, *profiles.available()}
    assert {path.stem for path in SHIPPED} == expected


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_they_are_the_runs_of_the_book(path):
    sweep, found = grid.read(path), runs(path)
    if sweep.book in ablations.SECTIONS:
        assert path.stem == sweep.book
        assert found == {run for _, run in ablations.grid(path.stem, TINY, [*sweep.seeds])}
    elif sweep.book:
        scale = profiles.load(path.stem)
        assert found == set(headline.headline(scale, [*sweep.seeds], [scale.paper]))
    assert found


@pytest.mark.parametrize("name", ["tiny", "smollm2-135m", "secret_length", "uploads"])
def test_records_that_ship_count_where_they_are_wanted(name, shared_results, monkeypatch):
    asked = jobs.read(f"sweeps/{name}.yaml")
    assert not any(results.found(asked, shipped=True).values())  # the results folder of a test is empty
    monkeypatch.setattr(paths, "RESULTS", shared_results)
    assert all(results.found(asked, shipped=True).values())
    assert not all(results.found(asked, shipped=False).values()) or name == "tiny"
    table = results.table(asked, results.found(asked, shipped=True))
    assert (table["runs"] == (3 if name != "uploads" else table["runs"])).all()
    assert table["content ASR"].max() > 0.3


def test_a_grid_that_says_the_same_is_the_same(written):
    text = "profiles: [tiny]\nseeds: [0, 1, 2]\ngrid:\n  defense: [bsa, balanced-bsa]\n"
    same = written(text + "  secret_length: [10, 50, 100, 150, 200, 250]\n")
    assert runs(same) == runs(paths.ROOT / "sweeps" / "secret_length.yaml")


# points and jobs


def test_every_value_with_every_other(written):
    made = grid.points(written(GRID))
    assert len(made) == 2 * 2 * 2 * 2 * 2
    first = made[0]
    assert first.name == "defense none, epochs 2, short, evaluation.restricted 22"
    assert (first.profile.name, first.like) == ("tiny-restricted-22", "tiny")
    assert first.profile.evaluation == replace(TINY.evaluation, restricted=22)
    changes = {"n_attack": 22, "epochs": 2, "secret_length": 8, "secret_seed": 3, "pressure": "light"}
    assert first.run == describe(first.profile, "none", seed=0, **changes)
    assert {point.run.seed for point in made} == {0, 4}


def test_a_job_is_what_shares_a_training(written):
    made = jobs.read(str(written(GRID)))
    assert len(made) == 16 and all(len(job.runs) == 2 for job in made)
    assert all({run.training.epochs for run in job.runs} == {2, 5} for job in made)
    assert all(re.fullmatch(r"[\w.=+-]+-seed[04]-[0-9a-f]{8}", job.name) for job in made)
    assert made[0].name.startswith("tiny-defense-none-short-evaluation.restricted-22-seed0-")
    assert len({job.name for job in made}) == 16


def test_two_points_may_be_one_run(written):
    path = written("profiles: [tiny]\nseeds: [0]\ngrid: {defense: [none, bsa], n_defense: [5, 11]}")
    assert (len(grid.points(path)), len(jobs.read(str(path)))) == (4, 3)
    assert {point.name for job in jobs.read(str(path)) for point in job.points} == {
        f"defense {defense}, n_defense {n}" for defense in ("none", "bsa") for n in (5, 11)
    }


def test_a_job_has_the_same_name_wherever_it_runs(written, monkeypatch):
    """A cluster's first machine has no GPU; another seed, value or profile is another job."""
    path = written(GRID)
    names = [job.name for job in jobs.read(str(path))]
    monkeypatch.setattr("bsa_core.experiment.runs.device", lambda compute: "cuda")
    assert [job.name for job in jobs.read(str(path))] == names
    others = [job.name for job in jobs.read(str(written(GRID.replace("[22]", "[33]"))))]
    assert not set(others) & set(names)


def test_one_job_by_its_name(written):
    path = written(GRID)
    name = jobs.read(str(path))[3].name
    assert [job.name for job in jobs.read(str(path), name)] == [name]
    with pytest.raises(ValueError, match=r"mine.yaml: no job is called 'x'; `tools/sweep.py .* --dry-run` lists them"):
        jobs.read(str(path), "x")


def test_sections_of_a_profile_are_set_whole_or_by_field(written):
    text = "profiles: [tiny]\nseeds: [0]\ngrid:\n  {}\n"
    (point,) = grid.points(written(text.format("policy.seed: [3]")))
    assert (point.profile.policy, point.profile.name) == ({"name": "guild", "seed": 3}, "tiny-seed-3")
    (point,) = grid.points(written(text.format("policy: [{name: guild, seed: 3}]")))
    assert (point.profile.policy["seed"], point.profile.name) == (3, "tiny-policy-guild-3")
    assert point.name == "policy guild 3"


def test_a_profile_of_ones_own_lies_beside_the_sweep(written, tmp_path, monkeypatch):
    """Whatever the working folder: that of a job is not that of `make sweep`."""
    path = written("profiles: [mine/small.yaml, profiles/tiny.yaml]\nseeds: [0]\ngrid: {defense: [bsa]}")
    (tmp_path / "mine").mkdir()
    text = (paths.PROFILES / "tiny.yaml").read_text(encoding="utf-8").replace("name: tiny\n", "name: small\n")
    (tmp_path / "mine" / "small.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir("/")
    assert [point.profile.name for point in grid.points(path)] == ["small", "tiny"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the file is empty; expected a sweep, as YAML"),
        ("profiles: [tiny\n", "not valid YAML"),
        ("- tiny\n", "expected profiles, seeds and a grid, found list"),
        ("profiles: [tiny]\nseed: [0]\nbook: main", "unknown field 'seed'; expected profiles, seeds, grid, book"),
        ("profiles: [tiny]\nseeds: [0]\nseeds: [1]\nbook: main", "line 3: 'seeds' is there twice; keep one"),
        ("profiles: tiny\nseeds: [0]\nbook: main", "profiles is 'tiny'; expected a non-empty list"),
        ("profiles: []\nseeds: [0]\nbook: main", r"profiles is \[\]; expected a non-empty list"),
        ("profiles: [tyni]\nseeds: [0]\nbook: main", "profile 'tyni' is unknown"),
        ("profiles: [tiny, tiny]\nseeds: [0]\nbook: main", "profiles lists 'tiny' twice; keep one"),
        ("profiles: [tiny]\nseeds: 0\nbook: main", "seeds is 0; expected a non-empty list"),
        ("profiles: [tiny]\nseeds: ['0']\nbook: main", r"seeds\[0\] is '0'; expected a whole number"),
        ("profiles: [tiny]\nseeds: [true]\nbook: main", r"seeds\[0\] is True; expected a whole number"),
        ("profiles: [tiny]\nseeds: [-1]\nbook: main", "seeds has -1; expected whole numbers from 0"),
        ("profiles: [tiny]\nseeds: [1, 1]\nbook: main", "seeds lists 1 twice; keep one"),
        ("profiles: [tiny]\nseeds: [0]", "expected either `grid`, with fields and their values, or `book`"),
        ("profiles: [tiny]\nseeds: [0]\nbook: main\ngrid: {defense: [bsa]}", "expected either `grid`"),
        ("profiles: [tiny]\nseeds: [0]\nbook: lenght", "book is 'lenght'; expected one of main, selection, "),
        ("profiles: [smollm2-135m]\nseeds: [0]\nbook: method", "profile 'smollm2-135m' leaves out 'method'"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: [bsa]", r"grid is \['bsa'\]; expected a mapping"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {defense: bsa}", "grid.defense is 'bsa'; expected a non-empty list"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {defense: []}", r"grid.defense is \[\]; expected a non-empty list"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {defense: [bsa, bsa]}", "grid.defense lists 'bsa' twice; keep one"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {defence: [bsa]}", "grid.defence: unknown field 'defence'; expected one"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {seed: [1]}", "grid.seed: unknown field 'seed'"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {tasks.sql: [1]}", "grid.tasks.sql: unknown field 'tasks.sql'"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {arm: {a: 1}}", "grid.arm.a is 1; expected fields and their values"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {arm: {a: {rang: 1}}}", "grid.arm.a: unknown field 'rang'"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {defense: [bsaa]}", "tiny, defense bsaa: .*'bsaa'"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {epochs: ['3']}", "tiny, epochs 3: training.epochs is '3'; expected a"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {n_attack: [-3]}", "tiny, n_attack -3: n_attack is -3"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {pressure: [hevy]}", "tiny, pressure hevy: pressure 'hevy' is unknown"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {evaluation.benine: [5]}", "evaluation.benine: unknown field; expected"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {evaluation.benign: [0]}", "evaluation.benign is 0; expected"),
        ("profiles: [tiny]\nseeds: [0]\ngrid: {evaluation.benign.x: [0]}", "evaluation.benign.x: profiles have no"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(text, message, written):
    path = written(text)
    with pytest.raises(ValueError, match=message) as found:
        jobs.read(str(path))
    assert "\n" not in str(found.value) and (str(path) in str(found.value) or "tyni" in text)


def test_a_file_that_is_not_there():
    with pytest.raises(ValueError, match=r"nowhere\.yaml: No such file or directory; expected a file with a sweep"):
        jobs.read("sweeps/nowhere.yaml")


# what is there, and the rest


def test_time_by_similar_records_and_unknown_without(shared_results, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", shared_results)
    known = records.load("tiny")
    run = describe(TINY, "bsa", n_attack=100)
    seconds, how = cost.seconds([run], TINY, known)
    assert how == "about"
    longer, _ = cost.seconds([replace(run, training=replace(run.training, epochs=100))], TINY, known)
    assert longer > 3 * (seconds - cost.STARTING)
    shared = [replace(run, training=replace(run.training, epochs=n)) for n in (1, 10)]
    both, _ = cost.seconds(shared, TINY, known)
    assert both - seconds == pytest.approx(cost.asked(run, TINY, known)), "one training, two evaluations"
    fewer = replace(TINY, evaluation=replace(TINY.evaluation, restricted=22, benign=22))
    assert cost.asked(run, fewer, known) == pytest.approx(cost.asked(run, TINY, known) * 44 / 550)
    monkeypatch.setattr(cost, "measured", lambda *of: pytest.fail("of a model that would have to be downloaded"))
    unknown = replace(TINY, model=replace(TINY.model, source="hub", name="nobody/nothing"))
    assert cost.seconds([run], unknown, []) is None


def test_the_table_is_of_means_over_seeds(shared_results, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", shared_results)
    asked = jobs.read("sweeps/tiny.yaml")
    there = results.found(asked, shipped=True)
    table = results.table(asked, there).set_index(["point", "condition"])
    values = [record["metrics"]["secret"]["asr"]["value"] for run, record in there.items() if run.defense == "bsa"]
    assert table.loc[("bsa", "secret"), "keyword ASR"] == pytest.approx(sum(values) / 3)
    titles = ["keyword ASR", "content ASR", "over-refusal", "benign exact match"]
    assert list(table.columns) == ["profile", *titles, "runs"]
    assert results.table(asked, dict.fromkeys(there)).empty


def test_the_notebook_of_a_job_computes_its_runs_once(written, results, monkeypatch):
    """Runs with records are not computed again, and one for which there are too few rows is left out."""
    text = "profiles: [tiny]\nseeds: [0]\ngrid: {defense: [safety-data], n_defense: [11, 5000]}"
    asked, executed = jobs.read(str(written(text))), []
    from bsa_study.sweeps import results as of_sweeps

    monkeypatch.setattr("bsa_core.experiment.chain.execute", lambda runs, profile, keep: executed.extend(runs) or runs)
    of_sweeps.compute(asked, shipped=False)
    assert [run.n_defense for run in executed] == [11]
    assert [run.n_defense for run in of_sweeps.found(asked, shipped=False)] == [11]


def test_the_example_is_the_one_that_the_book_shows():
    """It is executed by test_sweep.py."""
    page = (paths.ROOT / "book" / "rerun.md").read_text(encoding="utf-8")
    example = (paths.ROOT / "sweeps" / "example.yaml").read_text(encoding="utf-8")
    assert f"```yaml\n{example}```" in page


def test_the_notebook_is_of_the_example():
    cells = json.loads((paths.ROOT / "sweeps" / "job.ipynb").read_text(encoding="utf-8"))["cells"]
    assert 'sweep = "sweeps/example.yaml"' in "".join(cells[1]["source"])
