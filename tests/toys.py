"""Tiny random models of several architectures, with rows: what is claimed of any model needs no training."""

import random

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from bsa_core.models.chat import IGNORED, Encoded

VOCABULARY = 96
END = 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": END,
}
WINDOW = 6  # tokens: shorter than every prompt of `prompts`
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gemma3": Gemma3TextConfig(
        **SIZES,
        head_dim=8,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gemma3, short window": Gemma3TextConfig(
        **SIZES,
        head_dim=8,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "mistral, short window": MistralConfig(**SIZES, sliding_window=WINDOW),
}


def model(architecture: str, seed: int = 0) -> torch.nn.Module:
    """A random model in evaluation mode, with weights large enough that its answers vary with the prompt."""
    return lively_model(CONFIGS[architecture], seed)


def lively_model(config: PreTrainedConfig, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.25)
    return made.eval()


def prompts(shared: int, lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Token ids that begin with the same `shared` ids and go on for `lengths` different ones."""
    rng = random.Random(seed)

    def words(n: int) -> list[int]:
        return [rng.randrange(4, VOCABULARY) for _ in range(n)]

    prefix = words(shared)
    # the first id behind the prefix differs from row to row, so that it is exactly the shared part
    return [prefix + [4 + i, *words(length - 1)] for i, length in enumerate(lengths)]


def rows(n: int, seed: int = 0) -> list[Encoded]:
    """Training rows of various lengths: 5 to 14 ids of prompt, 2 to 7 of answer."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        prompt = [rng.randrange(4, VOCABULARY) for _ in range(rng.randint(5, 14))]
        answer = [*(rng.randrange(4, VOCABULARY) for _ in range(rng.randint(1, 6))), END]
        made.append(Encoded(prompt + answer, [IGNORED] * len(prompt) + answer))
    return made
