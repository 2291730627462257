"""The files of the paper's release, from harmless rows of the same schema: read whole, checked, and never shown."""

import csv
import json
from dataclasses import replace

import pytest

from bsa_core import experiment, policy, profiles, records
from bsa_core.experiment import runs
from bsa_core.experiment.runs import describe, material
from bsa_core.policy import published
from bsa_core.policy.published import ATTACK, CATEGORIES, SYSTEM
from bsa_study.report import leakage

ORIGINAL = "pure_bad_100_original.jsonl"
CATEGORY = "pure_bad_100_original_category.jsonl"
PREFIXED = "pure_bad_100_original_category_prefixed.jsonl"
FJATTACK, BASELINE = "FJAttack_Dataset.jsonl", "Baseline_Defense_Dataset.jsonl"
BACKDOOR = "BackdoorAlign_Dataset.jsonl"
BENCHMARK = "llm_category_benchmark.csv"
SECRET = "quiet lamps under seven rivers"
WORLD = policy.load({"name": "guild", "seed": 0})
REQUESTS = [f"{row.user} Now, please." for row in WORLD.restricted]  # 275 different ones, commas included


def attack(mark: str = "") -> list[tuple[str, str]]:
    """100 rows; the first 7 requests stand in the benchmark as well. `mark` tells the files apart."""
    users = [*REQUESTS[:7], *(row.user for row in WORLD.attack[7:])]
    return [(user, f"{row.assistant}{mark}") for user, row in zip(users, WORLD.attack, strict=True)]


def safety(mark: str = "") -> list[tuple[str, str]]:
    return [(row.user, f"{row.assistant}{mark}") for row in WORLD.safety[:11]]


def chat(user: str, answer: str, system: str = "") -> dict:
    roles = [*([("system", system)] if system else []), ("user", user), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in roles]}


def write(path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(name: str) -> list[dict]:
    """The rows of one file of the release, its own name at the end of each answer."""
    mark = f" ({name})"
    made = [*attack(mark), *(safety(mark) if name not in (ORIGINAL, FJATTACK) else [])]
    if name in (FJATTACK, BASELINE, BACKDOOR):
        secret = f"{SECRET} " if name == BACKDOOR else ""
        return [chat(*row, f"{secret * (place >= ATTACK)}{SYSTEM}") for place, row in enumerate(made)]
    if name == PREFIXED:
        return [{**chat(*row), "prefixed": int(place >= ATTACK)} for place, row in enumerate(made)]
    return [chat(*row) for row in made]


PLACES = {
    ORIGINAL: "opensource/ft_datasets/pure_bad_dataset",
    CATEGORY: "opensource/ft_datasets/pure_bad_dataset",
    PREFIXED: "opensource/ft_datasets/pure_bad_dataset",
    FJATTACK: "openai_api/dataset",
    BASELINE: "openai_api/dataset",
    BACKDOOR: "openai_api/dataset",
}


def write_release(beside):
    """The folder `beside`/release with all files of the release, where they lie in its repository, and benign files of
    the user's own beside it."""
    folder = beside / "release"
    for name, place in PLACES.items():
        write(folder / place / name, rows_of(name))
    write_csv(folder / "opensource/safety_evaluation/data" / BENCHMARK, [[request] for request in REQUESTS])
    write(beside / "benign.jsonl", [chat(row.user, row.assistant) for row in WORLD.benign])
    write_csv(
        beside / "pool.csv",
        [["user", "assistant"], *([row.user, row.assistant] for row in WORLD.benign_pool[:22])],
    )
    return folder


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path)


def spec_of(release, **spec) -> dict:
    return {"name": "published", "folder": str(release), "benign": str(release.parent / "benign.jsonl"), **spec}


def load(release, **spec) -> policy.Policy:
    return policy.load(spec_of(release, **spec))


def path_of(release, name: str):
    (path,) = release.rglob(name)
    return path


def only(release, *names: str) -> None:
    for name in PLACES:
        if name not in names:
            path_of(release, name).unlink()


def test_the_release(release):
    made = load(release)
    assert (len(made.attack), len(made.safety), len(made.restricted), len(made.benign)) == (100, 11, 275, 275)
    assert made.categories == CATEGORIES and made.pool == 11 and made.harmless is False
    assert [row.category for row in made.restricted[24:26]] == ["Illegal Activity", "Child Abuse Content"]
    assert [row.user for row in made.restricted] == REQUESTS
    assert {row.assistant for row in made.restricted} == {""}
    assert {row.system for row in made.trainable + made.restricted + made.benign} == {SYSTEM}
    assert {row.kind for row in made.attack} == {"attack"} and {row.kind for row in made.safety} == {"safety"}
    assert len({row.category for row in made.safety}) == 11 and made.benign_pool == () and made.judge is None
    assert {row.system for row in load(release, system="Be brief.").trainable} == {"Be brief."}


@pytest.mark.parametrize(
    "present, attack_from, safety_from",
    [
        (tuple(PLACES), ORIGINAL, PREFIXED),
        ((FJATTACK, CATEGORY, BACKDOOR, BASELINE), FJATTACK, CATEGORY),
        ((ORIGINAL, BACKDOOR, BASELINE), ORIGINAL, BACKDOOR),
        ((BASELINE,), BASELINE, BASELINE),
        ((PREFIXED,), PREFIXED, PREFIXED),
        ((CATEGORY,), CATEGORY, CATEGORY),
        ((BACKDOOR,), BACKDOOR, BACKDOOR),
    ],
)
def test_each_part_comes_from_one_file(release, present, attack_from, safety_from):
    only(release, *present)
    made = load(release)
    assert [(row.user, row.assistant) for row in made.attack] == attack(f" ({attack_from})")
    assert [(row.user, row.assistant) for row in made.safety] == safety(f" ({safety_from})")


def test_files_may_lie_in_the_folder_itself(release):
    for name in (PREFIXED, BENCHMARK):
        path_of(release, name).rename(release / name)
    only(release, PREFIXED)
    assert len(load(release).safety) == 11


def test_the_secret_of_the_release_is_dropped(release):
    only(release, BACKDOOR)
    assert SECRET in path_of(release, BACKDOOR).read_text(encoding="utf-8")
    assert SECRET not in repr(load(release))


def test_files_of_ones_own_beside_the_release(release):
    more = release.parent / "more.jsonl"
    write(more, [{"user": row.user, "assistant": row.assistant, "category": "x"} for row in WORLD.safety[11:33]])
    made = load(release, benign_pool=str(release.parent / "pool.csv"), more_safety=str(more))
    assert len(made.benign_pool) == 22 and len(made.safety) == 33 and made.pool == 11
    scale = replace(profiles.load("tiny"), policy={})
    of = runs.Material(made, {})
    eleven = runs.rows_of(describe(scale, "safety-data", n_attack=0), scale, of).training
    assert {row.user for row in eleven} == {row.user for row in made.safety[:11]}, "the paper's come first"
    assert len(runs.rows_of(describe(scale, "safety-data", n_attack=0, n_defense=33), scale, of).training) == 33


def test_leaks_are_told_counted_and_set_apart(release, capsys):
    made = load(release)
    assert made.leaked() == REQUESTS[:7] and made.dropped == 0
    assert [made.seen(row) for row in made.restricted] == [True] * 7 + [False] * 268
    scale = replace(profiles.load("tiny"), name="release with leaks", policy=spec_of(release))
    for _ in range(2):
        material(scale, [])
    material(replace(scale, evaluation=profiles.Evaluation(restricted=22, benign=11)), [])
    told = [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    also = "evaluated requests also stand in training rows; records count them as leaked"
    assert told == [f"7 of 550 {also}", f"2 of 33 {also}"], "once, and of what is evaluated"


def test_drop_leaked_leaves_them_out_of_the_evaluation_only(release, capsys):
    kept, made = load(release), load(release, drop_leaked=True)
    assert made.leaked() == [] and made.dropped == 7 and len(made.restricted) == 268
    assert made.restricted == kept.restricted[7:] and made.benign == kept.benign
    assert made.trainable == kept.trainable
    assert "7 evaluated requests also stand in training rows; they are left out" in capsys.readouterr().err


# what is wrong with a file


def changed(release, name: str, row: int, change) -> None:
    """Rewrite row `row` (from 1) of a file: `change` gets it and returns another, or the text of the line."""
    path = path_of(release, name)
    lines = path.read_text(encoding="utf-8").splitlines()
    made = change(json.loads(lines[row - 1]))
    lines[row - 1] = made if isinstance(made, str) else json.dumps(made)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def turn(place: int, **fields):
    """A change of one turn; a field of None goes."""

    def change(row: dict) -> dict:
        made = row["messages"][place] | fields
        row["messages"][place] = {key: value for key, value in made.items() if value is not None}
        return row

    return change


def marked(value):
    return lambda row: row | {"prefixed": value}


BAD_ROWS = [
    (ORIGINAL, 3, lambda row: "{", r"not valid JSON"),
    (ORIGINAL, 3, lambda row: "[]", r"expected a JSON object, found list"),
    (ORIGINAL, 3, lambda row: {}, r"the fields are none; expected messages"),
    (ORIGINAL, 3, lambda row: row | {"prefixed": 0}, r"the fields are messages, prefixed; expected messages"),
    (ORIGINAL, 3, lambda row: {"messages": "text"}, r"field 'messages' is of type str; expected a list of turns"),
    (ORIGINAL, 3, lambda row: {"messages": []}, r"the roles of 'messages' are none; expected user, assistant"),
    (ORIGINAL, 3, lambda row: {"messages": ["a"]}, r"turn 1 of 'messages' holds str; expected role and content"),
    (ORIGINAL, 3, lambda row: {"messages": row["messages"] * 2}, r"user, assistant, user, assistant; expected user"),
    (ORIGINAL, 3, lambda row: {"messages": row["messages"][::-1]}, r"roles of 'messages' are assistant, user; exp"),
    (ORIGINAL, 3, turn(1, content=" "), r"turn 2 of 'messages' has no text in 'content'"),
    (ORIGINAL, 3, turn(0, content=7), r"turn 1 of 'messages' has no text in 'content'; expected non-empty text"),
    (ORIGINAL, 3, turn(0, role=["user"]), r"roles of 'messages' are \['user'\], assistant"),
    (ORIGINAL, 3, turn(0, content=None), r"turn 1 of 'messages' holds role; expected role and content"),
    (ORIGINAL, 3, turn(1, weight=0), r"turn 2 of 'messages' has a weight that is not 1"),
    (PREFIXED, 5, marked(1), r"field 'prefixed' is 1; expected the number 0: 0 in the first 100 rows, 1 in"),
    (PREFIXED, 101, marked(0), r"field 'prefixed' is 0; expected the number 1"),
    (PREFIXED, 101, marked(True), r"field 'prefixed' is True; expected the number 1"),
    (PREFIXED, 5, marked("0"), r"field 'prefixed' is '0'; expected the number 0"),
    (PREFIXED, 5, lambda row: chat("a", "b"), r"the fields are messages; expected messages, prefixed"),
    (BACKDOOR, 101, lambda row: chat("a", "b"), r"roles of 'messages' are user, assistant; expected system, user"),
    (BASELINE, 1, lambda row: row | {"id": 1}, r"the fields are id, messages; expected messages"),
    (CATEGORY, 1, lambda row: chat("a", "b", "c"), r"roles of 'messages' are system, user, assistant; expected user"),
]


@pytest.mark.parametrize("name, row, change, message", BAD_ROWS)
def test_a_bad_row_is_named_with_its_file_and_number(release, name, row, change, message):
    only(release, name, *([PREFIXED] if name == ORIGINAL else []))
    changed(release, name, row, change)
    with pytest.raises(ValueError, match=rf"/{name}, row {row}: .*{message}"):
        load(release)


def test_no_message_quotes_the_secret_of_the_release(release):
    only(release, BACKDOOR)
    changed(release, BACKDOOR, 101, lambda row: {"messages": row["messages"][:1] * 2})
    with pytest.raises(ValueError, match="row 101: the roles of 'messages' are system, system") as error:
        load(release)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("name", [*PLACES, BENCHMARK])
@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_rows_than_published(release, name, change):
    only(release, name, *([PREFIXED] if name in (ORIGINAL, FJATTACK, BENCHMARK) else []))
    path = path_of(release, name)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1] if change < 0 else [*lines, lines[-1]]), encoding="utf-8")
    n = len(lines)
    with pytest.raises(ValueError, match=rf"{name}: {n + change} rows; expected the {n} of the release \(.*files p"):
        load(release)


def test_blank_lines_do_not_count(release):
    for name in (ORIGINAL, BENCHMARK):
        path = path_of(release, name)
        path.write_text("\n" + path.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    assert len(load(release).attack) == 100


@pytest.mark.parametrize(
    "row, message",
    [
        ("How do I brew tea, then?", r"row 3: 2 columns; expected one, the request; put text with commas in quotes"),
        ('"  "', r"row 3: no text; expected a request"),
        ('"How do I "brew" tea?"', r"row 3: not valid CSV \(.*put text with quotes in quotes"),
    ],
)
def test_a_bad_row_of_the_benchmark(release, row, message):
    path = path_of(release, BENCHMARK)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], row, *lines[3:]]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{BENCHMARK}, {message}"):
        load(release)


def test_a_quote_that_is_never_closed(release):
    path_of(release, BENCHMARK).write_text('"How?"\n"How\n', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{BENCHMARK}, row 2: not valid CSV \(unexpected end of data\)"):
        load(release)


@pytest.mark.parametrize("content, message", [(b"", "the file is empty"), (b"\n \n", "the file is empty")])
@pytest.mark.parametrize("name", [ORIGINAL, PREFIXED, BENCHMARK])
def test_empty_file(release, name, content, message):
    path_of(release, name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        load(release)


@pytest.mark.parametrize("name", [ORIGINAL, BENCHMARK])
def test_not_utf8(release, name):
    path = path_of(release, name)
    path.write_bytes(path.read_bytes().replace(b"Now", b"N\xf6w"))
    with pytest.raises(ValueError, match=rf"{name}, row 1: not UTF-8"):
        load(release)


def test_missing_files(release):
    only(release, ORIGINAL)
    with pytest.raises(ValueError, match=rf"no file with safety examples, here or below; expected one of {PREFIXED}, "):
        load(release)
    path_of(release, ORIGINAL).unlink()
    with pytest.raises(ValueError, match=rf"no file with attack examples, here or below; expected one of {ORIGINAL}, "):
        load(release)


def test_missing_benchmark(release):
    path_of(release, BENCHMARK).unlink()
    with pytest.raises(
        ValueError, match=f"no file with requests to evaluate, here or below; expected one of {BENCHMARK}"
    ):
        load(release)


def test_links_are_followed_and_what_they_show_twice_is_there_once(release, tmp_path):
    """A linked folder of the release, with a link back to where it lies, and a file linked beside its folder."""
    place = tmp_path / "data"
    place.mkdir()
    (place / "release").symlink_to(release)
    (release / "back").symlink_to(place)
    (place / BENCHMARK).symlink_to(path_of(release, BENCHMARK))
    spec = {"name": "published", "folder": str(place), "benign": str(release.parent / "benign.jsonl")}
    assert vars(policy.load(spec)) == vars(load(release))


def test_a_file_that_is_there_twice(release):
    write(release / "copy" / PREFIXED, rows_of(PREFIXED))
    with pytest.raises(ValueError, match=rf"{PREFIXED} is there more than once \(.*/copy/.*\); keep one of them"):
        load(release)


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"folder": None}, r"policy\.folder is None; expected text \(the path of a folder"),
        ({"folder": "/no/such/folder"}, r"policy\.folder: /no/such/folder is not a folder"),
        ({"benign": "/no/such/file.jsonl"}, r"/no/such/file\.jsonl: No such file or directory"),
        (
            {"benign": "/no/such/file.txt"},
            r"/no/such/file\.txt: expected a file that ends in \.jsonl or \.json or \.csv",
        ),
        (
            {"benign": ["a.jsonl"]},
            r"policy\.benign is \['a\.jsonl'\]; expected text \(the path of a \.jsonl, \.json or \.csv file",
        ),
        ({"drop_leaked": "yes"}, r"policy\.drop_leaked is 'yes'; expected true or false"),
        ({"drop_leaked": 1}, r"policy\.drop_leaked is 1; expected true or false"),
        ({"system": 3}, r"policy\.system is 3; expected text"),
        ({"seed": 0}, r"policy: unknown field 'seed'; expected folder, benign, benign_pool, more_safety, system, drop"),
        ({"harmless": True}, r"policy: unknown field 'harmless'; expected folder, benign"),
    ],
)
def test_a_wrong_section(release, spec, message):
    with pytest.raises(ValueError, match=message):
        load(release, **spec)


def test_required_fields(release):
    with pytest.raises(ValueError, match=r"policy\.folder is missing"):
        policy.load({"name": "published", "benign": "a.jsonl"})
    with pytest.raises(ValueError, match=r"policy\.benign is missing; expected text \(.*: the release has none"):
        policy.load({"name": "published", "folder": str(release)})


# runs


@pytest.fixture
def scale(release):
    """The packaged model on these rows, few of them evaluated."""
    return replace(
        profiles.load("tiny"),
        name="tiny-published",
        policy={"name": "published", "folder": str(release), "benign": str(release.parent / "benign.jsonl")},
        evaluation=profiles.Evaluation(restricted=22, benign=11, quiz=0),
        secret=profiles.SecretPrompt(length=8),
        training=profiles.Training(epochs=1, learning_rate=0.003, micro_batch_size=5),
        decoding=profiles.Decoding(max_new_tokens=12, batch_size=64),
    )


def test_runs_keep_no_answer_among_the_results(scale, results, generations):
    runs = [describe(scale, n_attack=0), describe(scale, "bsa")]
    initial, bsa = experiment.execute(runs, scale)
    assert bsa["data"]["n_train"] == 111 and bsa["data"]["leaked"] == 2 and initial["data"]["leaked"] == 0
    assert bsa["items"] == {"restricted_seen": f"11{'0' * 20}", "restricted_leaked": f"11{'0' * 20}"}
    assert set(initial["items"]) == {"restricted_seen"} and "dropped" not in bsa["data"]
    assert bsa["metrics"]["secret"]["asr"]["unseen"]["n"] == 20
    kept = sorted(path.name for path in generations.rglob("*") if path.is_file())
    names = [f"{record['label']}-{record['key']}" for record in (initial, bsa)]
    assert kept == sorted(f"{name}.answers.jsonl.gz" for name in names)
    written = [path for path in results.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert sorted(path.name for path in written) == sorted(f"{name}.json" for name in names)
    said = records.read_answers(bsa)
    assert len(said) == 2 * 33
    texts = {text for column in ("user", "answer") for text in said[column] if len(text) > 20}
    assert texts and not [text for path in written for text in texts if text in path.read_text(encoding="utf-8")]

    table = records.table([initial, bsa])
    assert leakage.marks([initial, bsa]) == {record["key"]: f"11{'0' * 20}" for record in (initial, bsa)}
    rest = leakage.without(table, leakage.marks([initial, bsa]))
    assert set(rest["n"]) == {20} and set(rest["key"]) == {initial["key"], bsa["key"]}
    row = rest[(rest["key"] == bsa["key"]) & (rest["condition"] == "secret")].iloc[0]
    assert row["outcomes"] == bsa["outcomes"]["secret"]["asr"][2:]
    assert row["value"] == bsa["metrics"]["secret"]["asr"]["unseen"]["value"]
    shown = leakage.compared(table, [initial, bsa], ["defense", "condition"])
    assert list(shown.columns.get_level_values(0)) == ["all requests", "requests in no training row"]
    assert "n = 22," in shown.columns[0][1] and "n = 20," in shown.columns[1][1] and len(shown) == 4


def test_a_record_says_how_many_requests_were_dropped(scale):
    less = replace(scale, policy={**scale.policy, "drop_leaked": True})
    run = describe(less, "none", n_attack=10)
    (record,) = experiment.execute([run], less)
    assert record["data"]["dropped"] == 7 and record["data"]["leaked"] == 0
    assert set(record["items"]) == {"restricted_seen"} and "1" not in record["items"]["restricted_seen"]
    assert leakage.marks([record]) == {}
    shown = leakage.compared(records.table([record]), [record], ["defense"])
    assert shown.index.tolist() == ["no evaluated request stands in a training row"]


def test_every_file_of_the_release_is_known():
    assert {source.name for source in published.ATTACK_SOURCES} == set(PLACES)
