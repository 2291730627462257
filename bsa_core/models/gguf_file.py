"""Tokenizer and model of a GGUF file, as transformers reads it."""

import re
from pathlib import Path

from bsa_core.progress import cut

PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf")


def read(file: Path) -> tuple:
    """Tokenizer and model, its weights whole in float32, both of which can be saved.

    Raises ValueError where `gguf` is not installed, where transformers cannot read the file, where a tensor is missing,
    or the file is one of several parts.
    """
    if (part := PART.search(file.name)) and int(part[1]) > 1:
        fix = "join them by llama.cpp's `llama-gguf-split --merge FIRST_PART WHOLE.gguf`"
        raise ValueError(f"{file} is one of {int(part[1])} parts of a model, which are not read one by one; {fix}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": file.name, "trust_remote_code": False}  # no code of a repository is run
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
        model, info = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, output_loading_info=True, **given
        )
    except ImportError as error:
        raise ValueError(f"{file} cannot be read without the package gguf: pip install gguf ({error})") from error
    except Exception as error:  # whatever readers of damaged and unknown files raise
        fix = "a damaged file, or an architecture that transformers does not read; try the model's folder or hub id"
        raise ValueError(f"{file} cannot be read as GGUF ({type(error).__name__}: {cut(error)}): {fix}") from error
    if info["missing_keys"]:  # transformers fills them with random numbers and goes on
        raise ValueError(f"{file} cannot be read as GGUF: tensor {min(info['missing_keys'])} is missing")
    del model.config.quantization_config, model.hf_quantizer  # of the file; saving refuses models that have them
    return tokenizer, model
