"""A key covers all that decides an outcome: files beside the weights, the date, the device, rules, quiz and code.

Committed records keep theirs; what `test_committed` cannot see because it stands at its default is seen here.
"""

import json
import os
import shutil
import time
from dataclasses import replace
from datetime import date

import pytest
import torch
from transformers import AutoTokenizer

from bsa_core import experiment, keys, paths, policy, profiles, records
from bsa_core.examples import Example
from bsa_core.experiment import computing, lookup, runs
from bsa_core.models import chat, loading, sources
from bsa_core.paths import CHECKPOINTS
from bsa_core.profiles import Chat, Compute, Evaluation, ModelSource, Profile, Training

TINY = profiles.load("tiny")
AGAIN = "either this changes no outcome of committed records, and the constant is raised by hand, or they are made anew"


def small(**changes) -> Profile:
    settings = {"evaluation": Evaluation(restricted=11, benign=11, quiz=0), "training": Training(epochs=1)}
    return replace(TINY, **settings | changes)


def key(profile: Profile, **arm) -> str:
    run = experiment.describe(profile, **{"n_attack": 11} | arm)
    return runs.key_of(run, runs.rows_of(run, profile, runs.material(profile, [run])))


# files beside the weights


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    shutil.copytree(CHECKPOINTS / "tiny-aligned", made)
    return made


def in_folder(folder, **changes) -> Profile:
    return small(name="own", model=ModelSource("local", str(folder), **changes))


def upper(path) -> None:
    """Another template: what a user says reaches the model in capitals."""
    path.write_text(path.read_text(encoding="utf-8").replace("message.content }}", "message.content|upper }}"))


def setting(name: str, value):
    def edit(path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {name: value}), encoding="utf-8")

    return edit


def added(text: str):
    return lambda path: (path.parent.mkdir(exist_ok=True), path.write_text(text, encoding="utf-8"))


EDITS = {
    "chat_template.jinja": upper,
    "tokenizer_config.json": setting("chat_template", "{{ messages[0].content }}"),
    "tokenizer.json": setting("truncation", None),
    "config.json": setting("rope_theta", 5000.0),
    "generation_config.json": setting("eos_token_id", [1, 2]),
    "special_tokens_map.json": added('{"eos_token": "</s>"}'),
    "added_tokens.json": added("{}"),
    "additional_chat_templates/other.jinja": added("{{ messages }}"),
    "tokenizer.model": added("a sentencepiece model"),
    "merges.txt": added("a b"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_beside_the_weights_is_another_run(folder, name):
    first = key(in_folder(folder))
    assert first == key(in_folder(folder))
    time.sleep(0.01)
    EDITS[name](folder / name)
    assert key(in_folder(folder)) != first


def test_a_removed_template_is_another_run_and_a_read_me_is_not(folder):
    first = key(in_folder(folder))
    (folder / "README.md").write_text("What this is.", encoding="utf-8")
    (folder / ".DS_Store").touch()
    assert key(in_folder(folder)) == first
    (folder / "chat_template.jinja").unlink()
    assert key(in_folder(folder)) != first


def test_an_edit_that_keeps_size_and_time_is_another_run(folder):
    first, file = key(in_folder(folder)), folder / "chat_template.jinja"
    before = file.stat()
    time.sleep(0.01)
    file.write_text(file.read_text(encoding="utf-8").replace("<", "[", 1), encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and key(in_folder(folder)) != first


def test_weights_under_another_name_are_another_run(folder):
    """They cannot be loaded, so a record of theirs must not be found either."""
    first = key(in_folder(folder))
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert key(in_folder(folder)) != first


def test_an_edited_template_never_gets_the_old_record(folder, results):
    """Not even in the process that has loaded the model before."""
    profile = in_folder(folder)

    def loss() -> float:
        (record,) = experiment.execute([experiment.describe(profile, n_attack=11)], profile)
        return record["training"]["loss"][0]

    first = loss()
    time.sleep(0.01)
    upper(folder / "chat_template.jinja")
    second = loss()
    assert second > first + 1 and len(records.load("own")) == 2
    shutil.rmtree(results / "own")
    loading.load(TINY)  # lets go of the other
    assert loss() == second


@pytest.fixture
def adapter(folder, tmp_path):
    from bsa_core.engine.finetune import add_lora

    model = loading._load.__wrapped__(ModelSource("local", str(folder)), Compute(device="cpu")).model
    add_lora(model, Training(), seed=0).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_edited_adapter_config_is_another_run(folder, adapter):
    profile = in_folder(folder, adapter=str(adapter))
    first = key(profile)
    time.sleep(0.01)
    setting("lora_alpha", 64)(adapter / "adapter_config.json")
    assert key(profile) != first


# files that ship


def test_the_digests_of_what_ships_are_those_of_the_files():
    """After training the shipped models anew: `bsa_study.testbed.training.write_digests`."""
    listed = paths.data("checkpoints/digests.yaml")
    assert {path.name for path in CHECKPOINTS.iterdir() if path.is_dir()} == set(listed)
    assert all(sources.digests(CHECKPOINTS / name) == of for name, of in listed.items())


@pytest.fixture
def copied(tmp_path, monkeypatch):
    shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints")
    monkeypatch.setattr(sources, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("name", [*(name for name in EDITS if "/" not in name), "model.safetensors"])
def test_an_edited_file_of_a_shipped_checkpoint_is_named(copied, name):
    experiment.describe(TINY)
    time.sleep(0.01)
    file = copied / "tiny-aligned" / name
    EDITS.get(name, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"))(file)
    for use in (lambda: experiment.describe(TINY), lambda: loading.load(TINY)):
        with pytest.raises(
            ValueError, match=rf"{file} is not the file that ships with the project; restore it, or copy"
        ):
            use()


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_edited_file_of_a_shipped_adapter_is_named(copied, name):
    model = ModelSource("packaged", "tiny-aligned", adapter="smollm2-135m-aligned")
    weights = keys.file_digest(copied / model.adapter / "adapter_model.safetensors")
    assert sources.weights_id(model).endswith(f"+{weights}"), "the settings are checked, and no part of the key"
    time.sleep(0.01)
    file = copied / model.adapter / name
    file.write_bytes(file.read_bytes().replace(b"32", b"64", 1) + b" ")
    with pytest.raises(ValueError, match=rf"{file} is not the file that ships"):
        sources.weights_id(model)
    with pytest.raises(ValueError, match=rf"{file} is not the file that ships"):
        loading._load.__wrapped__(model, Compute(device="cpu"))


def test_a_missing_file_of_a_shipped_checkpoint_is_named(copied):
    (copied / "tiny-aligned" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"tiny-aligned/chat_template\.jinja is missing; restore it"):
        experiment.describe(TINY)


def test_a_checkpoint_of_ones_own_beside_them_counts_with_all_its_files(copied):
    shutil.copytree(copied / "tiny-aligned", copied / "mine")
    first = sources.weights_id(ModelSource("packaged", "mine"))
    assert first.startswith(f"{sources.weights_id(TINY.model)}+")
    time.sleep(0.01)
    upper(copied / "mine" / "chat_template.jinja")
    assert sources.weights_id(ModelSource("packaged", "mine")) != first


# the date

DATED = {
    "strftime_now": "{{ 'Today is ' + strftime_now('%Y-%m-%d') }}{{ messages[-1].content }}",
    "with blanks": '{{ strftime_now ( "%d %B %Y" ) }}{{ messages[-1].content }}',
    "by name": "{{ strftime_now(format='%A, %-d %b %Y') }}{{ messages[-1].content }}",
    "a form put together": "{% set form = '%B' %}{{ strftime_now(form ~ ' %Y') }}{{ messages[-1].content }}",
    "by another name": "{% set today = strftime_now %}{{ today('%Y') }}{{ messages[-1].content }}",
    "in a macro": "\n  {% macro head() %}\n  On {{ strftime_now('%F') }}\n{% endmacro %}\n {{ head() }}"
    "{{ messages[-1].content }}",
    # as Llama 3.2 has it
    "date_string": "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}{{ 'Today Date: ' + date_string }}{{ messages[-1].content }}",
}


@pytest.mark.parametrize("template", DATED.values(), ids=DATED)
def test_templates_that_write_the_date_write_a_fixed_one(template):
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "tiny-aligned")
    turns = [{"role": "user", "content": "How?"}]
    today, year = date.today(), str(date.today().year)
    theirs = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    assert chat.render(tokenizer, turns, Chat(template=template, date=str(today)), answering=False) == theirs
    assert year in theirs
    first = chat.render(tokenizer, turns, Chat(template=template), answering=True)
    assert "2024" in first and year not in first
    other = chat.render(tokenizer, turns, Chat(template=template, date="2023-03-01"), answering=True)
    assert "2023" in other and first != other
    assert chat.prompt_ids(tokenizer, Example("How?"), "", Chat(template=template))
    tokenizer.chat_template = template
    assert chat.render(tokenizer, turns, Chat(), answering=True) == first


def test_the_date_is_part_of_the_key():
    assert key(small(chat=Chat(date="2024-07-26"))) == key(small())
    assert key(small(chat=Chat(date="2023-03-01"))) != key(small())
    for wrong in ("26 Jul 2024", "2024-13-01", ""):
        with pytest.raises(ValueError, match=rf"chat\.date is '{wrong}'; expected a day such as '2024-07-26'"):
            Chat(date=wrong)


# device, rules, quiz, code


def test_the_device_in_use_is_part_of_the_key(monkeypatch):
    on = {}
    for available in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        on[available] = {device: key(small(compute=Compute(device=device))) for device in ("auto", "cpu")}
    assert on[False]["auto"] != on[True]["auto"] and on[False]["cpu"] == on[True]["cpu"]
    assert experiment.describe(small()).device == "cuda"
    assert "device" not in keys.content(replace(experiment.describe(small()), device="cpu"))


def test_records_of_another_device_are_shown_where_there_are_none_of_this_one(monkeypatch):
    """A book may be built on a laptop from what a GPU computed. Arms are compared seed by seed, each on one device."""
    profile = small()
    first, second = (experiment.describe(profile, "none", n_attack=11, seed=seed) for seed in (0, 1))
    on_cpu = experiment.execute([first, second], profile)
    monkeypatch.setattr(runs, "device", lambda compute: "cuda")
    on_gpu = [experiment.describe(profile, "none", n_attack=11, seed=seed) for seed in (0, 1)]
    assert experiment.found(on_gpu, profile) == on_cpu
    (computed,) = experiment.execute(on_gpu[:1], profile)
    assert computed["run"]["device"] == "cuda" and computed["key"] != on_cpu[0]["key"]
    assert experiment.found(on_gpu, profile) == [computed, on_cpu[1]]


def test_the_refusal_rules_are_part_of_the_key(monkeypatch):
    first = key(small())
    assert runs.rules() == runs.RULES, AGAIN
    monkeypatch.setitem(runs.refusals.TABLE, "keywords", [*runs.refusals.KEYWORDS, "Nay"])
    assert key(small()) != first


def test_the_quiz_is_part_of_the_key(monkeypatch):
    guild = policy.load({"name": "guild", "seed": 0})
    assert runs._quiz_digest(guild.quiz) == runs.QUIZ, AGAIN
    asked = small(evaluation=Evaluation(restricted=11, benign=11, quiz=4))
    first, without = key(asked), key(small())
    monkeypatch.setitem(policy.BUILDERS, "guild", lambda spec: replace(guild, quiz=guild.quiz[::-1]))
    assert key(asked) != first and key(small()) == without
    run = experiment.describe(asked, n_attack=0)
    assert experiment.execute([run], asked)[0]["data"]["quiz_digest"]


def test_the_code_is_part_of_the_key(monkeypatch):
    first = key(small())
    monkeypatch.setattr(runs, "CODE", runs.CODE + 1)
    assert key(small()) != first


# records of runs


@pytest.fixture
def recorded(results) -> tuple:
    profile = small()
    asked = [experiment.describe(profile, "none", n_attack=11, seed=seed) for seed in (0, 1)]
    made = experiment.execute(asked, profile)
    return profile, asked, made, records.beside(made[0])


def test_a_record_that_is_not_right_stops_its_run_and_no_table(recorded, monkeypatch, capsys):
    profile, asked, (_, second), path = recorded
    path.write_text(path.read_text(encoding="utf-8").replace('"leaked": 0', '"leaked": 1'), encoding="utf-8")
    before = path.read_bytes()
    monkeypatch.setattr(computing, "computed", lambda *arguments: (_ for _ in ()).throw(AssertionError("computed")))
    with pytest.raises(ValueError, match=rf"{path}: field 'digest' .*delete the file and run again"):
        experiment.execute(asked, profile)
    assert experiment.found(asked, profile) == [None, second]
    assert f"left out: {path}: field 'digest'" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_looking_up_copies_no_row_that_stays_as_it_is():
    """Else the rows of hundreds of runs were copied, and their digests computed, one by one."""
    profile = small()
    run = experiment.describe(profile, "none", n_attack=11)
    of = runs.material(profile, [run])
    assert {id(row) for row in runs.rows_of(run, profile, of).restricted} <= {id(row) for row in of.policy.restricted}


def test_a_damaged_record_gives_way_to_the_shipped_one(recorded):
    profile, asked, made, path = recorded
    archive = records.ship("tiny", made)
    path.write_text("{", encoding="utf-8")
    assert experiment.found(asked, profile) == made
    archive.write_bytes(b"")
    assert experiment.found(asked, profile) == [None, made[1]], "nor does a damaged archive stop the rest"


def test_a_record_that_says_another_arm_is_served_is_not_that_run_s(recorded, monkeypatch):
    _, asked, (first, _), path = recorded
    defense = lookup.defenses.get("none")
    monkeypatch.setattr(lookup.defenses, "get", lambda name: replace(defense, serves_secret=True))
    with pytest.raises(ValueError, match=rf"{path}: 'run' and 'deployed' are not those of its run"):
        lookup.own(asked[0], first["key"])


def test_threads_are_set_whenever_a_profile_is_loaded():
    for threads in (1, 2, 1, 2):
        loading.load(replace(TINY, compute=replace(TINY.compute, device="cpu", threads=threads)))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)


def test_a_record_says_what_its_run_took(recorded):
    for record in recorded[2]:
        assert 100 < record["cost"]["peak_memory_mb"] < 20_000 and "decoding_batch_size" not in record["cost"]
        assert record["environment"]["threads"] == 1 and record["environment"]["cpu_capability"]
