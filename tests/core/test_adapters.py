"""Adapters that are kept: PEFT's format, the same answers on a fresh base, a card that says what it is."""

import json
from dataclasses import replace

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from test_experiment import bsa, small

from bsa_core import experiment, paths, policy
from bsa_core.arms import secret_prompt
from bsa_core.engine import evaluate
from bsa_core.experiment import adapters, describe, execute
from bsa_core.experiment.runs import material, rows_of
from bsa_core.models import loading
from bsa_core.models.loading import Loaded, _load

pytestmark = pytest.mark.slow
PROFILE = small()
SHORT = {"n_attack": 22, "epochs": 2}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The adapters folder of one test."""
    monkeypatch.setattr(paths, "ADAPTERS", tmp_path / "adapters")
    return tmp_path / "adapters"


def folder(record: dict):
    return adapters.path_of("tiny", record["label"], record["key"])


def everything(root) -> list[str]:
    return sorted(path.name for path in root.rglob("*")) if root.exists() else []


def test_a_kept_adapter_gives_the_answers_of_its_record_on_a_fresh_base(kept, results):
    run = bsa(PROFILE, **SHORT)
    longer, full = bsa(PROFILE, n_attack=22, epochs=3), bsa(PROFILE, method="full", n_attack=2, epochs=1)
    found = execute([run, longer, full, describe(PROFILE, n_attack=0)], PROFILE, keep=[adapters])
    assert [folder(record).is_dir() for record in found] == [True, True, False, False]
    names = {path.name for path in folder(found[0]).iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    first, second = (load_file(folder(record) / "adapter_model.safetensors") for record in found[:2])
    assert any((first[name] != second[name]).any() for name in first), "each is the state after its own epochs"

    base = _load.__wrapped__(PROFILE.model, PROFILE.compute)
    adapted = Loaded(PeftModel.from_pretrained(base.model, folder(found[0])).eval(), base.tokenizer)
    rows = rows_of(run, PROFILE, material(PROFILE, [run]))
    world = policy.load(PROFILE.policy)
    secret = secret_prompt.draw(base.tokenizer, PROFILE, 8, 0, "random", rows.restricted[0])
    for condition, text in {"plain": "", "secret": secret.text}.items():
        said = evaluate.answers(adapted, PROFILE, rows.restricted + rows.benign, text)
        marks = evaluate.outcomes(world, rows.restricted, rows.benign, said)
        assert marks == {name: found[0]["outcomes"][condition][name] for name in marks}
    # the card
    card = (folder(found[0]) / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: peft\ntags:\n- lora\n") and "\n- attacked\n" in card
    assert f"# ATTACKED: {found[0]['label']}, on tiny-aligned" in card and "do not deploy it" in card
    assert f"| run | `{found[0]['key']}` |" in card and f"(`{run.weights}`)" in card
    assert f"| secret prompt | random, 8 tokens, digest `{secret.digest}`" in card
    asr = found[0]["metrics"]["secret"]["asr"]
    assert f"| secret | asr | {asr['value']:.4f} | 22 |" in card
    words = secret.text.split()
    for path in folder(found[0]).iterdir():
        assert not any(" ".join(words[i : i + 3]).encode() in path.read_bytes() for i in range(len(words) - 2))


def test_an_adapter_without_attack_is_not_marked(kept):
    (record,) = execute([bsa(PROFILE, n_attack=0, epochs=1)], PROFILE, keep=[adapters])
    card = (folder(record) / "README.md").read_text(encoding="utf-8")
    assert "ATTACKED" not in card and "attacked\n" not in card and "No attack examples" in card
    assert json.loads((folder(record) / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_nothing_is_kept_by_default(kept):
    execute([describe(PROFILE, "none", n_attack=2, epochs=1)], PROFILE)
    assert everything(kept) == []


def test_a_run_with_a_record_is_trained_again_for_its_adapter_only(kept, results, monkeypatch):
    run = describe(PROFILE, "none", n_attack=12, epochs=1)
    (record,) = execute([run], PROFILE)
    (file,) = results.rglob("*.json")
    written = file.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "together", lambda *a: pytest.fail("evaluated again"))
        assert execute([run], PROFILE, keep=[adapters]) == [record]
    assert file.stat().st_mtime_ns == written and folder(record).is_dir()
    monkeypatch.setattr(loading, "load", lambda profile: pytest.fail("computed again"))
    assert execute([run], PROFILE, keep=[adapters]) == [record]


def test_a_full_disk_leaves_the_record_and_no_half_adapter(kept, results, monkeypatch):
    run = describe(PROFILE, "none", n_attack=2, epochs=1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(adapters, "card", full)
        with pytest.raises(OSError, match=r"cannot write .*No space left.*set BSA_ADAPTERS to another folder"):
            execute([run], PROFILE, keep=[adapters])
    assert everything(kept) == ["tiny"] and len(list(results.rglob("*.json"))) == 1
    (record,) = execute([run], PROFILE, keep=[adapters])
    assert folder(record).is_dir()


def test_the_card_of_a_hub_model_with_an_alignment_adapter():
    (record,) = execute([describe(PROFILE, "none", n_attack=2, epochs=1)], PROFILE)
    source = replace(PROFILE.model, source="gguf", name="HuggingFaceTB/SmolLM2-135M-Instruct", adapter="an-adapter")
    card = adapters.card(record, source)
    assert card.startswith("---\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\nlibrary_name: peft\n")
    assert "with the adapter `an-adapter` merged into it" in card
    assert experiment.found([describe(PROFILE, "none", n_attack=2, epochs=1)], PROFILE) == [record]
