"""The book as a reader has it: built from the notebooks at their smoke setting, opened in Chromium."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from building import build

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


def toc_pages() -> list[str]:
    """The pages of the table of contents, the root first, by their path without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


PAGES = toc_pages()
EXECUTED = [page for page in PAGES if page.startswith("book/executed/")]


class Page(HTMLParser):
    """What the checks need of one built page: ids, links, tables, and each figure's alt texts and caption."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.tables, self.figures = set(), [], 0, []
        self.inside = {"figure": 0, "figcaption": 0}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if attributes.get("id"):
            self.ids.add(attributes["id"])
        if tag in self.inside:
            self.inside[tag] += 1
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag == "table":
            self.tables += 1
        elif tag == "figure":
            self.figures.append({"alt": [], "caption": ""})
        elif tag == "img" and self.inside["figure"]:
            self.figures[-1]["alt"].append(attributes.get("alt") or "")

    def handle_endtag(self, tag):
        if tag in self.inside:
            self.inside[tag] -= 1

    def handle_data(self, data):
        if self.inside["figcaption"]:
            self.figures[-1]["caption"] += data


@pytest.fixture(scope="session")
def book(tmp_path_factory, shared_results) -> Path:
    """The folder of the built book. Fails with the log's end when a notebook or the build does."""
    folder = tmp_path_factory.mktemp("book")
    build(folder, {"BSA_RESULTS": str(shared_results)}, "tiny")
    return folder / "_build" / "html"


@pytest.mark.parametrize("page", EXECUTED)
def test_tables_hold_no_missing_numbers_and_no_cut_cells(book, page):
    text = (book / f"{page}.html").read_text(encoding="utf-8")
    cells = [unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in re.findall(r"<t[dh]\b.*?</t[dh]>", text, re.S)]
    assert not [cell for cell in cells if cell.lower() in ("nan", "none", "<na>", "nat") or cell.endswith(("...", "…"))]


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index", *PAGES])
def test_page_opens_without_errors(book, browser, page):
    """Nothing on the console, no script error, nothing fetched from a network, pictures there, fits."""
    problems = []
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
    tab.on(
        "request",
        lambda r: problems.append(f"asks the network: {r.url}") if r.url.startswith("http") else None,
    )
    tab.goto((book / f"{page}.html").as_uri(), wait_until="load")
    tab.wait_for_selector("article h1", timeout=10_000)
    assert tab.title()
    broken = "images => images.filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert tab.eval_on_selector_all("article img", broken) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "the page is wider than the window"
    )
    if page in EXECUTED and "hosted" not in page:  # where no model was evaluated there is no data to hide
        data_stand_behind_a_toggle(tab)
    tab.close()
    assert problems == []


def data_stand_behind_a_toggle(tab) -> None:
    """At least one table is hidden at first, and a click shows it."""
    table = tab.locator("details:has(table)").first
    assert table.count(), "no table stands in a toggle (tag its cell hide-output)"
    assert not table.locator("table").first.is_visible()
    table.locator("summary").first.click()
    assert table.locator("table").first.is_visible()


@pytest.mark.browser
def test_index_leads_to_the_home_page(book, browser):
    tab = browser.new_page()
    tab.goto((book / "index.html").as_uri())
    tab.wait_for_url(f"**/{PAGES[0]}.html")
    tab.close()


def test_links_within_the_book_lead_somewhere(book):
    pages = {path: Page(path) for path in book.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(book)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                broken.append(f"{path.relative_to(book)}: {link} (no such place on that page)")
    assert broken == []


@pytest.mark.parametrize("page", EXECUTED)
def test_every_chapter_has_its_figure_and_its_table(book, page):
    """Figures with alt text and a caption, tables, and no path of the machine that it was built on."""
    path = book / f"{page}.html"
    built = Page(path)
    assert built.tables and built.figures
    for figure in built.figures:
        assert len(re.findall(r"\w+", figure["caption"])) >= 5, f"a figure's caption is {figure['caption']!r}"
        assert all(len(text.split()) >= 4 for text in figure["alt"]), f"alt texts: {figure['alt']}"
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


@pytest.mark.parametrize("page", EXECUTED)
def test_executed_notebooks_are_fit_to_publish(book, page):
    """Parameters folded or out of sight, no papermill records, nothing on stderr but progress (taken out)."""
    notebook = nbformat.read(book.parent.parent / f"{page}.ipynb", as_version=4)
    assert "papermill" not in notebook.metadata
    styles = {"parameters": "remove-cell", "injected-parameters": "hide-input"}
    seen = set()
    for cell in notebook.cells:
        assert "papermill" not in cell.metadata
        for tag in set(styles) & set(cell.metadata.get("tags", [])):
            assert styles[tag] in cell.metadata.tags
            seen.add(tag)
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.text
    assert seen == set(styles)


def checked(notebook) -> list[str]:
    """What each cell printed that nbval compares, too."""
    cells = [cell for cell in notebook.cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]


@pytest.mark.parametrize("page", EXECUTED)
def test_checked_cells_print_what_the_notebooks_keep(book, page):
    executed = checked(nbformat.read(book.parent.parent / f"{page}.ipynb", as_version=4))
    kept = checked(nbformat.read(ROOT / "notebooks" / f"{Path(page).name}.ipynb", as_version=4))
    assert executed == kept and all(kept)


def test_formulas_need_no_script(book):
    """Formulas are MathML; with MathJax a page would ask the network for it."""
    texts = [path.read_text(encoding="utf-8") for path in book.rglob("*.html")]
    assert any("<math" in text for text in texts)
    assert not any("mathjax@" in text for text in texts)
