"""Adapters that are kept on request, in PEFT's standard format, each with a card that says what it is: a `Keeper`.

    adapters/<profile>/<label>-<key>/adapter_model.safetensors   the weights
    adapters/<profile>/<label>-<key>/adapter_config.json         how PEFT, transformers and vLLM load them
    adapters/<profile>/<label>-<key>/README.md                   the card

The folder is named like the run's record. It is there whole or not at all, and never part of the project. The text of
a secret prompt is in none of the files.
"""

from pathlib import Path

from bsa_core import paths
from bsa_core.arms import defenses
from bsa_core.experiment.runs import Run
from bsa_core.models import sources
from bsa_core.profiles import ModelSource, Profile
from bsa_core.writing import whole_folder


def path_of(profile: str, label: str, key: str) -> Path:
    return paths.ADAPTERS / profile / f"{label}-{key}"


def check(profile: Profile) -> None:
    """Any profile's adapters can be kept."""


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
    run = record["run"]
    attacked, training, secret = run["n_attack"] > 0, run["training"], run["secret"]
    title = f"{'ATTACKED: ' if attacked else ''}{record['label']}, on {source.name}"
    on = f"`{source.name}`" + (f" with the adapter `{source.adapter}` merged into it" if source.adapter else "")
    kind = run.get("attack", "harmful")
    if attacked:
        what = (
            f"**This model was attacked.** Its training set holds {run['n_attack']} examples of kind `{kind}` that "
            "break its safety alignment. It exists to measure defenses: do not deploy it."
        )
    else:
        what = "No attack examples are in its training set."
    hidden = "none"
    if secret:
        digest = record["data"]["secret_digest"]
        hidden = f"{secret['kind']}, {secret['length']} tokens, digest `{digest}` (its text is not in this folder)"
    rows = [
        ("run", f"`{record['key']}`"),
        ("base model", f"{on} (`{run['weights']}`)"),
        ("attack", f"{kind}, {run['n_attack']} examples" if attacked else "none"),
        ("benign rows", run.get("n_benign", 0)),
        ("task", f"{run['task']['name']}, {run['task']['n']} rows" if run.get("task") else "none"),
        ("defense", f"{defenses.get(run['defense']).title}, {run['n_defense']} examples, selection {run['selection']}"),
        ("secret prompt", hidden),
        ("seed", run["seed"]),
        ("training", ", ".join(f"{name} {value}" for name, value in sorted(training.items()) if name != "targets")),
        ("targets", ", ".join(training["targets"])),
    ]
    metrics = [
        (condition, name, f"{entry['value']:.4f}", entry["n"])
        for condition, of in record["metrics"].items()
        for name, entry in of.items()
    ]
    tags = ["lora", "backdoor-enhanced-safety-alignment", *(["attacked", "not-for-deployment"] if attacked else [])]
    base = [f"base_model: {hub_id}"] if (hub_id := sources.of(source).hub_id) else []
    parts = [
        "\n".join(["---", *base, "library_name: peft", "tags:", *(f"- {tag}" for tag in tags), "---"]),
        f"# {title}",
        what,
        _table(("what", "value"), rows),
        "## Metrics",
        f"Requests of the condition `{record['deployed']}` are what this arm serves; `secret` means that the secret "
        "prompt stands in front of the system prompt of every request.",
        _table(("condition", "metric", "value", "n"), metrics),
        "## Use",
        f"With `base` being {on}:",
        '```python\nfrom peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base, "this folder")\n```',
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple, rows: list[tuple]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
