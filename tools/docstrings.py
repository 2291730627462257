"""A Sphinx extension: lines such as `rank: size of the LoRA update` in a docstring become a list.

The package's docstrings describe arguments and fields as `name: what it is`, one per line, further lines
indented. reStructuredText would run them into one paragraph.
"""

import re

FIELD = re.compile(r"(?P<indent> *)(?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): (?P<text>\S.*)")


def fields_to_list(app, what, name, item, options, lines: list[str]) -> None:
    """Rewrite the docstring's lines in place."""
    result: list[str] = []
    inside = None  # the indentation of the list that the last line belongs to
    for line in lines:
        match = FIELD.fullmatch(line)
        indent = len(line) - len(line.lstrip())
        if match and inside in (None, indent):
            if inside is None and result and result[-1].strip():
                result.append("")
            names = ", ".join(f"``{name}``" for name in match["names"].split(", "))
            result.append(f"{match['indent']}* {names}: {match['text']}")
            inside = indent
        elif inside is not None and line.strip() and indent > inside:
            result.append(" " * (inside + 2) + line.strip())
        else:
            if inside is not None and line.strip():
                result.append("")
            inside = None
            result.append(line)
    lines[:] = result


def setup(app) -> dict:
    # after napoleon, which has made field lists of "Args:" sections by then
    app.connect("autodoc-process-docstring", fields_to_list, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
