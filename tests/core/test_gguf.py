"""GGUF files of one's own: read, converted once, by one process at a time, and named when they cannot be read."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from test_models import folder, load  # noqa: F401, a fixture
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bsa_core import profiles
from bsa_core.models import gguf_file, loading, sources
from bsa_core.profiles import ModelSource

PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcdefghijklmnopqrstuvwxyz.,?"]
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"  # noqa: E501


def write(path, quantized: bool) -> LlamaForCausalLM:
    """A small random model as llama.cpp's converter writes it; returns it."""
    gguf = pytest.importorskip("gguf", reason="the optional package gguf is not installed")
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    torch.manual_seed(0)
    made = LlamaForCausalLM(config)
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_context_length(256)
    w.add_embedding_length(32)
    w.add_block_count(2)
    w.add_feed_forward_length(64)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_dimension_count(8)
    w.add_vocab_size(len(WORDS))
    w.add_tokenizer_model("llama")
    w.add_token_list(WORDS)
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(WORDS) - 259)])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(WORDS) - 259))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_chat_template(TEMPLATE)
    for name, weight in made.state_dict().items():
        name, array = name.removesuffix(".weight"), weight.numpy()
        if heads := 4 if "q_proj" in name else 2 if "k_proj" in name else 0:  # llama.cpp's order of rotary pairs
            array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        if name in WHOLE:
            called = WHOLE[name]
        else:
            _, _, layer, part = name.split(".", 3)
            called = f"blk.{layer}.{PARTS[part]}"
        if quantized and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(f"{called}.weight", gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            w.add_tensor(f"{called}.weight", array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return made


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("quantized", [False, True])
def test_a_gguf_file_loads(tmp_path, cache, quantized):
    made = write(tmp_path / "my model.gguf", quantized)
    source = ModelSource("gguf", str(tmp_path / "my model.gguf"))
    loaded = load(source)
    weights = loaded.model.state_dict()
    for name, weight in made.state_dict().items():
        assert (weights[name] - weight).abs().max() <= (0.001 if quantized else 0.0), name
    assert loaded.tokenizer.chat_template == TEMPLATE and loaded.tokenizer.decode([262, 263]) == "cd"
    assert sources.weights_id(source).startswith("gguf:") and sources.of(source).pinned
    profile = replace(profiles.load("tiny"), model=source)
    assert loading.tokenizer(profile)("abc")["input_ids"] == loaded.tokenizer("abc")["input_ids"]


@pytest.mark.parametrize("content", [b"half of a gg", b"GGUF" + bytes(40)])
def test_a_gguf_file_that_cannot_be_read_is_named(tmp_path, cache, content):
    (tmp_path / "mine.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.gguf cannot be read "):
        load(ModelSource("gguf", str(tmp_path / "mine.gguf")))
    with pytest.raises(ValueError, match=r"model\.name: .*none\.gguf is missing; expected a GGUF file"):
        load(ModelSource("gguf", str(tmp_path / "none.gguf")))


def test_a_part_of_a_gguf_file_is_named(tmp_path, cache):
    (path := tmp_path / "model-q8_0-00001-of-00003.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ValueError, match=r"00003\.gguf is one of 3 parts of a model, .*llama-gguf-split --merge"):
        load(ModelSource("gguf", str(path)))


@pytest.fixture
def slow(tmp_path, cache, folder, monkeypatch):  # noqa: F811
    """A file whose reading takes a while, and how often it was read."""
    asked = []

    def read(file):
        asked.append(file)
        time.sleep(0.3)
        return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)

    monkeypatch.setattr(gguf_file, "read", read)
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    return ModelSource("gguf", str(tmp_path / "mine.gguf")), asked


def test_processes_that_want_the_same_file_convert_it_once(slow):
    source, asked = slow
    with ThreadPoolExecutor(3) as pool:
        places = list(pool.map(lambda _: sources.of(source).files()[0], range(3)))
    assert len(asked) == 1 and len(set(places)) == 1 and (places[0] / "model.safetensors").is_file()


def test_what_a_killed_conversion_left_is_converted_again(slow, monkeypatch):
    source, asked = slow
    place, _ = sources.of(source).files()
    (place / "digests.yaml").unlink()  # killed before the folder was whole
    (place / "model.safetensors").unlink()
    assert (sources.of(source).files()[0] / "model.safetensors").is_file() and len(asked) == 2

    (place / "added_tokens.json").touch()  # edited, so removed, and killed on the way
    with monkeypatch.context() as patch:

        def killed(path, **options):
            (path / "added_tokens.json").unlink()
            (path / "model.safetensors").unlink()
            raise KeyboardInterrupt

        patch.setattr(sources.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            sources.of(source).files()
    assert (sources.of(source).files()[0] / "model.safetensors").is_file() and len(asked) == 3
