"""The self-check: architectures that see each other's packed rows, or have no cache that can be shared, train and
decode as each row does by itself; and those that can are left to the fast ways."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from toys import END, SIZES, VOCABULARY, lively_model, prompts, rows
from transformers import AutoConfig

from bsa_core import profiles
from bsa_core.engine.decode import decode, option_scores
from bsa_core.engine.finetune import add_lora, answer_losses
from bsa_core.models import loading, selfcheck
from bsa_core.models.chat import IGNORED
from bsa_core.models.selfcheck import Manner
from bsa_core.profiles import Training

HEADS = {"mamba_n_heads": 8, "mamba_d_head": 8}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAST = Manner(packs=True, cache="shared", by_row=True)
OTHERS = {  # architecture -> what its configuration needs to be small, and its manner
    "phi3": ({}, FAST),
    "qwen3_moe": ({"head_dim": 8, **EXPERTS}, FAST),
    "gpt_oss": ({"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}, Manner(packs=False)),
    "falcon": ({"alibi": False, "new_decoder_architecture": False, "multi_query": False}, Manner(packs=False)),
    "opt": ({"ffn_dim": 48, "word_embed_proj_dim": 32}, replace(FAST, packs=False)),
    "bloom": ({"n_layer": 2, "n_head": 4}, Manner(packs=False)),
    "mpt": ({"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}, Manner(packs=False)),
    "xglm": ({"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}, Manner(packs=False)),
    "biogpt": ({}, replace(FAST, packs=False)),
    "lfm2": ({"layer_types": ["conv", "full_attention", "conv"]}, Manner(False, "own")),
    "qwen3_next": ({"num_hidden_layers": 4, "head_dim": 8, **EXPERTS, **LINEAR}, Manner(False, "own")),
    "bamba": ({**HEADS, "mamba_expand": 2, "attn_layer_indices": [1]}, Manner(False, "own")),
    "granitemoehybrid": ({**HEADS, "layer_types": ["mamba", "attention", "mamba"]}, Manner(False, "own")),
    "mamba2": ({"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2}, Manner(False, "own")),
    "recurrent_gemma": ({"lru_width": 32}, Manner(False, "none")),
    "rwkv": ({"attention_hidden_size": 32}, Manner(False, "none")),
}


def checked(name: str) -> torch.nn.Module:
    made = lively_model(AutoConfig.for_model(name, **{**SIZES, **OTHERS[name][0]}))
    made.manner = selfcheck.found(made, list(range(4, VOCABULARY)))
    return made


def alone(made, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return made(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def one_by_one(made, asked: list[list[int]], new: int) -> list[list[int]]:
    """Without batch, padding and cache."""
    answers = []
    for prompt in asked:
        answer: list[int] = []
        while len(answer) < new and (token := alone(made, prompt + answer)[-1].argmax().item()) != END:
            answer.append(token)
        answers.append(answer)
    return answers


@pytest.mark.parametrize("name", OTHERS)
def test_every_architecture_computes_rows_together_as_it_does_each_alone(name):
    made = checked(name)
    assert made.manner == OTHERS[name][1]

    batch, expected = rows(4, seed=1), 0.0
    for row in batch:
        logits, labels = alone(made, row.ids)[:-1], torch.tensor(row.labels[1:])
        expected += cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
    assert answer_losses(made, [batch]).item() == pytest.approx(expected, rel=1e-4)

    asked = prompts(8, [3, 5, 9, 2])
    whole = one_by_one(made, asked, 5)
    assert decode(made, asked, {END}, 5, 4) == whole == decode(made, asked, {END}, 5, 1)

    options = [[[7], [9, 11, 5]]] * len(asked)
    scored = torch.tensor(option_scores(made, asked, options, 4))
    for i, prompt in enumerate(asked):
        for j, option in enumerate(options[i]):
            said = alone(made, prompt + option).log_softmax(-1)[len(prompt) - 1 : -1]
            summed = said.gather(1, torch.tensor(option)[:, None]).sum().item()
            assert scored[i, j].item() == pytest.approx(summed, rel=1e-4)


@pytest.mark.parametrize("name", ["phi3", "gpt_oss", "lfm2"])
def test_rounding_is_told_from_rows_that_see_each_other(name):
    made = checked(name)
    assert selfcheck.found(made.bfloat16(), list(range(4, VOCABULARY))) == made.manner


def test_an_adapted_model_keeps_the_manner_of_its_base():
    adapted = add_lora(checked("lfm2"), Training(targets=("q_proj", "in_proj")), seed=0).eval()
    assert selfcheck.manner(adapted) == Manner(False, "own")
    asked = prompts(8, [3, 5, 9])
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    assert decode(adapted, asked, {END}, 5, 3) == one_by_one(adapted, asked, 5)


def test_generation_settings_of_the_model_do_not_enter():
    made = checked("lfm2")
    asked = prompts(8, [3, 5, 9])
    expected = decode(made, asked, {END}, 5, 3)
    made.generation_config.update(repetition_penalty=9.0, do_sample=True, temperature=5.0, max_length=3)
    assert decode(made, asked, {END}, 5, 3) == expected
    assert made.generation_config.repetition_penalty == 9.0


class Backwards(torch.nn.Module):
    """Scores that depend on what follows: no causal language model."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(model_type="backwards", _attn_implementation="eager")

    def forward(self, input_ids, **options):
        scores = torch.nn.functional.one_hot(input_ids, VOCABULARY).float()
        return SimpleNamespace(logits=scores.flip(1).cumsum(1).flip(1))


def test_a_model_that_is_right_in_no_way_is_refused():
    with pytest.raises(ValueError, match=r"the model \(backwards\) scores .* expected a causal language model"):
        selfcheck.found(Backwards(), list(range(4, VOCABULARY)))


def test_models_are_checked_at_load_once_per_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(selfcheck, "CACHE", tmp_path)
    asked, real = [], selfcheck.found
    monkeypatch.setattr(selfcheck, "found", lambda *given: asked.append(given) or real(*given))
    tiny = profiles.load("tiny")

    def load(**compute):
        return loading._load.__wrapped__(tiny.model, replace(tiny.compute, device="cpu", **compute)).model

    for _ in range(2):
        assert selfcheck.manner(load()) == FAST
    assert len(asked) == 1
    assert selfcheck.manner(load(dtype="bfloat16")) == FAST and len(asked) == 2, "another way of computing"
    assert "slower" not in capsys.readouterr().err

    for kept in (tmp_path / "selfcheck").iterdir():
        kept.write_text(json.dumps({"packs": False, "cache": "none"}))
    assert selfcheck.manner(load()) == Manner(False, "none")
    assert "llama computes rows together in slower ways only: training rows are padded" in capsys.readouterr().err
    for kept in (tmp_path / "selfcheck").iterdir():
        kept.write_text("half a re")
    assert selfcheck.manner(load()) == FAST and len(asked) == 3

    monkeypatch.setattr(selfcheck, "CACHE", tmp_path / "selfcheck" / kept.name)  # a file: nothing can be kept in it
    assert selfcheck.manner(load()) == FAST and len(asked) == 4
