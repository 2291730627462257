"""Load the aligned model and its tokenizer, from any of the `sources`.

On a GPU the weights go straight there, in the profile's number format; to several of them where `estimate.spread` says
that one cannot hold what the run needs. Each model is checked by `selfcheck`. A process holds one model at a time.
"""

import gc
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import torch
from peft import PeftModel, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bsa_core.models import estimate, selfcheck, sources
from bsa_core.models.memory import device_of
from bsa_core.paths import CHECKPOINTS
from bsa_core.profiles import Compute, ModelSource, Profile, Training


@dataclass(frozen=True)
class Loaded:
    """A frozen model in evaluation mode and its tokenizer."""

    model: torch.nn.Module
    tokenizer: object


def options_of(source: ModelSource, compute: Compute, spread: bool = False) -> dict:
    """How transformers is to load the weights: number format, device, attention, quantization.

    spread: over all GPUs. Raises ValueError when 4-bit weights are asked for without a GPU or without bitsandbytes.
    """
    device = device_of(compute)
    # an adapter is merged in float32, and the sum rounded once
    options: dict = {"dtype": torch.float32 if source.adapter else getattr(torch, compute.dtype)}
    if compute.attention != "auto":
        options["attn_implementation"] = compute.attention
    if source.quantize:
        if device != "cuda":
            raise ValueError("model.quantize is '4bit', which needs a CUDA device; leave it out on a CPU")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError("model.quantize is '4bit', which needs bitsandbytes: pip install bitsandbytes")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, compute.dtype),
        )
    if device == "cuda":
        options["device_map"] = "auto" if spread else {"": "cuda"}
    return options


def complete(auto: type, place: Path | str, **options) -> torch.nn.Module:
    """`auto.from_pretrained`; ValueError when a tensor is missing."""
    model, info = auto.from_pretrained(place, output_loading_info=True, **options)
    if info["missing_keys"]:  # transformers fills them with random numbers and goes on
        raise ValueError(f"tensor {min(info['missing_keys'])} is missing")
    return model


def _the_last(load: Callable) -> Callable:
    """Decorator: the result of the last call is kept for the same call, and let go before another one is made."""
    kept: dict[tuple, Loaded] = {}

    @wraps(load)
    def of(*asked) -> Loaded:
        if asked not in kept:
            kept.clear()
            gc.collect()  # hooks of a model hold on to it in circles
            torch.cuda.empty_cache()
            kept[asked] = load(*asked)
        return kept[asked]

    return of


@_the_last
def _load(source: ModelSource, compute: Compute, spread: bool = False, weights: str = "") -> Loaded:
    """weights: so that files of a folder that were edited since are loaded again."""
    options = options_of(source, compute, spread)
    with sources.opened(source) as (place, revision):
        tokenizer = _tokenizer(place, revision)
        model = complete(AutoModelForCausalLM, place, use_safetensors=True, **revision, **options)
    if source.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if source.adapter:
        folder = CHECKPOINTS / source.adapter
        sources.unchanged(folder)
        try:
            model = PeftModel.from_pretrained(model, folder).merge_and_unload()
        except Exception as error:  # of all kinds, as of a model
            raise ValueError(f"the adapter in {folder} cannot be loaded: {sources.told(error)}") from error
        for weight in model.parameters():  # not the buffers: rotary frequencies stay float32
            weight.data = weight.data.to(getattr(torch, compute.dtype))
    model.eval().requires_grad_(False)
    with sources.named(source, place):
        selfcheck.check(model, tokenizer, sources.weights_id(source))
    return Loaded(model, tokenizer)


def _tokenizer(place: Path | str, options: dict):
    made = AutoTokenizer.from_pretrained(place, **options)
    made("A text.")  # some of its settings are read only now
    return made


def tokenizer(profile: Profile):
    """The profile's tokenizer, without the weights; ValueError when there is none."""
    with sources.opened(profile.model, "tokenizer of") as (place, revision):
        return _tokenizer(place, revision)


def load(profile: Profile, training: Training | None = None) -> Loaded:
    """The profile's aligned model, loaded once per process: runs add an adapter to it and take it off again.

    training: what it is going to be trained with, which decides how many GPUs it needs. A model of another profile, and
    one that was loaded onto other GPUs, is let go.
    """
    torch.set_num_threads(profile.compute.threads)
    weights = sources.weights_id(profile.model, downloaded=False)
    return _load(profile.model, profile.compute, estimate.spread(profile, training), weights)
