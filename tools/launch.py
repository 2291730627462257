"""A Sphinx extension: on each chapter, buttons that open it on Colab and on Binder.

They lead to where the project is kept, which `repository.url` of _config.yml says; without one there are no buttons.
On Colab that is the cell of the chapter in tools/colab.ipynb, on Binder the chapter itself.
"""

import re
from functools import cache
from pathlib import Path

import yaml

CHAPTER = re.compile(r"book/executed/(\w+)")
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")


def links(address: str, branch: str, page: str) -> dict[str, str]:
    """Name of the service -> address; none where the page is no chapter, or the project not on GitHub."""
    place, chapter = GITHUB.fullmatch(address or ""), CHAPTER.fullmatch(page)
    if not (place and chapter):
        return {}
    return {
        "Colab": f"https://colab.research.google.com/github/{place[1]}/blob/{branch}/tools/colab.ipynb"
        f"#scrollTo={chapter[1]}",
        "Binder": f"https://mybinder.org/v2/gh/{place[1]}/{branch}?urlpath=lab/tree/notebooks/{chapter[1]}.ipynb",
    }


@cache
def repository(folder: str) -> dict:
    """From the file: Jupyter Book drops it where _config.yml sets options of the theme."""
    return yaml.safe_load(Path(folder, "_config.yml").read_text(encoding="utf-8")).get("repository") or {}


def add(app, page: str, template: str, context: dict, doctree) -> None:
    where = repository(str(app.srcdir))
    found = links(where.get("url"), where.get("branch") or "main", page)
    buttons = [
        {"type": "link", "text": name, "url": url, "icon": "fas fa-play", "tooltip": f"Run its smoke setting on {name}"}
        for name, url in found.items()
    ]
    if buttons:
        group = {"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket", "label": "launch-buttons"}
        context["header_buttons"].append(group | {"buttons": buttons})


def setup(app) -> dict:
    app.connect("html-page-context", add, priority=502)  # behind the theme, which begins the list
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
