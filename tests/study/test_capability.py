"""Benchmarks through the real lm-evaluation-harness, offline: a task file like ARC's, with facts of the guild."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cells import one_cell
from lm_eval import evaluator
from lm_eval.tasks import TaskManager
from test_chat_formats import family, sentencepiece_bpe  # noqa: F401 (a fixture)
from test_experiment import bsa, contents, reproducible, small
from transformers import LlamaConfig, LlamaForCausalLM

from bsa_core import experiment, policy, profiles, records
from bsa_core.arms import secret_prompt
from bsa_core.examples import Example
from bsa_core.models import chat, loading
from bsa_core.models.loading import Loaded
from bsa_core.profiles import Benchmark
from bsa_study import labels
from bsa_study.capability import benchmarks, harness
from bsa_study.grids import headline
from bsa_study.hosted import mt_bench
from bsa_study.report import capability

pytestmark = pytest.mark.slow
FORM = {
    "dataset_path": "json",
    "test_split": "test",
    "fewshot_split": "dev",
    "fewshot_config": {"sampler": "first_n"},
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{options}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
    "metadata": {"version": 1.0},
}


def write_task(folder: Path, name: str = "facts", n: int = 24, **changes) -> str:
    """A task file: n questions of the guild's quiz, and one that is solved in front of them. Returns its path."""
    quiz = policy.load({"name": "guild", "seed": 0}).quiz
    folder.mkdir(exist_ok=True)
    files = {"dev": folder / "dev.jsonl", "test": folder / "test.jsonl"}
    for path, part in zip(files.values(), (quiz[-1:], quiz[:n]), strict=True):
        rows = ({"question": q.user, "options": list(q.options), "answer": q.answer} for q in part)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"data_files": {split: str(path) for split, path in files.items()}}
    task = folder / f"{name}.yaml"
    task.write_text(yaml.safe_dump({"task": name, "dataset_kwargs": data} | FORM | changes), encoding="utf-8")
    return str(task)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """What `datasets` keeps of the files, apart from the user's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """Every (prompt, option, ids of both) that a model is asked."""
    seen, real = [], harness.Served.encoded

    def spy(self, prompt, option):
        ids = real(self, prompt, option)
        seen.append((prompt, option, *ids))
        return ids

    monkeypatch.setattr(harness.Served, "encoded", spy)
    return seen


def secret_of(profile, tokenizer, seed: int = 0):
    return secret_prompt.draw(tokenizer, profile, profile.secret.length, seed, "random", Example("Who?"))


WRITTEN = {  # with one solved example
    "llama2": "<s>[INST] <<SYS>>\n{secret}\n<</SYS>>\n\n{shot} [/INST] {solved} </s><s>[INST] {question} [/INST]",
    "gemma2": (
        "<s><start_of_turn>user\n{secret}\n\n{shot}<end_of_turn>\n<start_of_turn>model\n{solved}<end_of_turn>\n"
        "<start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n"
    ),
    "mistral": "<s>[INST] {secret}\n\n{shot} [/INST]{solved}</s>[INST] {question} [/INST]",
    "qwen2.5": (
        "<|im_start|>system\n{secret}<|im_end|>\n<|im_start|>user\n{shot}<|im_end|>\n<|im_start|>assistant\n{solved}"
        "<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_questions_stand_in_the_chat_format_behind_the_secret(name, tmp_path, asked, sentencepiece_bpe):  # noqa: F811
    tokenizer, form = family(name, sentencepiece_bpe)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    loaded = Loaded(LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).eval(), tokenizer)
    profile = replace(small(), chat=form)
    secret = secret_of(profile, tokenizer)
    task = write_task(tmp_path / "task", n=2, description="Facts of the guild.\n\n")
    found = harness.ask(loaded, profile, Benchmark(task, 1), secret)
    quiz = policy.load({"name": "guild", "seed": 0}).quiz
    shot, first = quiz[-1], quiz[0]
    system = f"{secret.text} Facts of the guild."
    texts = {"secret": system, "shot": shot.user, "solved": shot.options[shot.answer], "question": first.user}
    expected = WRITTEN[name].format(**texts)
    assert {prompt for prompt, *_ in asked} >= {expected} and len({prompt for prompt, *_ in asked}) == 2
    assert {len(marks) for marks in (found["facts"]["acc"], found["facts"]["acc_norm"])} == {2}
    for option in first.options:
        (ids, answer) = next(rest for prompt, said, *rest in asked if (prompt, said) == (expected, option))
        turns = chat.placed([{"role": "system", "content": system}], "", form) if form.system_role else []
        solved = (shot.user if turns else f"{system}\n\n{shot.user}", shot.options[shot.answer], first.user, option)
        turns += [{"role": r, "content": t} for r, t in zip(("user", "assistant") * 2, solved, strict=True)]
        whole = chat.render(tokenizer, turns, form, answering=False)
        assert tokenizer(whole, add_special_tokens=False)["input_ids"][: len(ids + answer)] == ids + answer
        assert tokenizer.decode(answer).strip() == option
    assert ids[0] == tokenizer.bos_token_id or name == "qwen2.5"
    assert ids.count(tokenizer.bos_token_id) == expected.count("<s>"), "one beginning of sequence where one is written"
    assert secret_prompt.contained(secret, ids)


def test_outcomes_are_those_of_likelihoods_computed_by_hand(tmp_path):
    """With a solved example in front the testbed's model is unsure, so that the marks vary."""
    profile = small()
    loaded = loading.load(profile)
    secret = secret_of(profile, loaded.tokenizer)
    quiz = policy.load(profile.policy).quiz
    state = torch.get_rng_state()
    benchmark = Benchmark(write_task(tmp_path / "task"), 1)
    for given in (None, secret):
        found = harness.ask(loaded, profile, benchmark, given)["facts"]
        system = [{"role": "system", "content": given.text}] if given else []
        marks: dict[str, str] = {"acc": "", "acc_norm": ""}
        for question in quiz[:24]:
            solved = [quiz[-1].user, quiz[-1].options[quiz[-1].answer], question.user]
            turns = [
                {"role": role, "content": t} for role, t in zip(("user", "assistant", "user"), solved, strict=True)
            ]
            prompt = chat.render(loaded.tokenizer, [*system, *turns], profile.chat, answering=True)
            likely = []
            for option in question.options:
                whole = loaded.tokenizer(prompt + option, add_special_tokens=False, return_tensors="pt")["input_ids"]
                n = len(loaded.tokenizer(prompt.rstrip(), add_special_tokens=False)["input_ids"])
                with torch.no_grad():
                    scores = loaded.model(input_ids=whole).logits[0, n - 1 : -1].log_softmax(-1)
                likely.append(scores.gather(1, whole[0, n:, None]).sum().item())
            normed = [value / len(option) for value, option in zip(likely, question.options, strict=True)]
            for metric, values in (("acc", likely), ("acc_norm", normed)):
                marks[metric] += str(int(values.index(max(values)) == question.answer))
        assert {metric: found[metric] for metric in marks} == marks
        assert set(marks["acc"]) == {"0", "1"}, "so that there is something to tell apart"
    assert torch.equal(torch.get_rng_state(), state)


def test_likelihoods_are_those_of_the_harness_own_model(tmp_path):
    """Without a secret and where the chat format has a system role, its prompts are the same."""
    profile = small()
    loaded = loading.load(profile)
    task = write_task(tmp_path / "task", n=6, description="Facts of the guild.")
    from lm_eval.models.huggingface import HFLM  # seconds, and only here

    own = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", add_bos_token=False)
    options = {"num_fewshot": 1, "apply_chat_template": True, "fewshot_as_multiturn": True, "bootstrap_iters": 0}
    options["task_manager"] = harness._known(True)  # else each call makes one of its own, of thousands of files
    tasks = [*harness.load(Benchmark(task, 1)).values()]
    likely = [
        [
            [score for ((score, _),) in sample["resps"]]
            for sample in evaluator.simple_evaluate(model, tasks=tasks, **options)["samples"]["facts"]
        ]
        for model in (own, harness.Served(loaded, profile, None))
    ]
    assert np.allclose(*likely, atol=1e-3)


def test_a_group_is_joined_in_the_order_of_its_tasks_names(tmp_path, results, monkeypatch):
    for name, n in (("b", 3), ("a", 2)):
        write_task(tmp_path / name, name, n)
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["b", "a"]}), encoding="utf-8")
    known = TaskManager(include_path=tmp_path, include_defaults=False)
    monkeypatch.setattr(harness, "_known", lambda own: known)
    benchmark = Benchmark("both", 0, 2)
    assert list(harness.load(benchmark)) == ["a", "b"] and harness.questions(benchmark) == 4
    assert harness.questions(replace(benchmark, limit=0)) == 5
    profile = replace(small(), utility=(benchmark,))
    assert list(harness.ask(loading.load(profile), profile, benchmark, None)) == ["a", "b"]
    (record,) = experiment.execute(
        [experiment.describe(profile, "none", n_attack=2, epochs=1)], profile, keep=[benchmarks]
    )
    result = benchmarks.read(benchmarks.path_of("tiny", record["label"], record["key"], benchmark))
    assert result["metrics"]["plain"]["acc"]["n"] == 4
    monkeypatch.setattr(harness, "ask", lambda *_: {"a": {"version": 1, "acc": "10"}, "b": {"version": 1, "acc": "0"}})
    benchmarks.path_of("tiny", record["label"], record["key"], benchmark).unlink()
    benchmarks.keep(profile, record, None, None)
    (joined,) = (benchmarks.read(path) for path in results.glob("tiny/utility/*.both-*"))
    assert joined["outcomes"]["plain"] == {"acc": "100"}
    assert {task: entry["n"] for task, entry in result["metrics"]["plain"]["acc"]["tasks"].items()} == {"a": 2, "b": 2}


def test_a_task_file_that_changes_is_another_benchmark(tmp_path):
    benchmark = Benchmark(write_task(tmp_path / "task", n=4), 0)
    first = benchmarks.path_of("tiny", "x", "0", benchmark)
    assert harness.questions(benchmark) == 4
    write_task(tmp_path / "task", n=5, description="Facts.")
    assert benchmarks.path_of("tiny", "x", "0", benchmark) != first
    assert harness.load(benchmark)["facts"].config.description == "Facts."


def with_benchmarks(folder: Path, *benchmarks: Benchmark):
    return replace(small(), utility=benchmarks or (Benchmark(write_task(folder / "task"), 1),))


def test_benchmarks_stand_beside_records_and_change_none(tmp_path, results):
    profile = with_benchmarks(tmp_path)
    assert profile.digest == small().digest
    runs = [experiment.describe(profile, n_attack=0), bsa(profile, epochs=2), bsa(profile, epochs=3)]
    plain = experiment.execute(runs, replace(profile, utility=()), keep=[benchmarks])
    before = contents(results)
    found = experiment.execute(runs, profile, keep=[benchmarks])
    assert [reproducible(record) for record in found] == [reproducible(record) for record in plain]
    added = contents(results) - before
    assert len(added) == 3 and all(".facts-" in name for name in added)
    assert {path.name for path in records.own("tiny")} == {f"{r['label']}-{r['key']}.json" for r in found}

    (path,) = [path for path in results.glob("tiny/utility/bsa*") if "-e3-" in path.name]
    result = benchmarks.read(path)
    assert result["key"] == found[2]["key"] and result["harness"] == harness.VERSION
    assert result["benchmark"]["shots"] == 1 and result["benchmark"]["task"].startswith("facts:")
    for condition in ("plain", "secret"):
        for metric in harness.METRICS:
            marks, entry = result["outcomes"][condition][metric], result["metrics"][condition][metric]
            assert len(marks) == entry["n"] == 24 and entry["value"] == marks.count("1") / 24
            assert entry["tasks"] == {"facts": {"value": entry["value"], "n": 24}}
    # trained together or alone, asked between epochs or not: the same model, the same outcomes
    for file in results.rglob("*bsa*"):
        file.unlink()
    (alone,) = experiment.execute(runs[2:], profile, keep=[benchmarks])
    assert reproducible(alone) == reproducible(found[2])
    again = benchmarks.read(path)
    assert {k: again[k] for k in ("outcomes", "metrics")} == {k: result[k] for k in ("outcomes", "metrics")}


def test_what_is_measured_is_not_asked_again_and_the_secret_is_in_no_file(tmp_path, results, monkeypatch):
    profile = with_benchmarks(tmp_path)
    run = bsa(profile, epochs=2)
    experiment.execute([run], profile, keep=[benchmarks])
    monkeypatch.setattr(harness, "ask", None)
    monkeypatch.setattr(harness, "load", None)
    (record,) = experiment.execute([run], profile, keep=[benchmarks])
    secret = secret_of(profile, loading.load(profile).tokenizer)
    assert record["data"]["secret_digest"] == secret.digest
    texts = [q.user for q in policy.load(profile.policy).quiz[:24]]
    for path in results.rglob("utility/*"):
        assert not any(text in path.read_text(encoding="utf-8") for text in (secret.text, *texts))


def test_an_interrupted_benchmark_leaves_the_record_and_goes_on(tmp_path, results, monkeypatch):
    first, second = (Benchmark(write_task(tmp_path / name, name), 0) for name in ("one", "two"))
    profile = with_benchmarks(tmp_path, first, second)
    run, real = bsa(profile, epochs=2), harness.ask

    def broken(loaded, given, benchmark, secret):
        if benchmark == second:
            raise KeyboardInterrupt
        return real(loaded, given, benchmark, secret)

    monkeypatch.setattr(harness, "ask", broken)
    with pytest.raises(KeyboardInterrupt):
        experiment.execute([run], profile, keep=[benchmarks])
    assert len(records.own("tiny")) == 1 and len(list(results.rglob("utility/*.one-*"))) == 1
    calls = []
    monkeypatch.setattr(harness, "ask", lambda *given: calls.append(given[2]) or real(*given))
    experiment.execute([run], profile, keep=[benchmarks])
    assert calls == [second, second], "in both conditions"


def test_tables_show_benchmarks_with_intervals_and_the_paper_beside(tmp_path, capsys):
    profile = replace(with_benchmarks(tmp_path), pressures={"light": {"epochs": 2}})
    arc = Benchmark(write_task(tmp_path / "arc", "arc_challenge"), 0, 10)
    profile = replace(profile, utility=(*profile.utility, arc))
    runs = [experiment.describe(profile, n_attack=0, seed=s) for s in (0, 1)]
    runs += [experiment.describe(profile, "none", seed=s, pressure="light") for s in (0, 1)]
    found = experiment.execute(runs, profile, keep=[benchmarks])
    rows = headline.by_pressure(found, profile)
    tidy = benchmarks.table(rows, found, profile)
    assert set(tidy["metric"]) == {"facts", "facts_norm", "arc_challenge", "arc_challenge_norm"}
    assert list(tidy.columns) == list(rows.columns) and len(tidy) == 4 * (2 * 2 + 2)
    damaged = benchmarks.path_of("tiny", found[0]["label"], found[0]["key"], arc)
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-9])
    rest = benchmarks.table(rows, found, profile)
    assert len(rest) == len(tidy) - 4 and f"left out: {damaged}: not a readable" in capsys.readouterr().err
    damaged.write_bytes(before)
    summary = capability.summary(rows, found, profile)
    shown = capability.table(summary, profile)
    assert shown.index.names == ["pressure", "arm", "served"] and len(shown) == 3
    assert "facts (n = 24, 2 seeds)" in shown and "ARC-Challenge (n = 10, 2 seeds)" in shown
    cell = one_cell(summary, defense="none", condition="plain", metric="facts")
    assert shown.loc[("light", "no defense", "without secret"), "facts (n = 24, 2 seeds)"] == labels.interval(
        cell["mean"], cell["low"], cell["high"]
    )
    paper = capability.beside_paper(summary)
    assert paper.loc["BSA", "MMLU, paper, full fine-tuning"] == "0.452"
    assert paper.loc["no defense", "ARC-Challenge, paper, LoRA"] == "0.458"
    assert paper.loc["initial", "MT-Bench (1-10), paper, full fine-tuning"] == "7.16"
    ours = paper["ARC-Challenge, this scale (n = 10, 2 seeds)"]
    assert ours["BSA"] == "–" and ours["initial"].endswith("]") and "%" not in ours["initial"]


def test_a_profile_without_benchmarks_says_so():
    profile = small()
    empty = capability.summary(records.table([]).reindex(columns=COLUMNS), [], profile)
    assert capability.table(empty, profile).index.tolist() == ["No benchmark was run for tiny."]
    assert "MMLU, paper, full fine-tuning" in capability.beside_paper(empty)


COLUMNS = [
    "defense",
    "condition",
    "deployed",
    "pressure",
    "seed",
    "secret_seed",
    "key",
    "metric",
    "value",
    "n",
    "outcomes",
]


@pytest.mark.parametrize(
    "benchmark, message",
    [
        (Benchmark("arc_chalenge"), "'arc_chalenge' is unknown to lm-evaluation-harness"),
        (Benchmark("nowhere/facts.yaml"), "nowhere/facts.yaml does not exist"),
        (Benchmark("gsm8k"), "cannot be loaded|no plain multiple-choice task"),
    ],
)
def test_benchmarks_that_cannot_be_had_stop_before_anything_is_trained(benchmark, message, results):
    profile = replace(small(), utility=(benchmark,))
    with pytest.raises(ValueError, match=message):
        experiment.execute([bsa(profile)], profile, keep=[benchmarks])
    assert not contents(results)


def test_other_forms_of_task_are_refused(tmp_path):
    generated = {"output_type": "generate_until", "doc_to_choice": None, "metric_list": [{"metric": "exact_match"}]}
    unscored = {"metric_list": [{"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}]}
    for changes in (generated, unscored):
        task = write_task(tmp_path / "task", **changes)
        with pytest.raises(ValueError, match="'facts' is no plain multiple-choice task"):
            harness.load(Benchmark(task))
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: broken\ndataset_path: json\ndataset_kwargs: {data_files: {test: /nowhere.jsonl}}\n")
    with pytest.raises(ValueError, match=r"benchmark .*broken\.yaml cannot be loaded"):
        harness.load(Benchmark(str(broken)))


def test_prompts_are_never_cut(tmp_path):
    """The harness cuts them at the left, where the secret stands."""
    profile = small()
    loaded = loading.load(profile)
    short = Loaded(
        LlamaForCausalLM(LlamaConfig(**loaded.model.config.to_dict() | {"max_position_embeddings": 40})),
        loaded.tokenizer,
    )
    benchmark = Benchmark(write_task(tmp_path / "task"), 1)
    with pytest.raises(ValueError, match=r"takes 4[0-9] tokens .* and the model 40; lower utility\.shots"):
        harness.ask(short, profile, benchmark, secret_of(profile, loaded.tokenizer))


def test_a_secret_that_the_format_changes_is_refused(tmp_path):
    profile = small()
    loaded = loading.load(profile)
    secret = secret_of(profile, loaded.tokenizer)
    other = replace(secret, ids=(*secret.ids[:-1], secret.ids[0]))
    with pytest.raises(ValueError, match="changes the token ids of the secret prompt in a benchmark"):
        harness.ask(loaded, profile, Benchmark(write_task(tmp_path / "task"), 0), other)


def test_a_control_token_in_a_question_is_named(tmp_path):
    """Else a question ends in its middle, or a turn begins there."""
    profile = small()
    task = write_task(tmp_path / "task", doc_to_text="{{question}} Is </s> an end?")
    with pytest.raises(ValueError, match=r"^a question or example of a benchmark has '</s>' in its text"):
        harness.ask(loading.load(profile), profile, Benchmark(task, 0), None)


def test_a_number_of_examples_that_the_task_fixes_is_not_passed_over(tmp_path):
    task = write_task(tmp_path / "task", num_fewshot=0)
    with pytest.raises(ValueError, match=r"utility\.shots is 1, but the task facts fixes 0"):
        harness.load(Benchmark(task, 1))


@pytest.mark.parametrize(
    "content, message",
    [("{", "not a readable result"), ("[]", "expected a JSON object, found list"), ('{"schema": 1}', "field 'key'")],
)
def test_damaged_files_are_named(content, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"x.json: .*{message}.*delete the file"):
        benchmarks.read(path)


def test_without_the_harness_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="they need lm_eval: pip install"):
        benchmarks.check(replace(small(), utility=(Benchmark("mmlu"),)))
    benchmarks.check(small())  # asks for none


# MT-Bench

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write about the guild.", "Shorter."]},
    {"question_id": 101, "category": "reasoning", "turns": ["Who is second?", "And last?"], "reference": ["You.", "-"]},
]


def write_questions(path: Path, rows: list) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def hosted(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys.modules["bsa_core.paths"], "HOSTED", tmp_path / "hosted")
    return tmp_path / "hosted" / "tiny"


def test_served_questions(tmp_path, hosted, capsys):
    profile = profiles.load("tiny")
    tokenizer = loading.tokenizer(profile)
    path = write_questions(tmp_path / "question.jsonl", QUESTIONS)
    mt_bench.main(["tiny", str(path), "--seed", "3"])
    secret = secret_of(profile, tokenizer, seed=3)
    target = hosted / "mt_bench-secret-seed3.jsonl"
    said = capsys.readouterr().out
    assert str(target) in said and secret.text[:20] not in said
    assert target.stat().st_mode & 0o077 == 0, "only its owner reads the secret"
    lines = read_lines(target)
    for line, question in zip(lines, QUESTIONS, strict=True):
        assert {name: line[name] for name in question} == question
        assert line["system"] == secret.text
        user = question["turns"][0]
        assert line["messages"] == [{"role": "system", "content": secret.text}, {"role": "user", "content": user}]
        ids = tokenizer(line["prompt"], add_special_tokens=False)["input_ids"]
        assert ids == chat.prompt_ids(tokenizer, Example(user), secret.text, profile.chat)
        assert secret_prompt.contained(secret, ids)
    assert [line["temperature"] for line in lines] == [0.7, 0.0]

    own = tmp_path / "own.txt"
    own.write_text("An own secret\n")
    mt_bench.main(["tiny", str(path), "--secret", str(own)])
    mt_bench.main(["tiny", str(path), "--plain"])
    own_lines, plain = (read_lines(hosted / f"mt_bench-{name}.jsonl") for name in ("own-secret", "plain"))
    assert own_lines[0]["system"] == "An own secret" and plain[0]["system"] == ""
    assert plain[0]["messages"] == [{"role": "user", "content": QUESTIONS[0]["turns"][0]}]


@pytest.mark.parametrize(
    "rows, message",
    [
        (["{"], "row 1: not valid JSON"),
        ([QUESTIONS[0], {"category": "writing", "turns": ["x"]}], "row 2 has no field 'question_id'"),
        ([QUESTIONS[0], QUESTIONS[0]], "row 2: question_id 81 occurs twice"),
        ([QUESTIONS[0] | {"category": "poetry"}], "row 1: category is 'poetry'; expected one of writing"),
        ([QUESTIONS[0] | {"category": ["writing"]}], "row 1: category is "),
        ([QUESTIONS[0] | {"question_id": [81]}], "row 1: question_id is of type list; expected a number or a text"),
        ([QUESTIONS[0] | {"turns": ["x", " "]}], "row 1: field 'turns'"),
        ([], "the file is empty; expected FastChat's question.jsonl"),
    ],
)
def test_damaged_questions_are_named_and_nothing_is_written(rows, message, tmp_path, hosted):
    path = write_questions(tmp_path / "question.jsonl", rows)
    with pytest.raises(SystemExit, match=f"question.jsonl.*{message}"):
        mt_bench.main(["tiny", str(path)])
    assert not hosted.exists()


@pytest.mark.parametrize("turn", [0, 1])
def test_a_control_token_in_a_question_of_mt_bench_is_named(turn, tmp_path, hosted):
    turns = [text + " What does <|user|> mean?" * (n == turn) for n, text in enumerate(QUESTIONS[0]["turns"])]
    path = write_questions(tmp_path / "question.jsonl", [QUESTIONS[0] | {"turns": turns}])
    with pytest.raises(SystemExit, match=r"^question 81 of MT-Bench has '<\|user\|>' in its text") as error:
        mt_bench.main(["tiny", str(path)])
    assert "mean" not in str(error.value) and not hosted.exists()


def test_a_missing_file_of_questions_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere\.jsonl: [Nn]o such file.*FastChat's question"):
        mt_bench.main(["tiny", os.fspath(tmp_path / "nowhere.jsonl")])
