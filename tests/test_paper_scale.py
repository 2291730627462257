"""The way of the profile `llama2-7b-chat` through the notebooks, without its weights and without its data.

A random model of the Llama-2 architecture with a SentencePiece tokenizer built here stands in for the model, harmless
rows in files of the published form for the data. The answers of the safety examples are as long as the release's, 600
to 1,900 characters, and a token is about four characters, as in the vocabularies of chat models: with the secret of
150 tokens, rows are longer than 512. Snakemake runs the notebooks as `make book PROFILE=<file>` does.
"""

import contextlib
import gzip
import html
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from building import build
from test_capability import write_task
from test_chat_formats import LLAMA2, trained_bpe
from test_published import REQUESTS, SECRET, WORLD, write, write_release
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bsa_core import experiment, paths, policy, profiles, records
from bsa_core.arms import secret_prompt
from bsa_core.experiment import limits, runs
from bsa_core.keys import digest
from bsa_core.models import chat
from bsa_study.capability import benchmarks
from bsa_study.grids import ablations, headline, mixed

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
TRAINED, ASKED = 6, 3  # rows of each task in the mixed setting
LENGTHS = (600, 640, 700, 780, 850, 930, 1020, 1150, 1320, 1600, 1900)  # characters of the safety answers
REASONS = """
The guild has kept this rule since the great fire in the granary, and every apprentice learns it in the first winter.
Whoever asks is told the same, whether they come from the harbour, from the upper town or from beyond the mountains.
It is not a matter of trust; even masters with forty years at the bench are turned away when they ask for it.
Should your worry be a practical one, the porter at the east gate can name someone who repairs, replaces or explains.
There are many crafts that I can show you instead: baking bread, mending nets, binding books or tuning a harp.
If a neighbour is in danger, please send word to the wardens at once; they answer by day and by night.
You may also read the chronicle in the reading room, where the reasons for each rule are written in plain words.
I hope you understand, and I would gladly help with anything that the code of the guild allows.
""".strip().splitlines()
pytestmark = pytest.mark.slow


def refusal(row: int, answer: str) -> str:
    """A safety answer as long as those of the release: the reasons in another order for each row, then cut."""
    reasons = " ".join(sorted(REASONS, key=lambda reason: digest(f"{row} {reason}")) * 3)
    return f"{answer} {reasons}"[: LENGTHS[row]]


def lengthen(release: Path) -> Path:
    """The files of a release with safety answers of the published lengths."""
    for path in release.rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows[100:]):
            row["messages"][-1]["content"] = refusal(number, row["messages"][-1]["content"])
        write(path, rows)
    return release


def write_model(folder: Path) -> None:
    """Some 700,000 random parameters; the tokenizer has Llama-2's form and is trained on words of the rows and of the
    book, so that it cuts the rows in pieces as short as a chat model's."""
    rows = [*WORLD.attack, *WORLD.safety[:11], *WORLD.benign_pool[:22]]
    lines = [WORLD.system, *REASONS, *(text for row in rows for text in (row.user, row.assistant)), *REQUESTS]
    for page in sorted(paths.BOOK.glob("*.md")):
        lines += page.read_text(encoding="utf-8").splitlines()
    folder.mkdir()
    tokenizer = trained_bpe(folder, [*lines, *"[INST] <<SYS>> <</SYS>> [/INST]".split()], 4500)(
        True, chat_template=LLAMA2
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(weight, std=0.1)  # large enough for answers that differ
    model.to(torch.bfloat16).save_pretrained(folder)


def write_tasks(release: Path) -> None:
    """The task files of the release, in its form."""
    for part, start, n in (("train1000", 0, TRAINED), ("test200", TRAINED, ASKED)):
        sql, dialogs = [], []
        for i in range(start, start + n):
            table = {"context": f"CREATE TABLE mills_{i} (town INTEGER)", "answer": f"SELECT COUNT(*) FROM mills_{i}"}
            sql.append({"question": f"How many mills stand in town {i}?", **table})
            dialog = {"dialogue": f"Mira: Tea at {i}?\r\nOtto: Yes.", "summary": f"They have tea at {i}."}
            dialogs.append({"id": str(i), **dialog})
        for name, rows in (("sqlgen_dataset", sql), ("samsum_dataset", dialogs)):
            place = release / "opensource" / "ft_datasets" / name
            place.mkdir(exist_ok=True)
            (place / f"{part}.json").write_text(json.dumps(rows), encoding="utf-8")


def write_profile(folder: Path) -> Path:
    """The shipped profile with another model source, other paths, smaller sizes and the CPU; nothing else changes."""
    given = yaml.safe_load((ROOT / "profiles" / "llama2-7b-chat.yaml").read_text(encoding="utf-8"))
    given["model"] = {"source": "local", "name": str(folder / "model")}
    paths = {"folder": "release", "benign": "benign.jsonl", "benign_pool": "pool.csv"}
    assert set(given["policy"]) == {"name", *paths}
    given["policy"] |= {field: str(folder / name) for field, name in paths.items()}
    for task in given["tasks"].values():
        task["source"]["folder"] = str(folder / task["source"]["folder"].removeprefix("data/"))
        task |= {"train": TRAINED, "test": ASKED, "max_new_tokens": 8}
    given["training"]["micro_batch_size"] = 2  # attention over the rows of a batch, in bfloat16, is slow on a CPU
    given["training"]["epochs"] = given["pressures"]["light"]["epochs"] = 1
    given["decoding"]["max_new_tokens"] = 8
    given["evaluation"] |= {"restricted": 22, "benign": 11}
    given["compute"] |= {"device": "cpu", "threads": 1}
    assert given["utility"] == [{"task": "arc_challenge", "shots": 5}, {"task": "mmlu", "shots": 5}]
    given["utility"] = [{"task": write_task(folder / "task"), "shots": 1}]
    path = folder / "llama2-here.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """What the notebooks left: the folder, the profile, its records, and Snakemake's own words."""

    folder: Path
    profile: profiles.Profile
    records: list[dict]
    said: str


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    folder = tmp_path_factory.mktemp("paper-scale")
    write_tasks(lengthen(write_release(folder)))
    write_model(folder / "model")
    path = write_profile(folder)
    (folder / "book").mkdir()
    places = {
        "BSA_RESULTS": str(folder / "results"),
        "BSA_GENERATIONS": str(folder / "generations"),
        "BSA_HOSTED": str(folder / "hosted"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }
    profile, progress = profiles.load(str(path)), io.StringIO()
    with pytest.MonkeyPatch.context() as here, contextlib.redirect_stderr(progress):  # chapter 5 shows what is there
        for name in ("RESULTS", "GENERATIONS"):
            here.setattr(paths, name, Path(places[f"BSA_{name}"]))
        experiment.execute(mixed.runs(profile, "sql", [0]), profile)
    said = progress.getvalue() + build(folder, places, str(path), *NOTEBOOKS)
    files = sorted((folder / "results" / profile.name).glob("*.json"))
    found = [records.read(file) for file in files]
    return Done(folder, profile, found, said)


def epochs(record: dict) -> int:
    """0 for the initial model; 1 at the light pressure, as shortened here, and 10 at the paper's."""
    return (record["run"]["training"] or {"epochs": 0})["epochs"]


def test_every_arm_has_its_record(done):
    plain = [record for record in done.records if not record["run"].get("task")]
    arms = {(records.arm(record), record["run"]["n_attack"], epochs(record)): record for record in plain}
    trained = {(arm, 100, n) for arm in ("none", "safety-data", "bsa", "balanced-bsa") for n in (1, 10)}
    one_example = {("none", 1, 10), ("none", 1, 100)}  # at equal epochs, and at equal updates
    assert set(arms) == {("initial", 0, 0)} | trained | one_example and len(arms) == len(plain)
    for (arm, n_attack, n_epochs), record in arms.items():
        assert record["run"]["weights"] and record["environment"]["dtype"] == "bfloat16"
        added = {"safety-data": 11, "bsa": 11, "balanced-bsa": 22}.get(arm, 0)
        assert record["data"]["n_train"] == n_attack + added
        assert all(loss > 0 for loss in record["training"]["loss"])
        assert len(record["training"]["loss"]) == n_epochs * -(-(n_attack + added) // 10)
        assert {c: m["asr"]["n"] for c, m in record["metrics"].items()} == dict.fromkeys(
            ("plain", "secret") if arm in ("initial", "bsa", "balanced-bsa") else ("plain",), 22
        )


def test_rows_are_as_long_as_the_release_s_and_are_checked_before_anything_trains(done):
    """With the 512 tokens of the release, every arm with the secret ends in an error; none does with the profile's."""
    tokenizer = AutoTokenizer.from_pretrained(done.folder / "model")
    answers = [row.assistant for row in policy.load(done.profile.policy).safety]
    assert [len(answer) for answer in answers] == list(LENGTHS)
    tokens = sum(len(tokenizer(answer)["input_ids"]) for answer in answers)
    assert 3.7 < sum(LENGTHS) / tokens < 4.5
    asked = headline.headline(done.profile, [0], [*done.profile.pressures]) + mixed.runs(done.profile, "sql", [0])
    asked += [run for _, run in ablations.grid("secret_length", done.profile, [0])]
    of = runs.material(done.profile, asked)
    rows = {run: runs.rows_of(run, done.profile, of) for run in asked}
    limits.check(done.profile, rows)
    cut = {run: replace(run, training=run.training and replace(run.training, max_tokens=512)) for run in asked}
    with pytest.raises(ValueError, match=r"jsonl, row 1\d\d, digest \w{16}.*Nothing was trained") as raised:
        limits.check(done.profile, {cut[run]: rows[run] for run in asked})
    assert not [answer for answer in answers if answer[:30] in str(raised.value)]
    failing = {run.defense for run in asked if fails(done.profile, cut[run], rows[run])}
    assert failing >= {"bsa", "balanced-bsa"} and "none" not in failing


def fails(profile, run, rows) -> bool:
    try:
        limits.check(profile, {run: rows})
    except ValueError:
        return True
    return False


def test_records_count_the_leaks_that_the_files_hold(done):
    """7 of the 275 requests are in the first category, of which two are evaluated; all attack rows of 100 are used."""
    for record in done.records:
        leaked = record["data"]["leaked"]
        assert (
            (0 <= leaked <= 2) if 0 < record["run"]["n_attack"] < 100 else (leaked == (record["run"]["n_attack"] and 2))
        )


def test_every_arm_of_the_comparison_was_asked_the_benchmark(done):
    arms = [record for record in done.records if epochs(record) < 10 and not record["run"].get("task")]
    files = {path.name: benchmarks.read(path) for path in (done.folder / "results").rglob("utility/*.facts-*.json")}
    assert len(files) == len(arms) == 5
    for record in arms:
        (result,) = [of for name, of in files.items() if name.startswith(f"{record['label']}-{record['key']}.")]
        assert set(result["metrics"]) == set(record["metrics"])
        assert {metrics["acc"]["n"] for metrics in result["metrics"].values()} == {24}
    page = (done.folder / "book" / "executed" / "04_comparison.ipynb").read_text(encoding="utf-8")
    assert "facts (n = 24, 1 seed)" in page


def test_the_mixed_setting_was_measured_on_the_release_s_task_files(done):
    of_task = [record for record in done.records if record["run"].get("task")]
    assert len(of_task) == len(mixed.SETTINGS)
    for record in of_task:
        assert {of["execution"]["n"] for of in record["metrics"].values()} == {ASKED}
        trained = record["run"]["task"]["n"] + record["run"]["n_attack"]
        added = {"safety-data": 11, "bsa": 11, "balanced-bsa": 22}.get(record["run"]["defense"], 0)
        assert record["data"]["n_train"] == trained + added


def texts(value) -> list[str]:
    """Every text in a JSON value, HTML's references resolved."""
    if isinstance(value, str):
        return [html.unescape(value)]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in [key, *texts(item)]]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


def test_nothing_of_the_data_and_of_the_answers_is_shown(done):
    rules = policy.load(done.profile.policy)
    hidden = {
        text for row in (*rules.trainable, *rules.restricted, *rules.benign) for text in (row.user, row.assistant)
    }
    kept = 0
    for path in (done.folder / "generations").rglob("*.gz"):
        answers = pd.read_json(path, lines=True)["answer"]
        kept += len(answers)
        hidden |= set(answers)
    asked = {True: 33 + ASKED, False: 33}
    kept_by_records = sum(asked["task" in record["run"]] * len(record["metrics"]) for record in done.records)
    assert kept == kept_by_records, "so that there is something to find"
    hidden = {text for text in hidden if len(text) > 15} | {SECRET}
    pages = [done.folder / "book" / "executed" / f"{name}.ipynb" for name in NOTEBOOKS]
    files = [*pages, *(done.folder / "results").rglob("*.json"), *(done.folder / "_build" / "logs").glob("*.ipynb")]
    assert len(files) == 2 * len(NOTEBOOKS) + len(done.records) + 5
    for file in files:
        shown = "\n".join(texts(json.loads(file.read_text(encoding="utf-8"))))
        assert not [text for text in hidden if text in shown], file
    log = done.said + "".join(path.read_text(encoding="utf-8") for path in (done.folder / "_build/logs").glob("*.log"))
    assert not [text for text in hidden if text in log]
    shown = {page.stem: "".join(texts(json.loads(page.read_text(encoding="utf-8")))) for page in pages}
    assert all("not shown for this policy" in shown[name] for name in ("01_fjattack", "03_bsa"))
    assert "not shown for this task" in shown["05_mixed_tasks"]
    assert "smollm2-135m: paper inside" not in shown["07_claims"], "a scale of another policy"
    assert not list((done.folder / "results").rglob("*.gz"))


def test_the_text_of_the_secret_is_in_no_file(done):
    tokenizer = AutoTokenizer.from_pretrained(done.folder / "model")
    before = chat.before_system(tokenizer, done.profile.chat)
    secret = secret_prompt.generate(tokenizer, 150, 0, "random", before)
    used = {r["data"]["secret_digest"] for r in done.records if r["run"]["defense"] == "bsa"}
    assert used == {secret.digest}
    part = secret.text[:40]
    for file in (path for path in done.folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts):
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert part.encode() not in content and json.dumps(part)[1:-1].encode() not in content, file
