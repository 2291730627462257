"""The benchmark on CPUs, in miniature: every row's code runs, what differs does not count, and the page shows it."""

import json
import sys
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare  # noqa: E402
import growth  # noqa: E402
import page  # noqa: E402
import rows  # noqa: E402
import trainers  # noqa: E402
import turns  # noqa: E402
import where  # noqa: E402
from turns import Contender, Measured  # noqa: E402

OPTIONS = rows.Options(tiny=True, turns=2, threads=1)


class Inline:
    """A contender's side in this process: each turn takes as long as it is told to."""

    def __init__(self, found: Measured, seconds: float):
        self.found, self.seconds = found, seconds

    def begin(self, **told) -> None:
        self.found.told = told

    def __call__(self, said) -> None:
        self.found.said.append(said)
        self.found.wall.append(self.seconds)
        self.found.cpu.append(self.seconds)
        self.found.peak_memory_mb = 500.0


@pytest.fixture
def inline(monkeypatch):
    """Races without processes; the second contender takes twice as long as the first, and so on. Less is padded."""
    monkeypatch.setattr(trainers, "PADDED", 80)

    def race(contenders: dict[str, Contender], turns: int) -> dict[str, Measured]:
        found = {name: Measured() for name in contenders}
        for place, (name, contender) in enumerate(contenders.items(), start=1):
            contender.run(contender.work, Inline(found[name], float(place)))
        return found

    for module in (rows, growth):
        monkeypatch.setattr(module, "race", race)


def measured(cpu: list[float], losses: list[float]) -> Measured:
    return Measured({}, cpu, cpu, [losses[:2], losses[2:]], 500.0)


def test_losses_that_differ_do_not_count():
    """Beyond the bound of their number format; the ratio is that of medians."""
    losses = [2.0, 1.5, 1.0, 0.5]
    found = {"ours": measured([1.0, 9.0, 2.0], losses), "near": measured([4.0] * 3, [2.0, 1.50006, 1.0, 0.5])}
    made = rows.against(found, rows.disagreement, rows.AGREE)
    assert made["counts"] and made["contenders"]["near"]["differs"] == pytest.approx(4e-5)
    assert made["contenders"]["near"]["cpu_seconds_ratio"] == 2.0 and made["reasons"] == []
    far = measured([1.0], [2.0, 1.5, 1.0, 0.49])
    made = rows.against(found | {"far": far}, rows.disagreement, 1e-4)
    assert not made["counts"] and made["reasons"] == ["far differs from ours by 0.02, more than 0.0001"]
    with pytest.raises(ValueError, match="a loss is not finite"):
        rows.disagreement(losses, [2.0, 1.5, 1.0, float("nan")])
    with pytest.raises(ValueError, match="shorter"):
        rows.disagreement(losses, losses[:3])


def test_only_the_first_updates_are_compared():
    losses = [1.0] * rows.UPDATES
    assert rows.disagreement([*losses, 1.0], [*losses, 2.0]) == 0.0


def test_answers_may_differ_in_one_of_275(inline, monkeypatch):
    own = ["granted"] * 275
    for different, counts in ((1, True), (2, False)):
        said = {"ours": own, "generate": ["refused"] * different + own[different:]}
        found = {name: Measured({}, [1.0], [1.0], [texts], 1.0) for name, texts in said.items()}
        monkeypatch.setattr(rows, "race", lambda contenders, turns, found=found: found)
        assert rows.against_generate("tiny", OPTIONS, 8)["counts"] is counts


def test_another_way_to_train_is_told_apart(inline):
    """The release's loop gives our losses; at another rate it does not, and its row does not count."""
    work = rows.training_work(rows.profile_of("tiny", OPTIONS), 10, 2)
    faster = replace(work, profile=rows.profile_of("tiny", OPTIONS, learning_rate=0.002))
    made = rows.fine_tuning(work, {"ours": trainers.ours, "release": trainers.release})
    assert made["counts"] and made["compared"] == 2 and made["contenders"]["release"]["differs"] < 1e-5
    made = rows.fine_tuning(
        work, {"ours": trainers.ours, "faster": lambda work, turns: trainers.release(faster, turns)}
    )
    assert not made["counts"] and made["contenders"]["faster"]["differs"] > 1e-3
    # a turn of product takes 3 s, one of ours 1 s
    product, ours = made["product"], made["contenders"]["ours"]
    assert ours["gflop_per_cpu_second"] == pytest.approx(4 * ours["parameters"] * work.tokens() / 1e9)
    assert ours["share_of_product"] == pytest.approx(made["gflop"] / product["gflop_per_cpu_second"])


def test_work_that_cannot_be_compared():
    profile = rows.profile_of("tiny", OPTIONS)
    work = rows.training_work(profile, 10, 1)
    with pytest.raises(ValueError, match="takes whole batches and no dropout, not 9 rows in batches of 10"):
        replace(work, rows=work.rows[:9])
    with pytest.raises(ValueError, match=r"not 10 rows in batches of 10, dropout 0\.05"):
        replace(work, profile=replace(profile, training=replace(profile.training, dropout=0.05)))


@pytest.mark.slow
def test_a_race_in_processes():
    """Each contender in its own, with its own clocks and memory; the slower recipe takes more CPU time."""
    work = rows.training_work(rows.profile_of("tiny", OPTIONS), 10, 2)
    found = turns.race(
        {"ours": Contender(trainers.ours, work), "release": Contender(trainers.release, work)}, work.turns
    )
    assert rows.disagreement(*([loss for turn in each.said for loss in turn] for each in found.values())) < 1e-5
    for each in found.values():
        assert len(each.wall) == len(each.cpu) == len(each.said) == 2 and min(each.cpu) > 0
        assert 100 < each.summary()["peak_memory_mb"] < 5_000
    assert found["release"].told == {"padded_to": 512} and found["ours"].told["parameters"] == 970_240


def test_ways_in_bfloat16_may_be_twice_as_far_apart_as_it_is_from_float32(inline):
    bfloat, finer = (
        rows.training_work(rows.profile_of("tiny", OPTIONS, dtype), 10, 2) for dtype in ("bfloat16", "float32")
    )
    made = rows.fine_tuning(bfloat, {"ours": trainers.ours, "release": trainers.release}, finer)
    apart = made["contenders"]["float32"]["differs"]
    assert 1e-4 < apart < 0.1 and made["bound"] == 2 * apart and made["counts"], made["reasons"]
    assert "share_of_product" not in made["contenders"]["float32"], "the product is one of bfloat16"


@pytest.mark.slow
def test_trl_gives_our_losses():
    """With its defaults and without padding; where the extra `benchmarks` is installed."""
    pytest.importorskip("trl")
    made = rows.against_sft("tiny", OPTIONS, "float32")
    assert made["counts"], made["reasons"]
    assert made["contenders"]["TRL, best"]["settings"]["padding_free"]


def test_a_contender_that_fails_is_named():
    class Work:
        def small(self):
            raise KeyError("no such row")

    ours, theirs = Pipe()
    turns.work(theirs, Contender(trainers.ours, Work()), 1)
    with pytest.raises(ValueError, match="release: KeyError: 'no such row'"):
        turns.heard(ours, "release")
    theirs.close()
    with pytest.raises(ValueError, match="release: its process ended without a word"):
        turns.heard(ours, "release")


def test_the_command_resumes_row_by_row_and_the_page_shows_it(inline, tmp_path, monkeypatch, capsys):
    """A row that failed is measured again, one with a record is not; a row without TRL costs the others nothing."""
    asked = ["--tiny", "--turns", "2", "--threads", "1", "--out", str(tmp_path)]
    taken = ["release-tiny", "stacked", "generate", "where", "growth-stacked", "growth-examples", "growth-secret"]

    def broken(options):
        raise ValueError("TRL, defaults: ModuleNotFoundError: No module named 'trl'")

    monkeypatch.setitem(rows.ROWS, "sft-float32", broken)
    assert compare.main([*asked, "--only", "sft-float32", *taken]) == 1
    assert "sft-float32: ValueError: TRL, defaults: Module" in capsys.readouterr().out
    stamps = {row: (tmp_path / f"{row}.json").stat().st_mtime_ns for row in taken}
    monkeypatch.setitem(rows.ROWS, "sft-float32", rows.ROWS["release-tiny"])
    assert compare.main([*asked, "--only", "sft-float32", *taken]) == 0
    assert stamps == {row: (tmp_path / f"{row}.json").stat().st_mtime_ns for row in taken}

    record = json.loads((tmp_path / "growth-secret.json").read_text(encoding="utf-8"))
    assert record["sizes"] == [5, 10] and set(record["parts"]) == {"fine-tuning", "answers"}
    assert record["parts"]["answers"]["slopes_cpu_seconds"] == [0.0]  # a turn takes one second here
    record = json.loads((tmp_path / "stacked.json").read_text(encoding="utf-8"))
    assert record["runs"] == 2 and record["contenders"]["one by one"]["differs"] < 1e-4
    record = json.loads((tmp_path / "generate.json").read_text(encoding="utf-8"))
    assert record["secret_tokens"] == 150 and record["contenders"]["generate"]["differs"] == 0.0
    record = json.loads((tmp_path / "where.json").read_text(encoding="utf-8"))
    assert record["rows"] == 10 and record["dropout"] == 0.05
    shown = page.page(page.PAGE.read_text(encoding="utf-8"), tmp_path)
    twice = "2.00\N{NO-BREAK SPACE}×"
    assert f"| fine-tune `tiny`, 100 attack rows | the release's recipe | {twice} | {twice} | 1 and 2 |" in shown
    assert (
        "\nNot measured: " in shown
        and "; one update of `smollm2-135m`, 10 rows; " in shown
        and ":::{figure} benchmarks_growth.svg" in shown
    )
    assert "Not measured: `tiny`, LoRA on all linear layers; `smollm2-135m`, LoRA on q and v." in shown
    assert "| tokens of the secret: 10 | answers | 1 | 1 | 500 | 0.00 |" in shown
    assert f"torch {record['environment']['torch']}" in shown
    assert page.stamp(tmp_path).encode() in page.svg(tmp_path)
    assert page.svg(tmp_path / "none") is None


def test_where_the_time_goes():
    """What no operation takes is between them: not less than nothing, and not all."""
    with_dropout, without = (rows.spent("tiny", OPTIONS, 10, **more) for more in ({}, {"dropout": 0.0}))
    for found in (with_dropout, without):
        assert 0 < found["shares"][where.BETWEEN] < 0.8 and found["torch_threads"] == 1
        assert all(found["shares"][kind] > 0 for kind in ("products of matrices", "attention", "optimizer"))
    random = "random numbers of dropout"
    assert with_dropout["shares"][random] > 0 == without["shares"][random]


def test_slopes():
    points = [{"cpu_seconds": cost} for cost in (1.0, 2.0, 8.0)]
    assert growth.slopes((10, 20, 40), points, "cpu_seconds") == pytest.approx([1.0, 2.0])


def test_the_page_shows_the_records_that_are_committed():
    """Tables and figure: python benchmarks/page.py."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(text, page.RECORDS) == text
    grown = [row for row in page.GROWTH if page.read(page.RECORDS, row)]
    assert page.FIGURE.is_file() == bool(grown)
    assert not grown or page.stamp(page.RECORDS) in page.FIGURE.read_text(encoding="utf-8")
    assert set(page.TITLES) | set(page.WHERE) | set(page.GROWTH) == set(rows.ROWS)
