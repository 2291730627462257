"""Profiles: what is shipped loads; everything that is wrong with a file is one clear message."""

import json
import runpy
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from bsa_core import keys, paths, profiles, records
from bsa_core.models import sources
from bsa_core.models.memory import device_of
from bsa_core.profiles import Benchmark, Compute, SecretPrompt, Training

GOOD = {
    "name": "mine",
    "model": {"source": "local", "name": "/somewhere"},
    "policy": {"name": "guild", "seed": 0},
    "training": {"epochs": 3, "learning_rate": 0.002},
    "pressures": {"heavy": {"epochs": 9}},
}


def load(tmp_path, text: str | bytes):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return profiles.load(str(path))


def changed(**sections) -> str:
    """The good profile with some fields of its sections replaced, as YAML."""
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in GOOD.items()}
    for name, values in sections.items():
        content[name] = {**content.get(name, {}), **values} if isinstance(values, dict) else values
    return yaml.safe_dump(content)


@pytest.mark.parametrize("name", profiles.available())
def test_shipped_profiles_load(name):
    profile = profiles.load(name)
    assert profile.name == name
    assert profile.pressures
    for pressure in profile.pressures:
        assert profiles.override(profile.training, profile.pressured(pressure))


CHAT_MODELS = ["gemma-2-9b-it", "llama2-7b-chat", "llama3-8b-instruct", "qwen2.5-7b-instruct"]


def test_the_scales_that_are_shipped():
    assert profiles.available() == sorted([*CHAT_MODELS, "smollm2-135m", "tiny"])


@pytest.mark.parametrize("name", CHAT_MODELS)
def test_profiles_of_chat_models_have_the_papers_settings(name):
    """Section 3 and its appendix: LoRA at 1e-3 for 10 epochs, full fine-tuning at 5e-5 for 5; bf16; 512 new tokens.

    Rows are as long as they are: the release cut them at 512 tokens.
    """
    profile = profiles.load(name)
    assert profile.training == Training(max_tokens=1024) and profile.secret == SecretPrompt("random", 150)
    full = profiles.override(profile.training, profile.pressured("full"))
    assert (full.method, full.learning_rate, full.epochs, full.batch_size) == ("full", 5e-5, 5, 10)
    assert profiles.override(profile.training, profile.pressured(profile.paper)) == profile.training
    assert {"light", "heavy", "full"} == set(profile.pressures) and set(profile.tasks) == {"sql", "dialogs"}
    assert profile.compute.dtype == "bfloat16" and profile.decoding.max_new_tokens == 512
    assert profile.utility == (Benchmark("arc_challenge", 5), Benchmark("mmlu", 5))
    assert (profile.evaluation.restricted, profile.policy["name"]) == (275, "published")
    assert profile.model.source == "hub" and sources.of(profile.model).pinned
    assert sources.weights_id(profile.model) == f"hub:{profile.model.name}@{profile.model.revision}"


def test_defaults_are_the_papers():
    """Section 4.1: LoRA with rank 8, alpha 32, dropout 0.05 on q and v, learning rate 1e-3, 10 epochs."""
    paper = Training()
    assert (paper.rank, paper.alpha, paper.dropout, paper.targets) == (8, 32, 0.05, ("q_proj", "v_proj"))
    assert (paper.learning_rate, paper.epochs, paper.decay_per_epoch) == (1e-3, 10, 0.85)


def test_a_file_of_your_own(tmp_path):
    profile = load(tmp_path, changed())
    assert profile.training.epochs == 3 and profile.training.rank == Training().rank
    assert profile.pressured("heavy") == {"epochs": 9}


@pytest.mark.parametrize("name", ["tinny", "", "no/such.yaml"])
def test_unknown_profile(name):
    with pytest.raises(ValueError, match=r"profile '.*' is unknown.*smollm2-135m, tiny or a"):
        profiles.load(name)


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"trainning": {"epochs": 3}}, "profile: unknown field 'trainning'; expected name, model"),
        ({"training": {"learning_rte": 0.1}}, "training: unknown field 'learning_rte'; expected epochs"),
        ({"model": {"revison": "main"}}, "model: unknown field 'revison'"),
        ({"pressures": {"heavy": {"epoch": 9}}}, "pressures.heavy: unknown field 'epoch'"),
        ({"training": {"epochs": 0}}, "training.epochs is 0; expected a whole number from 1 to 1000$"),
        ({"training": {"learning_rate": 2.0}}, "training.learning_rate is 2.0; expected a number from 1e-08 to 1.0$"),
        ({"training": {"learning_rate": -0.1}}, "training.learning_rate is -0.1"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate is nan; expected a number from"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate is inf; expected a number from"),
        ({"training": {"dropout": 1.0}}, "training.dropout is 1.0"),
        ({"training": {"epochs": 2.5}}, "training.epochs is 2.5; expected a whole number"),
        ({"training": {"epochs": True}}, "training.epochs is True; expected a whole number"),
        ({"training": {"epochs": "3"}}, "training.epochs is '3'; expected a whole number"),
        ({"training": {"learning_rate": True}}, "training.learning_rate is True; expected a number"),
        ({"training": {7: 3}}, "training: the name 7 is no text; write it in quotes"),
        ({"tasks": {7: {}}}, "tasks: the name 7 is no text; write it in quotes"),
        ({"defenses": "mine"}, "defenses is 'mine'; expected a list"),
        ({"training": {"targets": []}}, "training.targets is .*; expected a non-empty list .the modules that LoRA"),
        (
            {"training": {"targets": "q_proj"}},
            "training.targets is 'q_proj'; expected a non-empty list .the modules that LoRA",
        ),
        ({"training": {"targets": 3}}, "training.targets is 3; expected a non-empty list"),
        ({"training": {"targets": ["q_proj", 3]}}, r"training.targets\[1\] is 3; expected text"),
        ({"pressures": {"heavy": {"epochs": -1}}}, "pressures.heavy.epochs is -1; expected a whole number"),
        ({"secret": {"length": 0}}, "secret.length is 0; expected a whole number from 1 to 1024"),
        ({"secret": {"kind": "poem"}}, "secret.kind is 'poem'; expected one of 'random'"),
        ({"decoding": {"batch_size": 0}}, "decoding.batch_size is 0"),
        ({"evaluation": {"restricted": 0}}, "evaluation.restricted is 0"),
        ({"evaluation": {"split": "test"}}, "evaluation.split is 'test'; expected one of 'evaluated', 'validation'"),
        ({"region": {"rates": [0.001]}}, "region has rates or epochs alone; expected both, or neither"),
        ({"region": {"rates": [0], "epochs": [3]}}, r"region.rates\[0\] is 0; expected a number from 1e-08 to 1.0"),
        (
            {"region": {"rates": [0.01, 0.001], "epochs": [3, 10]}},
            r"region.rates is \[0.01, 0.001\]; expected each value once, the smallest first",
        ),
        ({"ablations": {"secret_length": [10]}}, "ablations.secret_length is .10.; expected a mapping"),
        ({"compute": {"device": "tpu"}}, "compute.device is 'tpu'; expected one of 'auto', 'cpu', 'cuda'"),
        ({"compute": {"dtype": "float64"}}, "compute.dtype is 'float64'; expected one of"),
        ({"compute": {"attention": "flash"}}, "compute.attention is 'flash'; expected one of 'auto', 'eager', 'sdpa'"),
        ({"model": {"quantize": "8bit"}}, "model.quantize is '8bit'; expected one of '', '4bit'"),
        ({"model": {"quantize": "4bit", "adapter": "a"}}, "model.quantize and model.adapter exclude each other"),
        ({"model": {"source": "cloud"}}, "model.source is 'cloud'; expected one of 'packaged', 'local'"),
        ({"chat": {"system_role": "no"}}, "chat.system_role is 'no'; expected true or false"),
        ({"chat": {"template_options": "no"}}, "chat.template_options is 'no'; expected a mapping .switches of the"),
        (
            {"chat": {"template_options": {"a": []}}},
            r"chat.template_options holds 'a': \[\]; expected a name",
        ),
        ({"policy": "guild"}, "policy is 'guild'; expected a mapping .where requests come from"),
        ({"training": 3}, "training is 3; expected a mapping"),
        ({"training": None}, "training is None; expected a mapping"),
        ({"pressures": {"heavy": 9}}, "pressures.heavy is 9; expected a mapping"),
        ({"paper": "heavier"}, "paper is 'heavier', which is no pressure of the profile; its pressures are: heavy"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(tmp_path, sections, message):
    with pytest.raises(ValueError, match=rf"mine\.yaml: {message}"):
        load(tmp_path, changed(**sections))


@pytest.mark.parametrize("name", ["name", "model", "policy"])
def test_a_missing_field(tmp_path, name):
    with pytest.raises(ValueError, match=rf"mine\.yaml: {name} is missing; expected (text|a mapping) \("):
        load(tmp_path, yaml.safe_dump({k: v for k, v in GOOD.items() if k != name}))


@pytest.mark.parametrize("section, field", [("model", "name"), ("model", "source")])
def test_a_missing_field_of_a_section(tmp_path, section, field):
    content = {**GOOD, section: {k: v for k, v in GOOD[section].items() if k != field}}
    with pytest.raises(ValueError, match=rf"mine\.yaml: {section}\.{field} is missing; expected"):
        load(tmp_path, yaml.safe_dump(content))


def test_scientific_notation_without_a_point_is_text_in_yaml(tmp_path):
    text = changed().replace("0.002", "1e-3")
    with pytest.raises(
        ValueError, match=r"training\.learning_rate is '1e-3'; expected a number from .* \(write 0\.001"
    ):
        load(tmp_path, text)


def test_a_notebooks_parameter_of_the_wrong_type_is_refused_as_well():
    """papermill's -y passes "1e-3" as text; the check is not only for files."""
    with pytest.raises(ValueError, match=r"^training\.learning_rate is '1e-3'; expected a number"):
        profiles.override(Training(), {"learning_rate": "1e-3"})
    with pytest.raises(ValueError, match="training: unknown field 'epoch'"):
        profiles.override(Training(), {"epoch": 3})


def test_whole_numbers_are_numbers(tmp_path):
    given = {"dropout": 0, "weight_decay": 0, "decay_per_epoch": 1, "learning_rate": 1}
    whole = load(tmp_path, changed(training=given, pressures={"heavy": {"learning_rate": 1}}))
    points = load(tmp_path, changed(training={name: float(value) for name, value in given.items()}))
    assert json.dumps(keys.content(whole.training)) == json.dumps(keys.content(points.training))
    heavy = profiles.override(points.training, whole.pressured("heavy"))
    assert json.dumps(keys.content(heavy)) == json.dumps(keys.content(points.training))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Training(0), "training.epochs is 0; expected a whole number from 1 to 1000"),
        (lambda: replace(Training(), epochs=0), "training.epochs is 0; expected a whole number from 1 to 1000"),
        (lambda: Training(epochs=1, dropout=None), "training.dropout is None; expected a number from 0.0 to 0.9"),
        (lambda: SecretPrompt("poem"), "secret.kind is 'poem'; expected one of 'random', 'default', 'fluent'"),
        (lambda: Benchmark(), "utility.task is missing; expected text (a multiple-choice task or group"),
        (lambda: Benchmark("mmlu", shot=1), "utility: unknown field 'shot'; expected task, shots, limit"),
        (lambda: profiles.TaskSource({"name": "sql"}, test=0), "tasks.test is 0; expected a whole number from 1 to"),
        (
            lambda: replace(profiles.load("tiny"), pressures={"heavy": {"epochs": "9"}}),
            "pressures.heavy.epochs is '9'; expected a whole number from 1 to 1000",
        ),
    ],
)
def test_whatever_is_made_in_code_is_checked_in_the_same_words(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert type(error.value) is ValueError


def test_settings_are_values():
    assert hash(Training()) == hash(Training()) and Training(targets=["a"]) == Training(targets=("a",))
    assert list(vars(Training())) == [field.name for field in fields(Training)]
    with pytest.raises(FrozenInstanceError):
        Training().epochs = 3


SHAPE = json.loads(profiles.schema())
TOOL = runpy.run_path(str(paths.ROOT / "tools" / "fields.py"))


def test_the_schema_in_the_folder_of_profiles_is_that_of_the_code():
    """python -c "from bsa_core import profiles; print(profiles.schema(), end='')" > profiles/profile.schema.json"""
    assert (paths.PROFILES / "profile.schema.json").read_text(encoding="utf-8") == profiles.schema()


@pytest.mark.parametrize("name", profiles.available())
def test_shipped_profiles_name_the_schema_and_keep_to_it(name):
    text = (paths.PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=profile.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), SHAPE)


@pytest.mark.parametrize(
    "sections",
    [
        {"trainning": {}},
        {"training": {"epochs": 0}},
        {"pressures": {"heavy": {"epoch": 9}}},
        {"tasks": {"sql": {}}},
    ],
)
def test_the_schema_refuses_what_a_load_refuses(tmp_path, sections):
    text = changed(**sections)
    jsonschema.validate(GOOD, SHAPE)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), SHAPE)
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        load(tmp_path, text)


def test_the_table_has_every_field_with_its_default_and_meaning():
    table = {name: (default, meaning) for name, default, meaning in TOOL["table"]()}
    for section in fields(profiles.Profile):
        made = getattr(profiles.load("tiny"), section.name)
        whole = is_dataclass(made) and section.name != "task_region"  # whose fields are those of `region`
        names = [f"{section.name}.{f.name}" for f in fields(made)] if whole else [section.name]
        assert set(names) & set(table) or names == ["policy"], names
        if whole:
            assert set(names) <= set(table), names
    assert table["name"][0] == table["policy.name"][0] == table["tasks.<name>.source.name"][0] == "required"
    assert table["training.learning_rate"] == ("0.001", "learning rate of the first epoch")
    assert table["training.targets"][0] == "[q_proj, v_proj]" and table["chat.system_role"][0] == "true"
    assert table["pressures"][0] == table["defenses"][0] == table["chat.end"][0] == "none"
    assert {name for name in table if "[]" in name} == {f"utility[].{f.name}" for f in fields(Benchmark)}
    assert all(meaning for _, meaning in table.values())


def test_the_table_in_the_book_is_that_of_the_code():
    assert TOOL["markdown"]() in (paths.BOOK / "profile.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["name: [", "name: a: b", "? [a]\n: b", "date: 2024-13-45", "a: !!timestamp b"])
def test_not_yaml(tmp_path, text):
    with pytest.raises(ValueError, match=r"mine\.yaml: not valid YAML"):
        load(tmp_path, text)


@pytest.mark.parametrize("text, message", [("", "the file is empty"), (b"name: \xff", "row 1: not UTF-8")])
def test_no_text(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"mine\.yaml(: |, ){message}"):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["- 1\n", "tiny"])
def test_not_a_mapping(tmp_path, text):
    with pytest.raises(ValueError, match=r"mine\.yaml: profile is .*; expected a mapping"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "name", ["../../escaped", "a/b", "a\\b", "/tmp/x", ".", "..", ".hidden", "", " ", "a\nb", "a\0", "x" * 201]
)
def test_a_name_that_would_lead_out_of_the_results(name):
    with pytest.raises(ValueError, match=r"^name is .*; expected up to 200 letters, .* as files are called by it$"):
        replace(profiles.load("tiny"), name=name)
    with pytest.raises(ValueError, match=r"^the name of a task is "):
        replace(profiles.load("tiny"), tasks={name: next(iter(profiles.load("tiny").tasks.values()))})
    if name:
        with pytest.raises(ValueError, match="the name of a record's file is "):
            records.path_of("tiny", f"{name}/bsa", "0" * 16)


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "My scale (2)", "größe_1", "违法"])
def test_names_in_any_script(name):
    assert replace(profiles.load("tiny"), name=name).name == name


def test_unknown_pressure():
    with pytest.raises(ValueError, match="pressure 'lite' is unknown to profile 'tiny'; its pressures are: light"):
        profiles.load("tiny").pressured("lite")
    with pytest.raises(ValueError, match="its pressures are: none: add a `pressures` section"):
        replace(profiles.load("tiny"), pressures={}).pressured("light")


def test_the_digest_changes_with_what_changes_outcomes_only():
    tiny = profiles.load("tiny")
    assert tiny.digest == profiles.load("tiny").digest
    for name, changes in (
        ("model", {"adapter": "x"}),
        ("model", {"quantize": "4bit"}),
        ("chat", {"system_role": False}),
        ("chat", {"template_options": {"enable_thinking": False}}),
        ("secret", {"length": 7}),
        ("decoding", {"batch_size": 7}),
        ("evaluation", {"quiz": 7}),
        ("evaluation", {"split": "validation"}),
        ("compute", {"threads": 7}),
        ("compute", {"attention": "eager"}),
    ):
        section = replace(getattr(tiny, name), **changes)
        assert replace(tiny, **{name: section}).digest != tiny.digest, changes
    assert replace(tiny, policy={"name": "guild", "seed": 1}).digest != tiny.digest
    assert tiny.paper == "light" and replace(tiny, paper="heavy").digest == tiny.digest
    assert replace(tiny, training=Training(), pressures={}).digest == tiny.digest  # part of the run instead
    assert replace(tiny, defenses=("a.B",)).digest == tiny.digest  # named by its own runs
    grid = profiles.Grid((0.001, 0.003), (3, 10))
    chosen = replace(tiny, region=grid, task_region=grid, ablations={"secret_length": {"bsa": (10, 150)}})
    assert chosen.digest == tiny.digest  # they say which runs there are


DIGESTS = {
    "gemma-2-9b-it": "73e33b9cf65506cc",
    "llama2-7b-chat": "d1153fb90c9ac1a4",
    "llama3-8b-instruct": "54d350a702756f2c",
    "qwen2.5-7b-instruct": "ba8f8d88987472b2",
    "smollm2-135m": "0eac43bb130c2ffc",
    "tiny": "d0033737deace873",
}


def test_the_digests_of_the_shipped_profiles():
    """Every record's key holds one: another digest means that every record of the scale is computed anew."""
    assert {name: profiles.load(name).digest for name in profiles.available()} == DIGESTS


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"compute\.device is 'cuda', but torch sees no CUDA device"):
        device_of(Compute(device="cuda"))
    assert device_of(Compute()) == device_of(Compute(device="cpu")) == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of(Compute()) == device_of(Compute(device="cuda")) == "cuda"
    assert device_of(Compute(device="cpu")) == "cpu"


@pytest.mark.parametrize(
    "task, message",
    [
        ({}, "tasks.sql.source is missing; expected a mapping (what the task is made of, such as"),
        ({"source": {"name": "sql"}, "train": 0}, "tasks.sql.train is 0; expected a whole number from 1"),
        ({"source": {"name": "sql"}, "rows": 5}, "tasks.sql: unknown field 'rows'"),
        ({"source": {"name": "sql"}, "training": {"epoch": 5}}, "tasks.sql.training: unknown field 'epoch'"),
        ({"source": "sql"}, "tasks.sql.source is 'sql'; expected a mapping (what"),
    ],
)
def test_a_wrong_task_is_named(tmp_path, task, message):
    with pytest.raises(ValueError) as error:
        load(tmp_path, yaml.safe_dump({**GOOD, "tasks": {"sql": task}}))
    assert message in str(error.value) and "mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    "utility, message",
    [
        ({"task": "mmlu"}, r"utility is \{'task': 'mmlu'\}; expected a list \(.* such as \[\{"),
        (["mmlu"], r"utility\[0\] is 'mmlu'; expected a mapping"),
        ([{"shots": 5}], r"utility\[0\]\.task is missing; expected text"),
        ([{"task": "mmlu", "shot": 5}], r"utility\[0\]: unknown field 'shot'; expected task, shots, limit"),
        ([{"task": "mmlu", "shots": -1}], r"utility\[0\]\.shots is -1; expected a whole number from 0"),
        ([{"task": "mmlu", "limit": 0.5}], r"utility\[0\]\.limit is 0\.5; expected a whole number"),
        ([{"task": "a/facts.yaml"}, {"task": "b/facts.yaml", "shots": 0}], "utility lists 'facts' twice"),
    ],
)
def test_a_wrong_benchmark_is_named(tmp_path, utility, message):
    with pytest.raises(ValueError, match=rf"mine\.yaml: {message}"):
        load(tmp_path, yaml.safe_dump({**GOOD, "utility": utility}))


def test_a_path_of_a_profile_is_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.given("data/release") == paths.ROOT / "data" / "release"  # also from the folder of the notebooks
    (tmp_path / "data" / "release").mkdir(parents=True)
    assert paths.given("data/release").resolve() == tmp_path / "data" / "release"
    assert paths.given("/data/release") == Path("/data/release")
    assert paths.given("~/release") == Path.home() / "release"


BOMB = ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    "said, message",
    [
        ("{name: guild, since: 2024-01-01}", r"policy\.since is '2024-01-01', which YAML reads as a date"),
        ("{name: guild, seed: !!binary aGk=}", r"policy\.seed is .*, which YAML reads as bytes"),
        ("{name: guild, seed: !!set {a}}", r"policy\.seed is .*, which YAML reads as a set"),
        (f"{{name: guild, seed: {'x' * 20_000}}}", None),
        ("{name: guild, 3: x}", r"policy: the name 3 is no text; write it in quotes"),
        ("{name: guild, seed: &a [*a, *a]}", "too many values, most by aliases"),
        (f"{{name: guild, seed: [&a [x, x], {BOMB}]}}", "too many values, most by aliases"),
    ],
)
def test_what_only_yaml_knows_is_named(tmp_path, said, message):
    """It would fail where a key is made, or take all memory."""
    text = yaml.safe_dump(yaml.safe_load((profiles.PROFILES / "tiny.yaml").read_text(encoding="utf-8")) | {"policy": 0})
    (path := tmp_path / "mine.yaml").write_text(text.replace("policy: 0", f"policy: {said}"), encoding="utf-8")
    if message is None:
        assert profiles.load(str(path)).digest
        return
    with pytest.raises(ValueError, match=rf"mine\.yaml: .*{message}"):
        profiles.load(str(path))
