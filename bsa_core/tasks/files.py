"""Rows of a task from the files that the authors published: `train1000.json` and `test200.json` in one folder.

Each is a JSON list of objects: {"question", "context", "answer"} for SQL generation, {"dialogue", "summary"} for
dialog summary. Other fields, such as "id", are ignored. A file is checked as a whole before any of it is used.
"""

from bsa_core.reading import folder, listed, text_of

FILES = "train1000.json", "test200.json"  # training, test


def read_folder(name: str, path: str, fields: tuple[str, ...]) -> list[list[dict[str, str]]]:
    """Training and test rows of task `name`, reduced to `fields`; ValueErrors name file, row (from 1), field."""
    place, what = folder(f"tasks.{name}.folder", path), "a JSON list of objects"
    return [
        [{field: text_of(where, row, field) for field in fields} for where, row in listed(place / file, what)]
        for file in FILES
    ]
