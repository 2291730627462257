"""Rows of a task from the files that the authors published: `train1000.json` and `test200.json` in one folder.

Each is a JSON list of objects: {"question", "context", "answer"} for SQL generation, {"dialogue", "summary"} for
dialog summary. Other fields, such as "id", are ignored. A file is checked as a whole before any of it is used.
"""

import json
from pathlib import Path

from bsa_core.paths import given

TRAINING, TEST = "train1000.json", "test200.json"


def read(path: Path, fields: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of one file, each reduced to `fields`; ValueError naming file, row (from 1) and field."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the folder of a task needs it") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected a JSON list of objects")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error.msg} in line {error.lineno}, column {error.colno})") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a JSON list of objects, found {type(rows).__name__}")
    if not rows:
        raise ValueError(f"{path}: the list is empty; expected at least one row")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
        for field in fields:
            if field not in row:
                raise ValueError(f"{where}: field {field!r} is missing; expected {', '.join(fields)}")
            if not isinstance(row[field], str) or not row[field].strip():
                raise ValueError(f"{where}: field {field!r} is {row[field]!r}; expected non-empty text")
    return [{field: row[field] for field in fields} for row in rows]


def read_folder(name: str, folder: str, fields: tuple[str, ...]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Training and test rows of task `name`; ValueError as in `read`, or when `folder` is none."""
    path = given(folder)
    if not path.is_dir():
        raise ValueError(f"tasks.{name}.folder: {path} is not a folder")
    return read(path / TRAINING, fields), read(path / TEST, fields)
