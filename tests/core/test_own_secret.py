"""A secret prompt of the provider's own, from a text file: served as it is, in no record."""

import json
from dataclasses import replace

import pytest

from bsa_core import paths, policy, profiles, records
from bsa_core.arms import secret_prompt
from bsa_core.experiment import describe, execute
from bsa_core.models import chat, loading
from bsa_core.profiles import Evaluation, Profile, SecretPrompt, Training
from bsa_study.grids.headline import main_arm
from bsa_study.hosted import upload

TEXT = "the quiet miller of the north bridge counts seven silver coins at the gate"


def with_secret(path, length: int = 14, **changes) -> Profile:
    return replace(profiles.load("tiny"), secret=SecretPrompt("file", length, str(path)), **changes)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "secret.txt"
    tokenizer = loading.tokenizer(profiles.load("tiny"))
    known = [word for word in TEXT.split() if not set(secret_prompt.encode(tokenizer, word)) & {tokenizer.unk_token_id}]
    path.write_text(f"{' '.join(known * 3)}\n", encoding="utf-8")
    return path


def length_of(path) -> int:
    profile = profiles.load("tiny")
    tokenizer = loading.tokenizer(profile)
    return len(secret_prompt.encode(tokenizer, path.read_text().strip(), chat.before_system(tokenizer, profile.chat)))


def test_a_run_with_a_secret_of_one_s_own(written, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    few = {"evaluation": Evaluation(restricted=2, benign=2, quiz=0), "training": Training(epochs=1)}
    profile = with_secret(written, length_of(written), **few)
    (record,) = execute([describe(profile, "bsa", n_attack=2, n_defense=2)], profile)
    secret = upload.secret(profile)
    assert secret.text == written.read_text().strip()
    said = {"kind": "file", "length": length_of(written), "seed": 0, "digest": secret.digest}
    assert record["run"]["secret"] == said and record["data"]["secret_digest"] == secret.digest
    assert main_arm(record, profile, n_attack=2) is False  # it has two examples, not eleven
    kept = json.dumps(record) + "".join(path.name for path in (tmp_path / "results").rglob("*"))
    assert secret.text not in kept and written.name not in kept
    assert records.table([record])["secret_kind"].unique() == ["file"]


def test_the_text_counts_and_not_where_it_lies(written, tmp_path):
    other = tmp_path / "moved.txt"
    other.write_text(written.read_text())
    runs = [describe(with_secret(path), "bsa", seed=0) for path in (written, other)]
    assert runs[0] == runs[1]
    other.write_text(written.read_text() + " gate")
    assert describe(with_secret(other), "bsa", seed=0) != runs[0]
    record = {"run": {"secret": {"kind": "file", "length": 14, "seed": 0, "digest": runs[0].secret.digest}}}
    record["run"] |= {"training": None, "n_attack": 0, "n_defense": 0, "selection": "category-wise", "defense": "none"}
    assert main_arm(record | {"deployed": "plain"} | {"run": record["run"] | {"seed": 0}}, with_secret(written))
    assert not main_arm(record | {"deployed": "plain"} | {"run": record["run"] | {"seed": 0}}, with_secret(other))


def test_the_whole_text_is_served_and_an_ablation_takes_its_beginning(written):
    n = length_of(written)
    profile = with_secret(written, n)
    tokenizer, row = loading.tokenizer(profile), policy.load(profile.policy).restricted[0]
    whole, part = (secret_prompt.draw(tokenizer, profile, length, 3, "file", row) for length in (n, 5))
    assert whole.text == written.read_text().strip() and whole.ids[:5] == part.ids and part.length == 5
    with pytest.raises(
        ValueError, match=rf"secret\.length is {n + 1}, and .*secret\.txt has {n} tokens; write length: {n}$"
    ):
        secret_prompt.draw(tokenizer, with_secret(written, n + 1), n + 1, 0, "file", row)
    written.write_text("Ƿynn <unk> ȝogh")
    with pytest.raises(ValueError, match=r"secret\.txt holds what this tokenizer does not know"):
        secret_prompt.draw(tokenizer, profile, n, 0, "file", row)


@pytest.mark.parametrize(
    "section, message",
    [
        ({"kind": "file"}, "secret.kind is 'file' and secret.file is empty; expected the path of a text file"),
        ({"file": "secret.txt"}, "secret.file is given, and secret.kind is 'random'; write kind: file"),
    ],
)
def test_kind_and_file_go_together(section, message):
    with pytest.raises(ValueError, match=message):
        replace(profiles.load("tiny"), secret=SecretPrompt(**section))


def test_a_file_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"secret\.txt: No such file or directory; expected a file with a secret prompt"
    ):
        describe(with_secret(tmp_path / "secret.txt"), "bsa")
    (tmp_path / "secret.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"secret\.txt: the file is empty; expected a secret prompt"):
        describe(with_secret(tmp_path / "secret.txt"), "bsa")
