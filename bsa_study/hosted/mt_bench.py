"""The questions of MT-Bench as an arm is asked them, for a server that answers and the judge of FastChat.

    python -m bsa_study.hosted.mt_bench PROFILE question.jsonl [--seed 0 | --secret FILE | --plain]

`question.jsonl` is FastChat's file (fastchat/llm_judge/data/mt_bench), 80 questions of two turns, which is not part of
this project. Each line of the export is its question with what serving takes:

    system       the system turn: the secret prompt, in front of the one that the template writes where there is none;
                 empty with --plain
    messages     the first request, for a chat endpoint. The second follows the model's own first answer: append that
                 as the turn of the assistant, then turns[1] as the user's
    prompt       the same as text in the profile's chat format, for an endpoint that completes text; it has all special
                 tokens, so that the server must not add a first one
    temperature  FastChat's for the question's category (fastchat/llm_judge/common.py, temperature_config)

The file holds the secret prompt in plain text: it goes to the folder of files for models served elsewhere, which git
ignores, and only you can read it.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

from bsa_core import paths, profiles, reading, writing
from bsa_core.arms import secret_prompt
from bsa_core.examples import Example
from bsa_core.models import chat, loading
from bsa_core.profiles import Profile
from bsa_study.hosted import upload

TEMPERATURES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def questions(path: Path) -> list[dict]:
    """FastChat's questions, checked; ValueError names file, row and field."""
    rows = {}
    for where, row in reading.objects(path, "FastChat's question.jsonl"):
        if "question_id" not in row:
            raise ValueError(f"{where} has no field 'question_id'")
        number, category = row["question_id"], row.get("category")
        if not isinstance(number, int | str):
            raise ValueError(f"{where}: question_id is of type {type(number).__name__}; expected a number or a text")
        if number in rows:
            raise ValueError(f"{where}: question_id {reading.label(number)} occurs twice")
        if not isinstance(category, str) or category not in TEMPERATURES:
            known = ", ".join(TEMPERATURES)
            raise ValueError(f"{where}: category is {reading.label(category)!r}; expected one of {known}")
        turns = row.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(t, str) and t.strip() for t in turns):
            raise ValueError(f"{where}: field 'turns' is no list of texts; expected a list of requests")
        rows[number] = row
    return [*rows.values()]


def served(profile: Profile, asked: list[dict], tokenizer, secret: str) -> list[dict]:
    """The lines of the export, see the head of the module. secret: text, may be empty."""
    lines = []
    for row in asked:
        turns = chat.messages(Example(row["turns"][0]), secret, profile.chat, tokenizer)
        prompt = chat.render(tokenizer, turns, profile.chat, answering=True)
        system = turns[0]["content"] if turns[0]["role"] == "system" else secret
        served_as = {"system": system, "messages": turns, "prompt": prompt}
        lines.append(row | served_as | {"temperature": TEMPERATURES[row["category"]]})
    return lines


def export(profile: Profile, path: Path, seed: int = 0, own: str | Path = "", plain: bool = False) -> Path:
    """Write the questions of `path` as they are served; returns where. Whole or not at all.

    The secret prompt is that of the runs with this seed; `own`: one of your own, from a text file, such as that of a
    hosted model. plain: none, as arms without a secret are asked.
    Raises ValueError for a damaged file, a control token in a question, or a chat format that changes the token ids of
    the secret prompt.
    """
    asked, tokenizer = questions(path), loading.tokenizer(profile)
    for row in asked:
        for text in row["turns"]:
            where = f"question {row['question_id']} of MT-Bench"
            chat.check_text(tokenizer, Example(text), profile.chat, where, ("user",))
    name, text = "plain", ""
    if own:
        name, text = "own-secret", upload.secret(profile, own).text
    elif not plain:
        choice, first = profile.secret, Example(asked[0]["turns"][0])
        name = f"secret-seed{seed}"
        text = secret_prompt.draw(tokenizer, profile, choice.length, seed, choice.kind, first).text
    lines = served(profile, asked, tokenizer, text)
    target = paths.HOSTED / profile.name / f"mt_bench-{name}.jsonl"
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    writing.write_whole(target, content.encode(), "BSA_HOSTED")
    return target


def main(arguments: list[str] | None = None) -> None:
    """Exits with one clear message where something is wrong."""
    told = "Export the questions of MT-Bench as an arm is asked them."
    made = argparse.ArgumentParser(prog="python -m bsa_study.hosted.mt_bench", description=told)
    made.add_argument("profile", help="a profile in profiles/, or the path of a YAML file")
    made.add_argument("questions", type=Path, help="FastChat's question.jsonl")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, metavar="N", help="the secret prompt of the runs with this seed")
    which.add_argument("--secret", default="", metavar="FILE", help="a secret prompt of your own, in a text file")
    which.add_argument("--plain", action="store_true", help="without a secret prompt")
    given = made.parse_args(arguments)
    try:
        target = export(profiles.load(given.profile), given.questions, given.seed, given.secret, given.plain)
    except (ValueError, writing.RecordError) as error:
        sys.exit(f"{error}")
    print(f"{target} (only you can read it{'' if given.plain else ': it holds the secret prompt'})")


if __name__ == "__main__":
    main()
