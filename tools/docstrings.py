"""A Sphinx extension: lines such as `rank: size of the LoRA update` in a docstring become a list.

The package's docstrings describe arguments and fields as `name: what it is`, one per line, further lines
indented. reStructuredText would run them into one paragraph. Drawings and tables in the docstring of a module, told
by their indentation or their runs of spaces, are shown as they are.
"""

import re

FIELD = re.compile(r"(?P<indent> *)(?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): (?P<text>\S.*)")


DRAWN = re.compile(r" |.*\S {2,}\S")


def drawings_to_literals(app, what, name, item, options, lines: list[str]) -> None:
    """Rewrite the lines of a module's docstring in place: paragraphs with a drawn line become literal blocks."""
    if what != "module":
        return
    result: list[str] = []
    literal = False  # whether the last paragraph was one
    for paragraph in "\n".join(lines).strip("\n").split("\n\n"):
        rows = paragraph.strip("\n").split("\n")
        drawn = any(map(DRAWN.match, rows))
        if drawn:
            result += ([] if literal else ["::", ""]) + ["    " + row for row in rows]
        else:
            result += rows
        result.append("")
        literal = drawn
    lines[:] = result


def fields_to_list(app, what, name, item, options, lines: list[str]) -> None:
    """Rewrite the docstring's lines in place."""
    result: list[str] = []
    inside = None  # the indentation of the list that the last line belongs to
    literal = False  # whether the line stands in a literal block
    for line in lines:
        literal = line == "::" or (literal and (not line.strip() or line.startswith(" ")))
        match = None if literal else FIELD.fullmatch(line)
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
    app.connect("autodoc-process-docstring", drawings_to_literals, priority=800)
    # after napoleon, which has made field lists of "Args:" sections by then
    app.connect("autodoc-process-docstring", fields_to_list, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
