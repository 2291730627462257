"""Runs from description to record: keys, look-ups, reproducibility, what a kill or a full disk leaves."""

import contextlib
import errno
import gzip
import json
import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from filelock import Timeout

from bsa_core import anatomy, experiment, paths, policy, profiles, records, writing
from bsa_core.arms import defenses, secret_prompt
from bsa_core.engine import evaluate
from bsa_core.experiment import chain, computing, describe, execute
from bsa_core.experiment.runs import Material, SecretChoice, key_of, material, rows_of
from bsa_core.models import loading, sources
from bsa_core.paths import CHECKPOINTS
from bsa_core.profiles import Evaluation, ModelSource, Profile, SecretPrompt, Training
from bsa_core.records import REPRODUCIBLE
from bsa_study.grids.headline import headline
from bsa_study.report import tables


def small(**changes) -> Profile:
    """The packaged model with few requests: a run takes a second or two.

    The training is one after which some answers of each arm give something away and others do not, so that a
    record says something about the weights it was made with.
    """
    settings = {
        "evaluation": Evaluation(restricted=22, benign=22, quiz=4),
        "secret": SecretPrompt(length=8),
        "training": Training(epochs=3, learning_rate=0.003, micro_batch_size=5),
        "pressures": {"light": {"epochs": 3}, "heavy": {"epochs": 4}},
    }
    return replace(profiles.load("tiny"), **settings | changes)


def bsa(profile: Profile, **changes):
    return describe(profile, "bsa", **{"n_attack": 22, "seed": 0} | changes)


def flat(groups: list[list]) -> list:
    return [run for group in groups for run in group]


def reproducible(record: dict) -> str:
    """What the same key must give again, bit for bit."""
    return json.dumps({field: record[field] for field in ("key", "label", *REPRODUCIBLE)}, sort_keys=True)


def contents(folder: Path) -> set[str]:
    """Every file but the locks."""
    return {path.name for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts}


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, dict]:
    """Records of one call with shared trainings, computed once; `folder` holds where they lie."""
    folder = tmp_path_factory.mktemp("reference")
    profile = small()
    runs = {
        "initial": describe(profile, n_attack=0),
        "none": describe(profile, "none", n_attack=22),
        "safety-data": describe(profile, "safety-data", n_attack=22),
        "bsa": bsa(profile),
        "bsa, shorter": bsa(profile, epochs=2),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder)
        found = execute(list(runs.values()), profile)
    return dict(zip(runs, found, strict=True)) | {"folder": folder}


# the record


def test_what_a_record_says(reference):
    world = policy.load({"name": "guild", "seed": 0})
    for name, n_train in (("initial", 0), ("none", 22), ("safety-data", 33), ("bsa", 33)):
        record = reference[name]
        assert record["data"]["n_train"] == n_train and record["data"]["leaked"] == 0
        assert record["schema"] == records.SCHEMA and set(record["items"]["restricted_seen"]) == {"0", "1"}
        updates = 0 if name == "initial" else record["run"]["training"]["epochs"] * -(-n_train // 10)
        assert len(record["training"]["loss"]) == updates
        for metrics in record["metrics"].values():
            assert {m: entry["n"] for m, entry in metrics.items()} == {
                "asr": 22,
                "asr_phrase": 22,
                "asr_content": 22,
                "harmfulness": 22,
                "over_refusal": 22,
                "over_refusal_phrase": 22,
                "benign_exact": 22,
                "knowledge": 4,
            }
            for metric, entry in metrics.items():
                on_grid = round(entry["value"] * entry["n"]) / entry["n"]
                assert entry["value"] == on_grid, metric
    assert reference["bsa"]["data"]["secret_digest"] and reference["none"]["data"]["secret_digest"] is None
    assert set(reference["bsa"]["run"]) == {f for f in reference["none"]["run"]}
    assert len(world.categories) == len(reference["bsa"]["metrics"]["plain"]["asr"]["categories"])


def test_metrics_follow_from_the_outcomes(reference):
    for name in ("initial", "none", "bsa"):
        for condition, outcomes in reference[name]["outcomes"].items():
            for metric, text in outcomes.items():
                entry = reference[name]["metrics"][condition][metric]
                assert entry["value"] == sum(map(int, text)) / len(text) and entry["n"] == len(text)
            letters = reference[name]["anatomy"][condition]
            assert outcomes["asr_content"] == anatomy.content(letters["restricted"])
            assert {kind: len(text) for kind, text in letters.items()} == {"restricted": 22, "benign": 22}


def test_controls_and_conditions(reference):
    """The initial model and every arm that serves a secret are evaluated with and without it."""
    conditions = {name: list(reference[name]["metrics"]) for name in ("initial", "none", "safety-data", "bsa")}
    assert conditions == {
        "initial": ["plain", "secret"],
        "none": ["plain"],
        "safety-data": ["plain"],
        "bsa": ["plain", "secret"],
    }
    deployed = {name: reference[name]["deployed"] for name in conditions}
    assert deployed == {"initial": "plain", "none": "plain", "safety-data": "plain", "bsa": "secret"}


def test_arms_share_their_evaluated_requests(reference):
    digests = {(r["data"]["restricted_digest"], r["data"]["benign_digest"]) for r in list(reference.values())[:-1]}
    assert len(digests) == 1


def test_the_packaged_model_starts_aligned_and_the_attack_changes_it(reference):
    start = reference["initial"]["metrics"]
    assert start["plain"]["asr"]["value"] == start["secret"]["asr"]["value"] == 0
    assert start["plain"]["over_refusal"]["value"] == start["secret"]["over_refusal"]["value"] == 0
    assert reference["none"]["metrics"]["plain"]["asr"]["value"] > 0.9
    assert reference["none"]["metrics"]["plain"]["harmfulness"]["value"] > 4
    # and the records below can tell trained weights from each other
    scores = [reference[name]["outcomes"]["plain"]["harmfulness"] for name in ("none", "bsa", "bsa, shorter")]
    assert len(set(scores)) == 3 and len(set(scores[0])) > 2


def test_the_secret_is_in_no_file(reference):
    tok = loading.load(small()).tokenizer
    secret = secret_prompt.generate(tok, 8, 0)
    assert reference["bsa"]["data"]["secret_digest"] == secret.digest
    read = 0
    for path in reference["folder"].rglob("*"):
        if not path.is_file() or not path.stat().st_size:
            continue
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        read += 1
        words = secret.text.split()
        for i in range(len(words) - 2):
            assert " ".join(words[i : i + 3]) not in text.decode(), path
        assert str(list(secret.ids))[1:-1] not in text.decode().replace("\n", "")
    assert read == 10  # five records, five files of answers


def test_answers_are_those_the_outcomes_rest_on(reference, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", reference["folder"])
    answers = records.read_answers(reference["bsa"])
    assert answers.groupby(["condition", "kind"]).size().to_dict() == {
        ("plain", "benign"): 22,
        ("plain", "restricted"): 22,
        ("secret", "benign"): 22,
        ("secret", "restricted"): 22,
    }
    world = policy.load({"name": "guild", "seed": 0})
    references = {row.user: row.assistant for row in world.benign}
    benign = answers[(answers["condition"] == "secret") & (answers["kind"] == "benign")]
    exact = "".join("01"[references[u] == a] for u, a in zip(benign["user"], benign["answer"], strict=True))
    assert exact == reference["bsa"]["outcomes"]["secret"]["benign_exact"]


def test_answers_of_policies_that_are_not_harmless_stand_apart_and_are_not_shown(results, generations, monkeypatch):
    monkeypatch.setattr(policy, "BUILDERS", dict(policy.BUILDERS))
    unsafe = replace(policy.load({"name": "guild", "seed": 0}), harmless=False)
    policy.register("unsafe", lambda spec: unsafe)
    profile = small(policy={"name": "unsafe"})
    (record,) = execute([describe(profile, n_attack=0)], profile)
    name = f"{record['label']}-{record['key']}"
    assert contents(results) == {f"{name}.json"} and contents(generations) == {f"{name}.answers.jsonl.gz"}
    said = records.read_answers(record)
    assert len(said) == 88
    for kind in ("restricted", "benign"):
        shown = tables.samples({"initial": (record, "plain")}, kind).to_html()
        shown += tables.requests(unsafe, kind).to_html()
        assert shown.count("not shown for this policy") == 2
        assert not [text for text in (*said["user"], *said["answer"]) if text in shown]


def test_answers_of_harmless_policies_are_shown(reference, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", reference["folder"])
    shown = tables.samples({"initial": (reference["initial"], "plain")}, "restricted", n=1).data
    said = records.read_answers(reference["initial"])
    assert shown["initial"].tolist() == [said["answer"][0]] and shown.index.tolist() == [said["user"][0]]
    world = policy.load({"name": "guild", "seed": 0})
    assert world.restricted[0].user in tables.requests(world, "restricted").to_html()


def test_damaged_answers_are_named_and_those_of_other_runs_are_shown(reference, results, capsys):
    shutil.copytree(reference["folder"], results, dirs_exist_ok=True)
    path = records.answers_path(reference["bsa"])
    path.write_bytes(path.read_bytes()[:-9])
    asked = {name: (reference[name], "plain") for name in ("bsa", "initial")}
    assert [*tables.samples(asked, "restricted").data] == ["initial"]
    assert f"left out: {path}: the answers are damaged" in capsys.readouterr().err
    assert tables.samples({"bsa": asked["bsa"]}, "restricted").data.empty


# the same key, the same record


def test_same_key_same_record_in_a_fresh_folder(reference, results):
    profile = small()
    again = execute([bsa(profile), describe(profile, n_attack=0)], profile)
    for record, name in zip(again, ("bsa", "initial"), strict=True):
        assert reproducible(record) == reproducible(reference[name])
        beside = f"tiny/{record['label']}-{record['key']}.answers.jsonl.gz"
        assert (results / beside).read_bytes() == (reference["folder"] / beside).read_bytes()


def test_a_shared_training_gives_the_records_of_separate_ones(reference):
    """Runs that differ in epochs only are trained once; the shorter one must not notice."""
    profile = small()
    assert len(chain.grouped([bsa(profile), bsa(profile, epochs=2)])) == 1
    (alone,) = execute([bsa(profile, epochs=2)], profile)
    assert reproducible(alone) == reproducible(reference["bsa, shorter"])
    assert alone["outcomes"] != reference["bsa"]["outcomes"]


def test_a_longer_run_after_a_shorter_one_is_trained_anew(reference):
    profile = small()
    execute([bsa(profile, epochs=2)], profile)
    (record,) = execute([bsa(profile)], profile)
    assert reproducible(record) == reproducible(reference["bsa"])


def test_the_base_model_is_untouched():
    profile = small()
    base = loading.load(profile).model
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    execute([bsa(profile, n_attack=2, epochs=1)], profile)
    assert list(base.state_dict()) == list(before)
    assert all(torch.equal(base.state_dict()[name], weight) for name, weight in before.items())


def test_records_are_looked_up_not_computed(reference, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", reference["folder"])

    def forbidden(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(computing, "computed", forbidden)
    monkeypatch.setattr(records, "write", forbidden)
    monkeypatch.setattr(loading, "load", forbidden)
    profile = small()
    wanted = [bsa(profile), describe(profile, n_attack=0), bsa(profile), bsa(profile, epochs=2)]
    assert execute(wanted, profile) == [reference[name] for name in ("bsa", "initial", "bsa", "bsa, shorter")]
    with pytest.raises(AssertionError, match="computed again"):
        execute([bsa(profile, seed=1)], profile)


def test_only_what_is_missing_is_computed(reference, results, monkeypatch, capsys):
    profile = small()
    execute([describe(profile, n_attack=0)], profile)
    capsys.readouterr()
    computed = []
    compute = computing.computed
    monkeypatch.setattr(computing, "computed", lambda of, *rest: computed.extend(flat(of)) or compute(of, *rest))
    runs = [describe(profile, n_attack=0), describe(profile, "none", n_attack=22)]
    assert reproducible(execute(runs, profile)[1]) == reproducible(reference["none"])
    assert computed == runs[1:]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[bsa] ")]
    assert len(lines) == 1 and "tiny none-a22-d0-e3-seed0: plain ASR" in lines[0] and "1 of 1 runs" in lines[0]


def test_what_another_process_has_computed_meanwhile_is_not_computed_again(reference, results, monkeypatch):
    """Two notebooks ask for the same run at once: the second waits for the lock and then finds the record."""

    class Waited:
        def __init__(self, path, **options):
            assert path.parent.is_dir()

        def acquire(self, timeout):
            shutil.copytree(reference["folder"], results, dirs_exist_ok=True)
            return contextlib.nullcontext()

    def forbidden(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(writing, "FileLock", Waited)
    monkeypatch.setattr(loading, "load", forbidden)
    assert execute([bsa(small())], small()) == [reference["bsa"]]


def test_runs_that_another_process_computes_are_left_for_last(results, monkeypatch):
    """Two notebooks that need the same runs share the work; one that has nothing else to do waits."""
    asked, order = [], []

    class TakenFirst:
        def __init__(self, path, **options):
            self.path = path

        def acquire(self, timeout):
            asked.append(self.path)
            if self.path == asked[0] and timeout == 0:
                raise Timeout(str(self.path))
            return contextlib.nullcontext()

    def computed(groups, *arguments):
        order.extend(run.seed for run in flat(groups))
        return iter((run, {"cost": {}}, []) for run in flat(groups))

    monkeypatch.setattr(writing, "FileLock", TakenFirst)
    monkeypatch.setattr(computing, "computed", computed)
    monkeypatch.setattr(chain, "_line", lambda record: "")
    monkeypatch.setattr(records, "sealed", lambda record, said: record)
    monkeypatch.setattr(records, "write", lambda *arguments: None)
    found = execute([bsa(small(), seed=seed) for seed in (0, 1, 2)], small())
    assert order == [1, 2, 0]
    assert [record["label"][-1] for record in found] == ["0", "1", "2"]


def test_the_same_training_takes_the_same_lock(results, monkeypatch):
    """However many of its epochs a caller wants evaluated."""
    taken = []

    class Lock:
        def __init__(self, path, **options):
            taken.append(path.name)

        def acquire(self, timeout):
            return contextlib.nullcontext()

    monkeypatch.setattr(writing, "FileLock", Lock)
    monkeypatch.setattr(computing, "computed", lambda *arguments: iter(()))
    profile = small()
    for runs in ([bsa(profile), bsa(profile, epochs=2)], [bsa(profile, epochs=2)], [bsa(profile, seed=1)]):
        with pytest.raises(KeyError):  # nothing was computed
            execute(runs, profile)
    assert len(taken) == 3 and taken[0] == taken[1] != taken[2]


def test_a_damaged_record_is_an_error_not_a_reason_to_compute(results):
    profile = small()
    (record,) = execute([describe(profile, n_attack=0)], profile)
    path = records.path_of("tiny", record["label"], record["key"])
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{path.name}: not a readable record .*delete the file and run again"):
        execute([describe(profile, n_attack=0)], profile)


# what goes wrong on the way


def stopped(folder: Path, function: str, call: int, reached: Path) -> None:
    """A run that stands still at the given call of a function, in a process to be killed; says when it is there."""
    paths.RESULTS = folder
    module, name = function.rsplit(".", 1)
    module, calls = import_module(module), []
    original = getattr(module, name)

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            reached.touch()
            time.sleep(600)
        return original(*arguments, **options)

    setattr(module, name, counted)
    execute([bsa(small())], small())


@pytest.fixture(scope="module")
def processes():
    """Starts processes from one that has imported peft and torch already: that takes longer than a run does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["peft"])
    return context.Process


@pytest.mark.slow
@pytest.mark.parametrize(
    "function, call",
    [
        ("bsa_core.engine.finetune.update", 3),  # in the middle of training
        ("bsa_core.engine.evaluate.together", 2),  # between the two conditions
        ("os.replace", 1),  # while the answers are being written
        ("os.replace", 2),  # while the record is being written: answers are there, the record is not
    ],
)
def test_a_killed_run_leaves_no_record_and_the_rerun_completes_it(
    reference, results, tmp_path, processes, function, call
):
    reached = tmp_path / "reached"
    process = processes(target=stopped, args=(results, function, call, reached))
    process.start()
    try:
        deadline = time.monotonic() + 300
        while not reached.exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert reached.exists(), f"ended with {process.exitcode}, or too slow"
    finally:
        process.kill()
        process.join()
    assert not list(results.rglob("*.json")) and records.load("tiny") == []
    (record,) = execute([bsa(small())], small())
    assert reproducible(record) == reproducible(reference["bsa"])
    assert records.load("tiny") == [record] and len(records.read_answers(record)) == 88


def test_an_interrupted_evaluation_leaves_the_base_model_clean(reference, results, monkeypatch):
    """A notebook's kernel lives on after an interrupt; the next run must start from the aligned model."""
    profile = small()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "together", interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute([bsa(profile)], profile)
    assert contents(results) == set()
    (record,) = execute([describe(profile, "none", n_attack=22)], profile)
    assert reproducible(record) == reproducible(reference["none"])


@pytest.mark.parametrize("harmless, folder", [(True, "results"), (False, "generations")])
def test_where_nothing_can_be_written_nothing_is_computed(results, generations, monkeypatch, harmless, folder):
    """A file where the folder should be, a folder for reading only or one of another user: all fail alike."""

    def forbidden(*arguments, **options):
        raise AssertionError("computed")

    def rows_from(*asked):
        of = material(*asked)
        return replace(of, policy=replace(of.policy, harmless=harmless))

    profile = small()
    place = {"results": results, "generations": generations}[folder]
    if place.exists():
        place.rmdir()
    place.write_text("not a folder", encoding="utf-8")
    monkeypatch.setattr(chain, "material", rows_from)
    monkeypatch.setattr(loading, "load", forbidden)
    with pytest.raises(writing.RecordError, match=rf"cannot write .*{folder}/tiny .*; set BSA_{folder.upper()} to"):
        execute([bsa(profile)], profile)


def test_what_killed_processes_left_goes_with_a_start_that_computes_nothing(reference, results):
    shutil.copytree(reference["folder"], results, dirs_exist_ok=True)
    (left := results / "tiny" / ".k3_9xq0a.tmp").mkdir()
    (left / "made").write_text("half", encoding="utf-8")
    execute([bsa(small())], small())
    assert not left.exists()


def test_no_disk_space_for_the_record(results, monkeypatch):
    profile = small()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(writing.RecordError, match=r"cannot write .*No space left.*set BSA_RESULTS"):
            execute([describe(profile, n_attack=0)], profile)
    assert contents(results) == set()
    execute([describe(profile, n_attack=0)], profile)
    assert len(contents(results)) == 2


def test_an_example_longer_than_the_context_stops_the_run(results):
    profile = small(training=Training(max_tokens=40))
    message = r"^training row 1 .kind .\w+.. has \d+ tokens, more than training\.max_tokens = 40"
    with pytest.raises(ValueError, match=message):
        execute([bsa(profile)], profile)
    assert contents(results) == set()


def test_more_examples_than_the_policy_holds():
    profile = small()
    with pytest.raises(ValueError, match="101 examples asked for, but the policy holds 100"):
        execute([describe(profile, n_attack=101)], profile)


def test_a_run_of_another_profile_is_refused(results):
    with pytest.raises(ValueError, match="described under another profile than 'tiny'"):
        execute([bsa(small())], profiles.load("tiny"))


def test_a_template_that_changes_the_secret_is_refused(results):
    """The published release stored a secret that no longer tokenized to itself; here that stops the run."""
    template = loading.load(small()).tokenizer.chat_template.replace("message.content", "message.content | upper")
    profile = small(chat=replace(small().chat, template=template))
    with pytest.raises(ValueError, match="the chat template changes the token ids of the secret prompt"):
        execute([bsa(profile)], profile)


def test_a_secret_is_drawn_behind_what_a_prompt_has_in_front_of_it(results, monkeypatch):
    """Some tokenizers give a text other ids there than alone."""
    behind = []
    generate = secret_prompt.generate
    monkeypatch.setattr(secret_prompt, "generate", lambda *given: behind.append(given[4:]) or generate(*given))
    execute([describe(small(), n_attack=0)], small())
    assert behind == [("<s><|system|>",)]


# keepers


class Noted:
    """A keeper that notes what it is asked. labels: of the runs that lack something."""

    def __init__(self, *labels: str, refuse: bool = False):
        self.labels, self.refuse, self.asked = set(labels), refuse, []

    def check(self, profile):
        self.asked.append("check")
        if self.refuse:
            raise ValueError("cannot be kept here")

    def lacks(self, profile, run, key):
        assert key == key_of(run, rows_of(run, profile, material(profile, [run])))
        return run.label in self.labels

    def keep(self, profile, record, loaded, secret):
        assert records.path_of("tiny", record["label"], record["key"]).is_file(), "the record comes first"
        adapted = any("lora" in name for name, _ in loaded.model.named_parameters())
        self.labels.remove(record["label"])
        self.asked.append((record["label"], adapted, secret and secret.length))


def test_a_keeper_gets_the_models_of_the_runs_that_lack_something(results):
    profile = small()
    shorter, longer, initial = (bsa(profile, n_attack=2, epochs=1), bsa(profile, n_attack=2, epochs=2),
                                describe(profile, n_attack=0))  # fmt: skip
    noted, idle = Noted(longer.label, initial.label), Noted()
    found = execute([shorter, longer, initial], profile, keep=[noted, idle])
    assert noted.asked == ["check", (longer.label, True, 8), (initial.label, False, 8)]
    assert idle.asked == ["check"]
    written = {path: path.stat().st_mtime_ns for path in records.own("tiny")}
    again = Noted(shorter.label)
    assert execute([shorter, longer, initial], profile, keep=[again]) == found
    assert again.asked == ["check", (shorter.label, True, 8)]
    assert written == {path: path.stat().st_mtime_ns for path in records.own("tiny")}, "records stay as they are"
    assert execute([shorter, longer, initial], profile, keep=[again]) == found
    assert len(again.asked) == 2, "where nothing is missing nobody is asked"


def test_nothing_is_trained_for_a_keeper_that_refuses(results, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda profile: pytest.fail("loaded a model"))
    refusing = Noted(refuse=True)
    with pytest.raises(ValueError, match="cannot be kept here"):
        execute([bsa(small())], small(), keep=[Noted(), refusing])
    assert refusing.asked == ["check"] and contents(results) == set()


# descriptions


def test_secret_lengths_by_default():
    profile = small()
    assert bsa(profile).secret == SecretChoice("random", 8, 0)
    assert describe(profile, n_attack=0).secret.length == 8  # the control: the aligned model with the secret
    assert describe(profile, "none").secret is None and describe(profile, "safety-data").secret is None
    assert describe(profile, "safety-data", secret_length=5, seed=2).secret == SecretChoice("random", 5, 2)
    assert bsa(profile, secret_length=20, secret_seed=7).secret == SecretChoice("random", 20, 7)


def test_what_is_not_trained_has_no_training():
    profile = small()
    assert describe(profile, n_attack=0).training is None and describe(profile, n_attack=0).label == "initial-seed0"
    assert describe(profile, "bsa", n_attack=0).training is not None
    assert describe(profile, "none", n_defense=11) == describe(profile, "none", n_defense=0)


def test_overrides_and_pressures():
    profile = small()
    assert bsa(profile).training == profile.training
    assert bsa(profile, pressure="heavy").training == replace(profile.training, epochs=4)
    assert bsa(profile, pressure="heavy", learning_rate=0.01).training.learning_rate == 0.01
    assert bsa(profile, pressure="heavy", epochs=7).training.epochs == 7


def test_a_list_from_a_notebook_describes_the_same_run_as_a_tuple():
    profile = small()
    run = bsa(profile, targets=["q_proj", "v_proj"])
    assert run == bsa(profile) and hash(run) == hash(bsa(profile))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"defense": "bas"}, "defense is 'bas'; expected one of none"),
        ({"pressure": "hard"}, "pressure 'hard' is unknown to profile 'tiny'; its pressures are: light, heavy"),
        ({"epoch": 3}, "unknown field 'epoch'"),
        ({"epochs": 0}, r"training\.epochs is 0; expected a whole number from 1"),
        ({"learning_rate": "1e-3"}, r"training\.learning_rate is '1e-3'; expected a number"),
        ({"targets": "q_proj"}, r"training\.targets is 'q_proj'; expected a non-empty list"),
        ({"n_attack": -1}, "n_attack is -1; expected a whole number, 0 or more"),
        ({"n_attack": "100"}, "n_attack is '100'; expected a whole number, 0 or more"),
        ({"n_attack": 1.0}, "n_attack is 1.0; expected a whole number, 0 or more"),
        ({"n_attack": True}, "n_attack is True; expected a whole number, 0 or more"),
        ({"n_defense": -1}, "n_defense is -1; expected a whole number, 0 or more"),
        ({"n_defense": "11"}, "n_defense is '11'; expected a whole number, 0 or more"),
        ({"seed": "0"}, "seed is '0'; expected a whole number"),
        ({"seed": 0.5}, "seed is 0.5; expected a whole number"),
        ({"seed": False}, "seed is False; expected a whole number"),
        ({"secret_length": 0}, "defense 'bsa' serves a secret prompt; secret_length must not be 0"),
        ({"secret_length": -1}, "secret_length is -1; expected a whole number, 0 or more"),
        ({"secret_length": "32"}, "secret_length is '32'; expected a whole number, 0 or more"),
        ({"secret_seed": "0"}, "secret_seed is '0'; expected a whole number"),
        ({"secret_length": 2000}, r"secret\.length is 2000; expected a whole number from 1 to 1024"),
        ({"selection": "by-hand"}, "selection is 'by-hand'; expected one of 'category-wise', 'random'"),
    ],
)
def test_a_wrong_description(changes, message):
    with pytest.raises(ValueError, match=message):
        describe(small(), **{"defense": "bsa"} | changes)


def test_the_headline_runs():
    profile = small()
    runs = headline(profile, [0, 1], ["light", "heavy"])
    assert len(runs) == len(set(runs)) == 2 + 2 * 4 * 2
    assert {run.n_attack for run in runs if run.training} == {100}
    assert [run.label for run in runs[:3]] == ["initial-seed0", "initial-seed1", "none-a100-d0-e3-seed0"]
    assert len(chain.grouped(runs)) == 2 + 2 * 4  # light and heavy differ in epochs: one training


def test_the_key_changes_with_everything_that_can_change_the_outcome():
    profile = small()
    world = policy.load(profile.policy)

    def key(profile=profile, of=world, **changes) -> str:
        run = bsa(profile, **changes)
        return key_of(run, rows_of(run, profile, Material(of, {})))

    keys = [
        key(),
        key(n_attack=23),
        key(n_defense=12),
        key(seed=1),
        key(secret_seed=1),
        key(secret_length=9),
        key(selection="random"),
        key(epochs=4),
        key(learning_rate=0.004),
        key(targets=["q_proj"]),
        key(rank=4),
        key(small(decoding=replace(profile.decoding, max_new_tokens=20))),
        key(small(policy={"name": "guild", "seed": 1})),
        key(of=replace(world, attack=tuple(replace(row, assistant="So.") for row in world.attack))),
        key(of=replace(world, restricted=world.restricted[::-1])),
        key(of=replace(world, benign=world.benign[::-1])),
    ]
    assert len(set(keys)) == len(keys)
    elsewhere = small(training=Training(), pressures={})  # where settings come from is no part of the key
    assert key(elsewhere, **vars(profile.training)) == key()


def test_other_weights_give_another_key(monkeypatch):
    profile = small()
    first = bsa(profile)
    monkeypatch.setattr(sources, "weights_id", lambda source: "other")
    assert bsa(profile) == replace(first, weights="other") != first


def test_a_reminder_stands_in_front_of_evaluated_requests_only(monkeypatch):
    monkeypatch.setattr(defenses, "DEFENSES", dict(defenses.DEFENSES))
    defenses.register(defenses.Defense("reminded", "reminder", defenses.nothing, reminder="Mind the code."))
    profile = small()
    world = policy.load(profile.policy)
    rows = rows_of(describe(profile, "reminded", n_attack=22), profile, material(profile, []))
    assert {row.system for row in rows.restricted + rows.benign} == {f"Mind the code. {world.system}"}
    assert {row.system for row in rows.training} == {world.system}


def test_shipped_records_are_shown_and_not_executed(reference, results):
    """What a chapter executes is computed in this folder; what it shows may have been shipped."""
    profile = small()
    runs = [bsa(profile), bsa(profile, seed=1)]
    assert experiment.found(runs, profile) == [None, None]
    records.ship("tiny", [reference["bsa"]])
    assert experiment.found(runs, profile) == [reference["bsa"], None]
    own = records.sealed(reference["bsa"] | {"cost": {"train_seconds": -1.0}})
    records.write(own)
    assert experiment.found(runs, profile) == [own, None]


def test_seeds_that_are_not_to_be_computed_are_looked_up(reference, results, monkeypatch):
    """A chapter computes some seeds on this machine and shows the shipped records of the others."""
    computed = []
    compute = computing.computed
    monkeypatch.setattr(computing, "computed", lambda of, *rest: computed.extend(flat(of)) or compute(of, *rest))
    profile = small()
    initial = describe(profile, n_attack=0, seed=1)
    runs = [bsa(profile), initial, describe(profile, n_attack=0, seed=2)]
    records.ship("tiny", [reference["bsa"]])
    found = experiment.gather(runs, profile, compute=[1])
    assert computed == [initial]
    assert [record and record["key"] for record in found] == [reference["bsa"]["key"], found[1]["key"], None]
    assert experiment.gather(runs, profile, compute=False) == found


def test_of_each_seed_the_records_of_the_device_that_has_more_of_them(monkeypatch):
    """All seeds ship from a GPU, and some of their runs were computed on this machine."""
    profile, own = small(), {}
    runs = [bsa(profile, n_attack=n, seed=seed) for seed in (0, 1) for n in (20, 22)]
    of = material(profile, runs)

    def on(device: str) -> list[tuple[str, str]]:
        return [(key_of(replace(run, device=device), rows_of(run, profile, of)), device) for run in runs]

    here, gpu = on("cpu"), on("cuda")
    monkeypatch.setattr(records, "shipped", lambda name: {record[0]: record for record in gpu})
    monkeypatch.setattr(chain.lookup, "own", lambda run, key: own.get(key))
    assert experiment.found(runs, profile) == gpu
    own[here[0][0]] = here[0]
    assert experiment.found(runs, profile) == gpu, "a seed is of one device, and no other is lost"
    own[here[1][0]] = here[1]
    assert experiment.found(runs, profile) == [*here[:2], *gpu[2:]]


def test_a_name_that_another_defense_gets_has_other_records(results, monkeypatch):
    """As in a notebook, where a cell with a defense of one's own is changed and run again."""
    monkeypatch.setattr(defenses, "DEFENSES", {**defenses.DEFENSES})
    first, second = (defenses.Defense("mine", "mine", made) for made in (defenses.refusals, defenses.nothing))
    profile, shown = small(), []
    for defense in (first, second, first):
        defenses.register(defense)
        run = describe(profile, "mine", n_attack=22)
        shown.append(experiment.found([run], profile)[0])
        execute([run], profile)
    assert shown[:2] == [None, None] and shown[2] == experiment.found([run], profile)[0]


def test_records_of_a_model_in_a_folder_are_shown_without_it(results, tmp_path):
    """A model that a command makes again: its records ship, its weights do not."""
    folder = shutil.copytree(CHECKPOINTS / "tiny-aligned", tmp_path / "mine")
    profile = small(name="mine", model=ModelSource("local", str(folder)))
    (record,) = execute([describe(profile, n_attack=0)], profile)
    records.ship("mine", [record])
    records.beside(record).unlink()
    assert experiment.found([describe(profile, n_attack=0)], profile) == [record]
    shutil.rmtree(folder)
    assert not sources.of(profile.model).installed
    assert experiment.found([describe(profile, n_attack=0)], profile) == [record]


def test_execute_does_not_take_shipped_records(reference, results, monkeypatch):
    records.ship("tiny", [reference["bsa"]])
    monkeypatch.setattr(computing, "computed", lambda *arguments: (_ for _ in ()).throw(AssertionError("computed")))
    with pytest.raises(AssertionError, match="computed"):
        execute([bsa(small())], small())


def test_runs_that_ask_test_items_differently_share_a_training():
    tiny = profiles.load("tiny")
    runs = [describe(tiny, "bsa", task="sql", task_served=served) for served in ("trained", "other")]
    assert len(chain.grouped(runs)) == 1


def test_a_profile_may_evaluate_the_validation_requests():
    tiny = profiles.load("tiny")
    asked = replace(tiny, evaluation=replace(tiny.evaluation, split="validation", restricted=22))
    run = describe(asked, "bsa", n_attack=22)
    of = material(asked, [run])
    rows, usual = rows_of(run, asked, of), rows_of(describe(tiny, "bsa", n_attack=22), tiny, of)
    assert (len(rows.restricted), len(rows.benign), rows.training) == (22, 110, usual.training)
    assert set(rows.restricted) < set(of.policy.validation_restricted)
    assert set(rows.benign) == set(of.policy.validation_benign)
    without = replace(of, policy=replace(of.policy, validation_benign=()))
    with pytest.raises(ValueError, match=r"holds 110 restricted and 0 benign validation requests; evaluation\.split"):
        rows_of(run, asked, without)
