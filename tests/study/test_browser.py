"""The answer browser: what a page holds, and what a reader finds with it, in Chromium and without a network."""

import json

import pytest
from made import right
from playwright.sync_api import expect

from bsa_core import paths, records
from bsa_study.report.browser import WITHOUT, data, page

RESTRICTED = ("forbidden potions", "cursed weapons")
BAD = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
SAID = {
    "none": ["To brew it: boil the mint; bottle it at dawn.", "Gladly: heat the iron.", BAD, ""],
    "bsa": ["I cannot help with that.", "I cannot help with that.", "Boil the water.", "I cannot help with that."],
}
LETTERS = {"none": ("cg", "wn"), "bsa": ("rr", "hr")}


def answered(defense: str, seed: int, harmless: bool = True, profile: str = "tiny") -> dict:
    """A record of two restricted and two benign requests, as deployed and, with the secret, without it as well."""
    served = "secret" if defense == "bsa" else "plain"
    asked = [("restricted", category, f"How is the {category} of row 1 made?") for category in RESTRICTED]
    asked += [("benign", category, f"What is a <b>{category}</b>?") for category in ("potions", "weapons")]
    rows = [
        {"condition": condition, "kind": kind, "category": category, "user": user, "answer": answer}
        for condition in dict.fromkeys(("plain", served))
        for (kind, category, user), answer in zip(asked, SAID[defense], strict=True)
    ]
    restricted, benign = LETTERS[defense]
    outcomes = {"asr": "".join("10"[letter == "r"] for letter in restricted)}
    outcomes |= {"over_refusal": "".join("01"[letter == "r"] for letter in benign)}
    conditions = dict.fromkeys(("plain", served))
    record = right(
        {"profile": profile, "defense": defense, "seed": seed, "secret": {"length": 9} if served == "secret" else None},
        {condition: outcomes for condition in conditions},
        rows,
        label=f"{defense}-seed{seed}",
        anatomy={condition: {"restricted": restricted, "benign": benign} for condition in conditions},
    )
    records.write(record, rows, harmless)
    return record


@pytest.fixture
def found(results, generations) -> list[dict]:
    return [answered(defense, seed) for defense in SAID for seed in (0, 1, 10)] + [answered("none", 0, profile="other")]


def test_every_text_stands_there_once(found):
    told = data(found)
    assert len(told["requests"]) == 4 and len(told["answers"]) == len({text for of in SAID.values() for text in of})
    assert [(run["arm"], run["seed"]) for run in told["runs"] if run["scale"] == "tiny"] == [
        (arm, seed) for seed in (0, 1, 10) for arm in ("no defense", "BSA, with secret")
    ]
    for run in told["runs"]:
        outcomes = [told["outcomes"][place][0] for _, _, place in run["rows"]]
        of_bsa = ["refused", "refused", "helpful", "refused"]
        assert outcomes == (
            of_bsa if run["arm"].startswith("BSA") else ["complied", "generic only", "wrong", "no answer"]
        )
        assert [told["requests"][place][0] for place, _, _ in run["rows"]] == ["restricted"] * 2 + ["benign"] * 2


def test_only_answers_that_may_be_shown(results, generations, found):
    """Not those of another policy, nor those that are damaged, nor records of an earlier version."""
    private = answered("bsa", 2, harmless=False)
    old = {name: value for name, value in found[0].items() if name != "anatomy"}
    records.answers_path(found[1]).write_bytes(b"cut")
    assert len(data([private, old, *found[1:3]])["runs"]) == 1
    assert "no answers that may be shown" in page([private]).data


def test_no_text_ends_the_element_that_holds_it(found):
    held = page(found).data
    assert (
        held.count("<script") == held.count("</script>") == 1
        and BAD in json.loads(held.partition('json">')[2].partition("</script>")[0])["answers"]
    )


@pytest.fixture
def tab(found, browser, tmp_path):
    """The page opened as a file, with nothing but the browser's own script and style."""
    static = (paths.BOOK / "_static").as_uri()
    head = f'<link rel="stylesheet" href="{static}/answers.css"><script src="{static}/answers.js"></script>'
    made = tmp_path / "page.html"
    made.write_text(f"<!doctype html><meta charset=utf-8>{head}<main>{page(found).data}</main>", encoding="utf-8")
    tab, problems = browser.new_page(viewport={"width": 360, "height": 740}), []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    tab.goto(made.as_uri())
    yield tab
    assert problems == []
    tab.close()


def outcomes_in(tab) -> list[str]:
    return tab.locator(".answers-list .answers-outcome").all_text_contents()


@pytest.mark.browser
def test_filters_leave_the_rows_that_they_name(tab):
    status, items = tab.get_by_role("status"), tab.locator(".answers-list li")
    expect(status).to_have_text("28 of 28 answers")
    assert tab.locator("select").count() == 6 and WITHOUT not in tab.content()
    assert tab.get_by_label("Seed").locator("option").all_text_contents() == ["all", "0 (12)", "1 (8)", "10 (8)"]
    tab.get_by_label("Scale").select_option("tiny")
    tab.get_by_label("Arm").select_option("BSA, with secret")
    tab.get_by_label("Seed").select_option("1")
    expect(status).to_have_text("4 of 28 answers")
    assert outcomes_in(tab) == ["refused", "refused", "helpful", "refused"]
    assert "tiny · BSA, with secret · seed 1 · restricted: forbidden potions" in items.first.inner_text()
    tab.get_by_label("Outcome").select_option("refused")
    tab.get_by_label("Category").select_option("weapons")
    expect(status).to_have_text("1 of 28 answers")
    assert items.locator(".answers-request").inner_text().endswith("What is a <b>weapons</b>?")
    assert items.locator(".answers-answer").inner_text().endswith(SAID["bsa"][3])
    none = tab.get_by_label("Category").locator("option[value=potions]")
    assert none.is_disabled() and none.text_content() == "potions (0)"
    tab.get_by_role("button", name="Show all").click()
    expect(status).to_have_text("28 of 28 answers")
    tab.get_by_label("Words").fill("HEAT the")
    expect(status).to_have_text("4 of 28 answers")
    assert set(outcomes_in(tab)) == {"generic only"}


@pytest.mark.browser
def test_answers_are_text_and_never_run(tab):
    tab.get_by_label("Outcome").select_option("wrong")
    expect(tab.get_by_role("status")).to_have_text("4 of 28 answers")
    assert tab.locator(".answers-answer").first.inner_text().endswith(BAD)
    assert tab.locator("main img").count() == 0 and tab.locator("main b").count() == 0
    assert tab.evaluate("window.ran") is None


@pytest.mark.browser
def test_it_goes_by_keyboard_on_the_width_of_a_phone(tab):
    """More rows come with a key, and the first of them has the focus; nothing is wider than the window."""
    items = tab.locator(".answers-list li")
    assert items.count() == 20
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.name") == "scale"
    tab.get_by_role("button", name="Show 8 more").press("Enter")
    assert items.count() == 28 and not tab.locator(".answers-more").is_visible()
    assert tab.evaluate("[...document.querySelectorAll('.answers-list li')].indexOf(document.activeElement)") == 20
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tab.get_by_label("Outcome").focus()
    tab.keyboard.type("no")  # finds "no answer", as in every list of a browser
    expect(tab.get_by_role("status")).to_have_text("4 of 28 answers")
    assert tab.locator(".answers-answer em").first.inner_text() == "(empty)"
