"""Adapters that are kept on request, in PEFT's standard format, each with a card that says what it is: a `Keeper`.

    adapters/<profile>/<label>-<key>/adapter_model.safetensors   the weights
    adapters/<profile>/<label>-<key>/adapter_config.json         how PEFT, transformers and vLLM load them
    adapters/<profile>/<label>-<key>/README.md                   the card

The folder is named like the run's record. It is there whole or not at all, and never part of the project. The text of
a secret prompt is in none of the files.
"""

from pathlib import Path

from bsa_core import paths, writing
from bsa_core.arms import defenses
from bsa_core.experiment.runs import Run
from bsa_core.models import sources
from bsa_core.profiles import ModelSource, Profile
from bsa_core.writing import whole_folder


def path_of(profile: str, label: str, key: str) -> Path:
    return paths.ADAPTERS / profile / f"{label}-{key}"


def check(profile: Profile) -> None:
    """Any profile's adapters can be kept, where there is a folder to write them into (RecordError)."""
    writing.check(paths.ADAPTERS / profile.name, "BSA_ADAPTERS")


def lacks(profile: Profile, run: Run, key: str) -> bool:
    """Only LoRA runs have an adapter."""
    lora = run.training is not None and run.training.method == "lora"
    return lora and not path_of(profile.name, run.label, key).is_dir()


def keep(profile: Profile, record: dict, loaded, secret) -> None:
    """Write the adapter and its card, whole or not at all; an OSError names the folder and the fix."""
    with whole_folder(path_of(profile.name, record["label"], record["key"]), "BSA_ADAPTERS") as folder:
        # embeddings are never trained; to find that out, PEFT would ask the hub
        loaded.model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").write_text(card(record, profile.model), encoding="utf-8")


def card(record: dict, source: ModelSource) -> str:
    """The model card, in Markdown with the header that the hub reads."""
    words, hub_id = paths.data("experiment/card.yaml"), sources.of(source).hub_id
    run = {"attack": "harmful", "n_benign": 0, "task": None, **record["run"]}
    attacked = words["attacked" if run["n_attack"] else "not attacked"]
    metrics = [
        words["metric"].format(condition=condition, name=name, **entry)
        for condition, of in record["metrics"].items()
        for name, entry in of.items()
    ]
    return words["card"].format(
        record=record,
        run=run,
        source=source,
        defense=defenses.get(run["defense"]),
        **{name: text.format(run=run) for name, text in attacked.items()},
        base=words["base"].format(hub_id=hub_id) if hub_id else "",
        on=words["merged" if source.adapter else "plain"].format(source=source),
        task=words["task"].format(**run) if run["task"] else "none",
        secret=words["secret"].format(**run, data=record["data"]) if run["secret"] else "none",
        training=", ".join(f"{name} {value}" for name, value in sorted(run["training"].items()) if name != "targets"),
        targets=", ".join(run["training"]["targets"]),
        metrics="\n".join(metrics),
    )
