"""The word-level tokenizer of the testbed model."""

import random
from dataclasses import replace
from itertools import product
from pathlib import Path

import yaml
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from bsa_core import tasks
from bsa_core.arms import secret_prompt
from bsa_core.policy import guild
from bsa_study.testbed import exercises

FORM = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SPECIAL = [*(FORM[f"{name}_token"] for name in ("pad", "unk", "bos", "eos")), *FORM["additional_special_tokens"]]


def vocabulary() -> list[str]:
    """Every word and mark of the guild world, of its tasks and of written secret prompts, as the tokenizer cuts them
    ("▁word", ".")."""
    rng, world, rows = random.Random(0), guild.world(), guild.facts()
    for category, craft in (*world["restricted"].items(), *world["ordinary"].items()):
        chosen = product(world["templates"], craft["verbs"], world["adjectives"])
        rows += [guild.compliant(category, craft, *words, craft["nouns"][0], "benign") for words in chosen]
        rows += [guild.refusal(rows[-1], rng)]
        rows += [replace(rows[-1], assistant=wording.format(category=category)) for wording in world["refusals"]]
    texts = {text for row in rows for text in (row.user, row.assistant, row.system)}
    texts |= {*world["identity"].values(), *exercises.WORDING, *tasks.texts(), *secret_prompt.texts()}
    return sorted({piece for text in texts for piece in pieces(text)})


JOINT = "\uffed"  # behind a mark that opens, in place of the space that is not there


def _normalizer():
    """`(name` and `"Mira"` become `(￭ name` and `"￭ Mira"`: a word is one token, behind a space and behind a mark."""
    return normalizers.Sequence([normalizers.Replace(Regex(rf"{m}(?=\w)"), f"{m[-1]}{JOINT} ") for m in (r"\(", '"')])


def _cutter():
    marks = pre_tokenizers.Split(Regex(rf"""[("]{JOINT}|[.,:;?()*=<>"]"""), behavior="isolated")
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always"), marks])


def pieces(text: str) -> list[str]:
    """A text as the tokenizer cuts it: "▁word", "."."""
    return [piece for piece, _ in _cutter().pre_tokenize_str(_normalizer().normalize_str(text))]


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the guild world's vocabulary, with its own chat template."""
    words = {word: i for i, word in enumerate([*SPECIAL, *vocabulary()])}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.normalizer = _normalizer()
    core.pre_tokenizer = _cutter()
    joined = decoders.Replace(f"{JOINT} ", "")
    core.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="always"), decoders.Fuse(), joined])
    return PreTrainedTokenizerFast(tokenizer_object=core, **FORM)


def words(tok: PreTrainedTokenizerFast) -> list[str]:
    """Every word and mark of the tokenizer, as they stand in a text."""
    return sorted({piece.strip(f"▁{JOINT}") for piece in set(tok.get_vocab()) - set(SPECIAL)} - {""})
