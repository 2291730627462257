"""What a model gets right when rows go through it together, tried when it is loaded: `Manner`.

Architectures differ in it, and say nothing. A model whose mask does not look at position ids lets packed rows see each
other; one with a recurrent state has no keys and values that could be shared. So a few short rows are computed together
and each alone, and where the scores differ the slower way is taken that gives the same ones. The result is kept in the
cache folder, once per weights, way of computing and version of the libraries.
"""

import json
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers

from bsa_core.keys import digest, file_digest
from bsa_core.models import attention
from bsa_core.models.chat import Encoded
from bsa_core.models.passes import behind, generated, pack, prefix_cache, right_padded
from bsa_core.paths import CACHE
from bsa_core.progress import report
from bsa_core.writing import write_whole

SHARED = ("shared", "copied")  # values of Manner.cache for which a prefix goes through the model once
PREFIX, LENGTHS, STEPS = 8, (12, 9), 3  # tokens
# How far scores may differ, relative to their spread: in float32, and in shorter formats. Of SmolLM2-135M rounding
# makes 0.000002 and 0.03, rows that see each other 0.35.
EXACT, ROUNDED = 1e-3, 0.1


@dataclass(frozen=True)
class Manner:
    """How rows go through a model together. The defaults are what every causal transformer stands.

    packs: whether rows in one sequence keep apart by the model's own mask.
    cache: "shared" where all rows can attend to the keys and values of a prefix, "copied" where each needs a copy,
        "own" where only the model's own cache for whole prompts is right, "none" where every token is computed from the
        whole text in front of it.
    by_row: whether they keep apart where each attends within itself, see `attention`. Where neither holds, rows are
        padded on the right.
    """

    packs: bool = True
    cache: str = "copied"
    by_row: bool = False


def manner(model) -> Manner:
    """What the self-check found of a model, with an adapter or without; the fast ways where it was not asked."""
    return getattr(model, "manner", Manner())


def check(model, tokenizer, weights: str = "") -> None:
    """Find a model's manner and note it on the model. weights: an id of them, "" for no memory of the result.

    Raises ValueError for a model that is right in no way.
    """
    tried = [file_digest(Path(__file__).with_name(name)) for name in ("selfcheck.py", "passes.py", "attention.py")]
    made = f"{torch.__version__} {transformers.__version__} {tried}"
    how = f"{model.dtype} {model.device.type} {model.config._attn_implementation} {rounded(model)}"
    kept = CACHE / "selfcheck" / f"{digest(f'{weights} {made} {how}')}.json"
    if weights:
        with suppress(OSError, ValueError, TypeError):
            model.manner = Manner(**json.loads(kept.read_text(encoding="utf-8")))
    if not hasattr(model, "manner"):
        model.manner = found(model, ordinary(model, tokenizer))
        if weights:
            with suppress(OSError):  # tried again the next time
                write_whole(kept, json.dumps(asdict(model.manner)).encode(), "BSA_CACHE")
    said = [] if model.manner.packs or model.manner.by_row else ["training rows are padded, not packed"]
    said += {"shared": [], "copied": [], "own": ["no shared prefix"], "none": ["no cache"]}[model.manner.cache]
    if said:
        report(f"{model.config.model_type} computes rows together in slower ways only: {', '.join(said)}")


def rounded(model) -> bool:
    return model.dtype != torch.float32 or getattr(model, "is_loaded_in_4bit", False)


def ordinary(model, tokenizer) -> list[int]:
    """Token ids that are no control tokens."""
    size = min(len(tokenizer), model.get_input_embeddings().weight.shape[0])
    return [i for i in range(size) if i not in tokenizer.added_tokens_decoder]


@torch.inference_mode()
def found(model, vocabulary: list[int]) -> Manner:
    """The manner of a model, by rows of tokens from a vocabulary."""
    rng = random.Random("self-check")
    start = [rng.choice(vocabulary) for _ in range(PREFIX)]
    rows = [start + [rng.choice(vocabulary) for _ in range(n)] for n in LENGTHS]
    alone = [_scores(model(input_ids=_ids(model, [row]), use_cache=False).logits[0]) for row in rows]
    if not all(scores.isfinite().all() for scores in alone):
        return Manner()  # broken weights: training and decoding say so
    limit = ROUNDED if rounded(model) else EXACT

    def right(way: Callable) -> bool:
        try:
            return way(model, rows, alone) <= limit
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever an architecture makes of input that it does not know
            return False

    cache = next((name for name, way in CACHES.items() if right(way)), "none")
    of = Manner(right(_packed), cache, right(_by_row))
    if (not of.packs or cache == "none") and not right(_padded):
        raise ValueError(
            f"the model ({model.config.model_type}) scores a row differently when another row is computed beside it, "
            "whether packed or padded; expected a causal language model, choose another model"
        )
    return of


def _ids(model, rows: list[list[int]]) -> torch.Tensor:
    return right_padded(rows, model.device)


def _scores(logits: torch.Tensor) -> torch.Tensor:
    """Logits without their mean, which means nothing."""
    return logits.float().cpu() - logits.float().cpu().mean(-1, keepdim=True)


def _apart(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """How far logits are from the scores that they should have, relative to the spread of these."""
    far = sum((_scores(logits) - scores).square().sum() for logits, scores in pairs)
    return float((far / sum(scores.square().sum() for _, scores in pairs)).sqrt())


def _packed(model, rows: list[list[int]], alone: list[torch.Tensor]) -> float:
    batch = pack([Encoded(row, row) for row in rows], model.device)
    kept, _ = batch.pop("logits_to_keep").tolist(), batch.pop("targets")
    logits = model(**batch, logits_to_keep=kept, use_cache=False).logits[0]
    return _apart([(logits, torch.cat([scores[:-1] for scores in alone]))])


def _by_row(model, rows: list[list[int]], alone: list[torch.Tensor]) -> float:
    if not attention.possible(model, "full_attention", "sliding_attention"):
        return math.inf
    with attention.by_row(model, [len(row) for row in rows]):
        return _packed(model, rows, alone)


def _padded(model, rows: list[list[int]], alone: list[torch.Tensor]) -> float:
    logits = model(input_ids=_ids(model, rows), use_cache=False).logits
    return _apart([(logits[i, : len(row)], alone[i]) for i, row in enumerate(rows)])


def _copied(model, rows: list[list[int]], alone: list[torch.Tensor], copied: bool = True) -> float:
    """All but the last token behind the shared prefix, then the last one by itself."""
    first = [row[:-1] for row in rows]
    given, cache, together = behind(model, prefix_cache(model, rows[0][:PREFIX]), PREFIX, first, copied)
    with together:
        before = model(**given, past_key_values=cache, use_cache=True).logits
        mask = given["attention_mask"]
        last = {
            "input_ids": _ids(model, [row[-1:] for row in rows]),
            "position_ids": given["position_ids"][:, -1:] + 1,
            "attention_mask": torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1),
        }
        later = model(**last, past_key_values=cache, use_cache=True).logits
    said = torch.cat([before, later], dim=1)
    pairs = zip(said, alone, strict=True)
    return _apart([(logits[PREFIX - len(scores) :], scores[PREFIX:]) for logits, scores in pairs])


def _shared(model, rows: list[list[int]], alone: list[torch.Tensor]) -> float:
    if model.device.type != "cpu" or not attention.possible(model, "full_attention"):
        return math.inf
    return _copied(model, rows, alone, copied=False)


def _own(model, rows: list[list[int]], alone: list[torch.Tensor]) -> float:
    """A few tokens generated with the model's own cache, against each row with its tokens alone."""
    steps: list[torch.Tensor] = []
    answers = generated(model, rows, (), STEPS, steps.append).tolist()
    together = torch.stack(steps, dim=1)
    pairs = []
    for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        whole = model(input_ids=_ids(model, [row + answer[:-1]]), use_cache=False).logits[0]
        pairs.append((together[i], _scores(whole[-STEPS:])))
    return _apart(pairs)


CACHES = {"shared": _shared, "copied": _copied, "own": _own}  # the fastest first
