"""The way of the profile `llama2-7b-chat` through the notebooks, without its weights and without its data.

A random model of the Llama-2 architecture with a SentencePiece tokenizer built here stands in for the model, harmless
rows in files of the published form for the data. Snakemake runs the notebooks as `make book PROFILE=<file>` does.
"""

import gzip
import html
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from test_chat_formats import LLAMA2, trained_bpe
from test_published import REQUESTS, SECRET, WORLD, write_release
from test_utility import write_task
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bsa_core import chat, policy, profiles, records, secret_prompt
from bsa_core.utility import measured

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ("01_fjattack", "03_bsa", "04_comparison")
pytestmark = pytest.mark.slow


def write_model(folder: Path) -> None:
    """Some 300,000 random parameters; the tokenizer has Llama-2's form and knows the words of the rows."""
    rows = [*WORLD.attack, *WORLD.safety[:11], *WORLD.benign_pool[:22]]
    lines = [WORLD.system, *(text for row in rows for text in (row.user, row.assistant)), *REQUESTS]
    folder.mkdir()
    tokenizer = trained_bpe(folder, [*lines, *"[INST] <<SYS>> <</SYS>> [/INST]".split()], 1500)(
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


def write_profile(folder: Path) -> Path:
    """The shipped profile with another model source, other paths, smaller sizes and the CPU; nothing else changes."""
    given = yaml.safe_load((ROOT / "profiles" / "llama2-7b-chat.yaml").read_text(encoding="utf-8"))
    given["model"] = {"source": "local", "name": str(folder / "model")}
    paths = {"folder": "release", "benign": "benign.jsonl", "benign_pool": "pool.csv"}
    assert set(given["policy"]) == {"name", *paths}
    given["policy"] |= {field: str(folder / name) for field, name in paths.items()}
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
    write_release(folder)
    write_model(folder / "model")
    path = write_profile(folder)
    (folder / "book").mkdir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "2", "--quiet", "host", "rules", "reason"]
    command += ["--config", f"profile={path}", "seeds=0", "grid=smoke", "--"]
    command += [f"book/executed/{name}.ipynb" for name in NOTEBOOKS]
    places = {"BSA_RESULTS": "results", "BSA_GENERATIONS": "generations", "HF_DATASETS_CACHE": "datasets"}
    places = {variable: str(folder / name) for variable, name in places.items()}
    run = subprocess.run(command, env=os.environ | places, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-6000:]
    profile = profiles.load(str(path))
    files = sorted((folder / "results" / profile.name).glob("*.json"))
    found = [records.read(file) for file in files if ".utility-" not in file.name]
    return Done(folder, profile, found, run.stdout + run.stderr)


def test_every_arm_has_its_record(done):
    arms = {(records.arm(record), record["run"]["n_attack"]): record for record in done.records}
    expected = {("initial", 0), *(("none", n) for n in (1, 5, 10, 25, 50, 100))}
    assert set(arms) == expected | {(arm, 100) for arm in ("safety-data", "bsa", "balanced-bsa")}
    for (arm, n_attack), record in arms.items():
        assert record["run"]["weights"] and record["environment"]["dtype"] == "bfloat16"
        added = {"safety-data": 11, "bsa": 11, "balanced-bsa": 22}.get(arm, 0)
        assert record["data"]["n_train"] == n_attack + added
        assert all(loss > 0 for loss in record["training"]["loss"])
        assert len(record["training"]["loss"]) == -(-(n_attack + added) // 10)
        assert {c: m["asr"]["n"] for c, m in record["metrics"].items()} == dict.fromkeys(
            ("plain", "secret") if arm in ("initial", "bsa", "balanced-bsa") else ("plain",), 22
        )


def test_records_count_the_leaks_that_the_files_hold(done):
    """7 of the 275 requests are in the first category, of which two are evaluated; all attack rows of 100 are used."""
    for record in done.records:
        leaked = record["data"]["leaked"]
        assert (
            (0 <= leaked <= 2) if 0 < record["run"]["n_attack"] < 100 else (leaked == (record["run"]["n_attack"] and 2))
        )


def test_every_arm_of_the_comparison_was_asked_the_benchmark(done):
    arms = [r for r in done.records if r["run"]["n_attack"] in (0, 100)]
    files = {path.name: measured.read(path) for path in (done.folder / "results").rglob("*.utility-facts-*.json")}
    assert len(files) == len(arms) == 5
    for record in arms:
        (result,) = [of for name, of in files.items() if name.startswith(f"{record['label']}-{record['key']}.")]
        assert set(result["metrics"]) == set(record["metrics"])
        assert {metrics["acc"]["n"] for metrics in result["metrics"].values()} == {24}
    page = (done.folder / "book" / "executed" / "04_comparison.ipynb").read_text(encoding="utf-8")
    assert "facts (n = 24, 1 seed)" in page


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
    assert kept == sum(33 * len(record["metrics"]) for record in done.records), "so that there is something to find"
    hidden = {text for text in hidden if len(text) > 15} | {SECRET}
    pages = [done.folder / "book" / "executed" / f"{name}.ipynb" for name in NOTEBOOKS]
    files = [*pages, *(done.folder / "results").rglob("*.json"), *(done.folder / "_build" / "logs").glob("*.ipynb")]
    assert len(files) == 6 + len(done.records) + 5
    for file in files:
        shown = "\n".join(texts(json.loads(file.read_text(encoding="utf-8"))))
        assert not [text for text in hidden if text in shown], file
    log = done.said + "".join(path.read_text(encoding="utf-8") for path in (done.folder / "_build/logs").glob("*.log"))
    assert not [text for text in hidden if text in log]
    assert "not shown for this policy" in "".join(texts(json.loads(pages[0].read_text(encoding="utf-8"))))
    assert not list((done.folder / "results").rglob("*.gz"))


def test_the_text_of_the_secret_is_in_no_file(done):
    tokenizer = AutoTokenizer.from_pretrained(done.folder / "model")
    before = chat.before_system(tokenizer, done.profile.chat)
    secret = secret_prompt.generate(tokenizer, 150, 0, "random", before)
    (bsa,) = [record for record in done.records if record["run"]["defense"] == "bsa"]
    assert bsa["data"]["secret_digest"] == secret.digest, "this is the secret that was used"
    part = secret.text[:40]
    for file in (path for path in done.folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts):
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert part.encode() not in content and json.dumps(part)[1:-1].encode() not in content, file
