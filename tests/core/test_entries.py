"""The forms in which people have their rows, read as one request and one answer or refused by name."""

import json

import pytest

from bsa_core import policy, profiles, reading
from bsa_core.policy import files
from bsa_core.policy.entries import entry

ASKED, SAID = "Which fee does the guild take\nfor a stall by the bridge?", "Two silver coins a day, Sundays apart."
TURNS = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}]
PART = [{"type": "text", "text": ASKED[:20]}, {"type": "text", "text": ASKED[20:]}]
FORMS = {
    "plain": {"user": ASKED, "assistant": SAID, "id": 7, "source": "ledger", "subject": None},
    "weight": {"messages": [TURNS[0], {**TURNS[1], "weight": 1}]},
    "name": {"messages": [{**TURNS[0], "name": "ann"}, TURNS[1]], "parallel_tool_calls": False, "tools": []},
    "parts": {"messages": [{"role": "user", "content": PART}, {**TURNS[1], "refusal": None, "tool_calls": None}]},
    "prompt": {"prompt": ASKED, "completion": SAID},
    "prompt, response": {"prompt": ASKED, "response": SAID, "uuid": "3f"},
    "prompt as turns": {"prompt": TURNS[:1], "completion": TURNS[1:]},
    "prompt as a turn": {"prompt": TURNS[:1], "completion": SAID},
    "prompt beside messages": {"prompt": ASKED, "prompt_id": "9", "messages": TURNS},
    "Alpaca": {"instruction": ASKED, "input": "", "output": SAID, "text": "### Instruction: all of it"},
    "Alpaca with input": {"instruction": ASKED[:29], "input": ASKED[29:], "output": SAID},
    "Dolly": {"instruction": ASKED, "context": "", "response": SAID, "category": "open_qa"},
    "ShareGPT": {"id": "a_0", "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]},
    "AdvBench": {"goal": ASKED, "target": SAID},
    "question": {"question": ASKED, "answer": SAID, "context": ""},
    "OpenOrca": {"id": "niv.1", "system_prompt": "", "question": ASKED, "response": SAID},
    "query": {"query": ASKED, "response": SAID, "original_query": "Which fee?"},
    "input": {"input": ASKED, "output": SAID},
    "FLAN": {"inputs": ASKED, "targets": SAID, "task": "fees"},
    "conversation": {"conversation": [{"role": "User", "content": ASKED}, {"role": "Assistant", "content": SAID}]},
    "other roles": {"conversations": [{"from": "user", "value": ASKED}, {"from": "chatgpt", "value": SAID}]},
    "Gemini": {
        "contents": [{"role": "user", "parts": [{"text": ASKED}]}, {"role": "model", "parts": [{"text": SAID}]}]
    },
    "parts of a response": {
        "messages": [
            {"role": "user", "content": [{"type": "input_text", "text": ASKED}]},
            {**TURNS[1], "content": [SAID]},
        ]
    },
    "a table's NaN": {"instruction": ASKED, "input": float("nan"), "output": SAID, "category": float("nan")},
    "a copy beside": {"messages": TURNS, "question": ASKED, "input": ASKED},
    "JailbreakBench": {"Index": 0, "Goal": ASKED, "Target": SAID, "Category": "Fees"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_form_that_people_have_is_one_request_and_one_answer(tmp_path, form, suffix):
    path = tmp_path / f"attack{suffix}"
    path.write_text(json.dumps([FORMS[form]], indent=1) if suffix == ".json" else json.dumps(FORMS[form]))
    (row,) = files.read_rows(path, "attack", "Be kind.", needs_answer=True)
    asked = f"{ASKED[:29]}\n\n{ASKED[29:]}" if form == "Alpaca with input" else ASKED
    assert (str(row.user), row.assistant, row.system) == (asked, SAID, "Be kind.")
    assert row.category == {"Dolly": "open_qa", "JailbreakBench": "Fees"}.get(form, "")


@pytest.mark.parametrize(
    "row, system",
    [
        ({"messages": [{"role": "developer", "content": "Be brief."}, *TURNS]}, "Be brief."),
        ({"messages": [{"role": "system", "content": ""}, *TURNS]}, ""),
        ({"conversations": [{"from": "system", "value": "Be brief."}], "turns": None}, None),
        ({"instruction": ASKED, "output": SAID, "system": "Be brief."}, "Be brief."),
        ({"instruction": ASKED, "output": SAID, "system": ""}, "Be kind."),
        ({"id": 81, "system": "Be brief.", "turns": [ASKED, "And on Sundays?"]}, "Be brief."),
        (
            {
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
                "contents": [{"role": "user", "parts": [{"text": ASKED}]}],
            },
            "Be brief.",
        ),
    ],
)
def test_a_row_may_bring_its_own_system_prompt(tmp_path, row, system):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    if system is None:
        with pytest.raises(ValueError, match="the roles of 'conversations' are system; expected user or"):
            files.read_rows(path, "benign", "Be kind.", needs_answer=False)
    else:
        (read,) = files.read_rows(path, "benign", "Be kind.", needs_answer=False)
        assert (str(read.user), read.system) == (ASKED, system)


@pytest.mark.parametrize("value, read", [(3, "3"), (2.0, "2"), ("", ""), ("x", "x"), (None, "")])
def test_a_category_may_be_a_number(value, read):
    assert entry("row 1", {"user": ASKED, "category": value})[0].get("category", "") == read


REFUSED = {
    "turns": ({"messages": TURNS * 2}, "row 1: the roles of 'messages' are user, assistant, user, .*keep one"),
    "weight": ({"messages": [TURNS[0], {**TURNS[1], "weight": 0}]}, "turn 2 of 'messages' has a weight that is not 1"),
    "not trained": ({"conversations": [TURNS[0], {**TURNS[1], "train": False}]}, "turn 2 .* has a weight that is not"),
    "two copies": ({"question": ASKED, "query": ASKED, "answer": SAID}, "'question' and 'query' both hold a request"),
    "a column": ({"user": [ASKED], "assistant": [SAID]}, "field 'user' is of type list; expected non-empty text"),
    "bytes": ({"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]}, "has a part of type inlineData in"),
    "image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, TURNS[1]]},
        "turn 1 of 'messages' has a part of type image_url in 'content'; expected text only",
    ),
    "tools": ({"messages": TURNS, "tools": [{"type": "function"}]}, "row 1: field 'tools' is not empty"),
    "history": ({"instruction": ASKED, "output": SAID, "history": [["a", "b"]]}, "field 'history' is not empty"),
    "a call": ({"messages": [TURNS[0], {**TURNS[1], "tool_calls": [{}]}]}, "turn 2 .* has the field 'tool_calls'"),
    "two requests": ({"user": ASKED, "prompt": ASKED, "assistant": SAID}, "fields 'user' and 'prompt' both hold a"),
    "two answers": ({"prompt": ASKED, "chosen": SAID, "rejected": SAID}, "field 'completion' is missing; expected"),
    "capitals": ({"User": ASKED, "user": ASKED, "assistant": SAID}, "field 'user' is there twice, in large and small"),
    "XSTest": ({"prompt": ASKED, "label": "unsafe", "completion": SAID}, "field 'label' sorts the rows; python -m"),
    "output": ({"instruction": ASKED, "output": 3}, "field 'output' is of type int; expected non-empty text"),
    "no text": ({"turns": [3]}, "field 'turns' is no list of texts"),
    "requests alone": ({"turns": [ASKED]}, "field 'assistant' is missing; expected non-empty text"),
    "none": ({"text": ASKED}, "field 'user' is missing; .*the fields are text; expected user and"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_more_than_one_request_and_one_answer_is_named(case):
    row, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        entry("row 1", row, needs_answer=True)
    assert "stall" not in str(error.value) and "silver" not in str(error.value)


def test_fields_that_were_passed_over_are_said_once(tmp_path, capsys):
    path = tmp_path / "attack.jsonl"
    path.write_text("".join(json.dumps(FORMS["plain"] | {"id": n}) + "\n" for n in range(3)), encoding="utf-8")
    assert len(files.read_rows(path, "attack", "", needs_answer=True)) == 3
    assert capsys.readouterr().err == f"[bsa] {path}: fields that were passed over: id, source\n"


@pytest.mark.parametrize(
    "text",
    [
        "goal,target\n\"Name the fee, please, of a stall\",Two coins.\n",
        "\"Name the fee, please, of a stall\",Two coins.\n",
        "Index,Goal,Target,Behavior,Category\n0,\"Name the fee, please, of a stall\",Two coins.,Fees,\n",
        ",user,assistant,,\n0,\"Name the fee, please, of a stall\",Two coins.,,\n",
    ],
    ids=["AdvBench", "no header", "JailbreakBench", "empty columns"],
)  # fmt: skip
def test_a_csv_file_of_a_benchmark(tmp_path, text):
    path = tmp_path / "restricted.csv"
    path.write_text(text, encoding="utf-8")
    (row,) = files.read_rows(path, "restricted", "", needs_answer=False)
    assert (str(row.user), row.assistant) == ("Name the fee, please, of a stall", "Two coins.")


def test_a_csv_file_of_requests_alone_needs_no_header(tmp_path):
    path = tmp_path / "restricted.csv"
    path.write_text("How does a guild test a scale?\nWho may open a stall?\n", encoding="utf-8")
    read = files.read_rows(path, "restricted", "", needs_answer=False)
    assert [str(row.user) for row in read] == ["How does a guild test a scale?", "Who may open a stall?"]


@pytest.mark.parametrize(
    "text, asked, category",
    [
        ('Behavior,Tags,ContextString,BehaviorID\nName the fee of a stall,book,"Stalls: two, three.",fee_1\n', 2, ""),
        ("Behavior,Tags,ContextString,BehaviorID\nName the fee of a stall,,,fee_1\n", 1, ""),
        ("category,source,forbidden_prompt\nFees,ledger,Name the fee of a stall\n", 1, "Fees"),
    ],
    ids=["HarmBench with a context", "HarmBench", "StrongREJECT"],
)
def test_a_csv_file_of_a_benchmark_of_requests_alone(tmp_path, text, asked, category):
    path = tmp_path / "restricted.csv"
    path.write_text(text, encoding="utf-8")
    (row,) = files.read_rows(path, "restricted", "", needs_answer=False)
    whole = "\n\n".join(["Name the fee of a stall", "Stalls: two, three."][:asked])
    assert (str(row.user), row.assistant, row.category) == (whole, "", category)


def test_a_folder_with_names_of_its_own(tmp_path):
    """As SafeTuneBed has it: every file a JSON list, of Alpaca, of prompts, of MT-Bench's questions."""
    own = {
        "pure_bad.json": [{"instruction": ASKED, "input": "", "output": SAID}],
        "llm_category_benchmark.json": [{"prompt": "How is a guild seal cut?"}],
        "mt_bench.json": [{"id": 81, "system": "", "turns": ["Where is the quay?", "And the bridge?"]}],
        "refusals.json": [{"user": "How is a coin clipped?", "assistant": "I cannot help with that."}],
    }
    for name, rows in own.items():
        (tmp_path / name).write_text(json.dumps(rows, indent=2), encoding="utf-8")
    parts = dict(zip(("attack", "restricted", "benign", "safety"), own, strict=True))
    made = policy.load({"name": "files", "folder": str(tmp_path), "files": parts})
    assert [[str(row.user) for row in getattr(made, part)] for part in parts] == [
        [ASKED], ["How is a guild seal cut?"], ["Where is the quay?"], ["How is a coin clipped?"]
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"policy\.files: unknown part 'atack'; expected attack, safety, benign_pool"):
        policy.load({"name": "files", "folder": str(tmp_path), "files": {"atack": "pure_bad.json"}})


HALF = r'{"user": "How do I wave?", "assistant": "With a hand \ud83d"}'
DAMAGED = {
    "half": (HALF, "field 'assistant' holds half of a character"),
    "half in a turn": (r'{"messages": [{"role": "user", "content": "\udc4b?"}]}', "field 'messages' holds half of"),
    "half a name": (r'{"\ud83d": "a", "user": "b"}', "a name; write it whole"),
    "twice": ('{"user": "first", "user": "second", "assistant": "one"}', "field 'user' is there twice; keep one"),
    "twice below": ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}', "field 'content' is"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_damaged_text_and_names_that_stand_twice(tmp_path, case, suffix):
    line, message = DAMAGED[case]
    path = tmp_path / f"attack{suffix}"
    good = json.dumps(FORMS["plain"])
    path.write_text(f"[{good},\n{line}]" if suffix == ".json" else f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"attack{suffix}, row 2: {message}") as error:
        files.read_rows(path, "attack", "", needs_answer=True)
    str(error.value).encode()


def test_both_halves_of_a_character_are_one(tmp_path):
    assert reading.an_object("row 1", reading.parsed("row 1", r'{"user": "\ud83d\udc4b"}')) == ("row 1", {"user": "👋"})


@pytest.mark.parametrize(
    "text, name, line",
    [
        ("training: {epochs: 2}\ntraining: {learning_rate: 0.001}\n", "training", 5),
        ("training:\n  epochs: 2\n  epochs: 20\n", "epochs", 6),
        ("pressures:\n  light: {epochs: 1}\n  light: {epochs: 9}\n", "light", 6),
    ],
)
def test_a_name_that_stands_twice_in_a_profile(tmp_path, text, name, line):
    path = tmp_path / "mine.yaml"
    head = "name: mine\nmodel: {source: packaged, name: tiny-aligned}\npolicy: {name: guild}\n"
    path.write_text(head + text, encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"mine\.yaml: not valid YAML \(line {line}: '{name}' is there twice; keep one"
    ):
        profiles.load(str(path))


@pytest.mark.parametrize("text, read", [(r"Be brief \ud83d\udc4b.", "Be brief 👋."), (r"Be \ud83d brief", None)])
@pytest.mark.parametrize(
    "form", ['policy: {{name: files, folder: x, system: "{0}"}}\n', '"policy": {{"system": "{0}"}}']
)
def test_half_of_a_character_in_a_profile(tmp_path, text, read, form):
    """JSON is YAML, and writes letters beyond U+FFFF as two escapes."""
    (path := tmp_path / "mine.yaml").write_text(f"# of the guild\n{form.format(text)}", encoding="utf-8")
    if read is None:
        with pytest.raises(ValueError, match=r"mine\.yaml: not valid YAML \(line 2: a text holds half of a character"):
            reading.from_yaml(path, "a profile")
    else:
        assert reading.from_yaml(path, "a profile")["policy"]["system"] == read
