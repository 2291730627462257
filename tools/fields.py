"""The table of a profile's fields, made of the same description as the checks; it stands in book/profile.md.

python tools/fields.py
"""

import json
from collections.abc import Iterator

from bsa_core import checked, profiles


def table() -> list[tuple[str, str, str]]:
    """Dotted name, default and meaning of every field; a default is "required" or "none" where there is no value."""
    whole, shown = json.loads(profiles.schema()), set()

    def rows(of: dict, prefix: str) -> Iterator[tuple[str, str, str]]:
        for name, part in of["properties"].items():
            mark = ".<name>" if "additionalProperties" in part else "[]" if "items" in part else ""
            entry = part.get("additionalProperties") or part.get("items") or part
            section, reference = checked.resolved(whole, entry), entry.get("$ref")
            opened = "properties" in section and reference not in shown
            if mark or not opened:
                default = json.dumps(part.get("default", "")).replace('"', "").replace("[]", "") or "none"
                yield prefix + name, "required" if name in of.get("required", ()) else default, part["description"]
            if opened:  # a section that stands elsewhere as well is shown once
                shown.update({reference} - {None})
                yield from rows(section, f"{prefix}{name}{mark}.")

    return list(rows(whole, ""))


def markdown() -> str:
    """The table as Markdown."""
    plain = ("required", "none")
    rows = [f"| `{name}` | {was if was in plain else f'`{was}`'} | {meaning} |" for name, was, meaning in table()]
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
