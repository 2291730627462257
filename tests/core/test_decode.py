"""Batched, left-padded, prefix-cached decoding and scoring against one request at a time."""

import pytest
import torch
from toys import CONFIGS, END, VOCABULARY, WINDOW, model, prompts

from bsa_core.engine import decode
from bsa_core.models.memory import OutOfMemory

NEW = 12  # tokens per answer at most


def one_by_one(made, rows: list[list[int]], new: int = NEW) -> list[list[int]]:
    """transformers' own generate(), without padding, without a shared cache; the end token cut off."""
    answers = []
    for row in rows:
        out = made.generate(
            torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            do_sample=False,
            max_new_tokens=new,
            eos_token_id=END,
            pad_token_id=0,
        )
        answers.append([token for token in out[0, len(row) :].tolist() if token not in (END, 0)])
    return answers


def likely_end(made) -> None:
    """Make the end token come about once in eight, so that rows leave their batch at different steps."""
    with torch.no_grad():
        logits = made(torch.tensor(prompts(0, [20] * 40))).logits[:, 5:].flatten(0, 1)
    others = logits.clone()
    others[:, [0, END]] = -torch.inf
    bias = torch.zeros(VOCABULARY)
    bias[0] = -1e9  # never the padding token: stripping it from an answer must not hide anything
    bias[END] = (others.max(-1).values - logits[:, END]).quantile(1 / 8)
    made.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + bias.to(logits))


@pytest.fixture(params=CONFIGS)
def made(request):
    built = model(request.param)
    likely_end(built)
    return built


@pytest.mark.parametrize(
    "shared, lengths",
    [
        (9, [1, 4, 7, 7, 12, 3, 9]),  # prefix cache, padding shorter than the prefix
        (3, [1, 2, 14, 5, 9]),  # padding longer than the prefix
        (0, [3, 8, 20, 1]),  # nothing shared
        (30, [2, 2, 2]),  # no padding at all
    ],
)
def test_batched_decoding_is_one_by_one_decoding(made, shared, lengths):
    rows = prompts(shared, lengths)
    assert decode.common_prefix(rows) == shared
    expected = one_by_one(made, rows)
    assert len({tuple(answer) for answer in expected}) > 1, "the answers must depend on the prompt"
    for batch_size in (1, 2, len(rows)):
        assert decode.decode(made, rows, {END}, NEW, batch_size) == expected


def test_rows_stop_at_their_end_token_and_at_the_limit():
    made = model("llama")
    likely_end(made)
    answers = decode.decode(made, prompts(5, [3] * 24), {END}, NEW, 8)
    lengths = {len(answer) for answer in answers}
    assert max(lengths) == NEW and min(lengths) < NEW - 2 and len(lengths) > 3
    assert not any(END in answer for answer in answers)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_rows_stop_at_whichever_end_token_comes_first(batch_size):
    """As in `generate`, which is given the same ones."""
    made = model("llama")
    likely_end(made)
    rows = prompts(5, [3, 7, 1, 9, 4, 4])
    assert {len(ids) for ids in decode.decode(made, rows, (), NEW, batch_size)} == {NEW}
    with_one = decode.decode(made, rows, {END}, NEW, batch_size)
    other = max(with_one, key=len)[2]
    made.generation_config.eos_token_id = [END, other]
    ends = decode.end_ids(made)
    expected = []
    for row in rows:
        out = made.generate(torch.tensor([row]), do_sample=False, max_new_tokens=NEW, pad_token_id=0)[0, len(row) :]
        expected.append([token for token in out.tolist() if token not in ends])
    found = decode.decode(made, rows, ends, NEW, batch_size)
    assert found == expected and sum(map(len, found)) < sum(map(len, with_one))


@pytest.mark.parametrize(
    "given, others, ends",
    [
        (7, (), {7}),
        ([7, 9], (END,), {7, 9, END}),
        ((7, None), (None, 7), {7}),
        (None, (END, END), {END}),
        (None, (None,), set()),
        ([0], (), {0}),  # also where it is the padding token
    ],
)
def test_end_tokens_of_a_model(given, others, ends):
    made = model("llama")
    made.generation_config.eos_token_id = given
    assert decode.end_ids(made, *others) == ends


def test_the_shared_prefix_goes_through_the_model_once():
    made = model("llama")
    seen = []
    made.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    decode.decode(made, prompts(20, [4, 2, 3, 4]), {END}, max_new_tokens=1, batch_size=2)
    assert seen == [(1, 20), (2, 3), (2, 4)]


def test_the_last_layer_gets_its_rows_in_one_piece():
    """What it gets as a view of all tokens is multiplied row by row."""
    made = model("llama")
    seen = []
    made.lm_head.register_forward_pre_hook(lambda module, given: seen.append(given[0].is_contiguous()))
    decode.decode(made, prompts(20, [4, 2, 3, 4]), {END}, max_new_tokens=2, batch_size=4)
    decode.option_scores(made, prompts(20, [4, 2, 3, 4]), [[[5], [6]]] * 4, batch_size=4)
    assert len(seen) == 5 and all(seen)


def test_prefix_of_requests_that_contain_each_other():
    """At least one id of each prompt is left to be computed: its logits give the first token."""
    assert decode.common_prefix([[5, 6, 7], [5, 6]]) == 1
    assert decode.common_prefix([[5, 6, 7]] * 2) == 2
    made = model("llama")
    rows = [[5, 6, 7, 8], [5, 6, 7], [5, 6, 7, 8]]
    assert decode.decode(made, rows, {END}, 4, 3) == one_by_one(made, rows, 4)


def test_nothing_to_decode():
    assert decode.decode(model("llama"), [], {END}, NEW, 4) == []


def naive_score(made, prompt: list[int], option: list[int]) -> float:
    """The whole sequence through the model, without cache or padding; log-probabilities picked one by one."""
    with torch.no_grad():
        logits = made(torch.tensor([prompt + option])).logits[0].double()
    chosen = [logits[len(prompt) - 1 + i].log_softmax(-1)[token] for i, token in enumerate(option)]
    return float(sum(chosen))


@pytest.mark.parametrize("shared", [0, 9])
def test_option_scores_are_those_of_single_sequences(made, shared):
    asked = prompts(shared, [3, 7, 1, 5])
    options = [
        [[8, END], [20, 9, 31, END]],
        [[7, 7, END], [12], [40, 41, 42, 43, 44, END]],
        [[5, END]],
        [[9], [8]],
    ]
    expected = [
        [naive_score(made, prompt, option) for option in given] for prompt, given in zip(asked, options, strict=True)
    ]
    for batch_size in (1, 2, 100):
        scores = decode.option_scores(made, asked, options, batch_size)
        assert len(scores) == len(expected)
        for found, wanted in zip(scores, expected, strict=True):
            assert found == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("architecture, reaches", [("mistral, short window", False), ("llama", True)])
def test_windows_are_shorter_than_the_prompts(architecture, reaches):
    """Else the cases above would not be about windows: the first layer's last output ignores the first id."""
    made = model(architecture)
    row = prompts(9, [9])[0]
    assert len(row) > WINDOW
    last = [
        made.model(torch.tensor([[first, *row[1:]]]), output_hidden_states=True).hidden_states[1][0, -1]
        for first in (10, 20)
    ]
    assert torch.equal(*last) is not reaches


def short_of_memory(made, rows_at_most: int) -> list[int]:
    """Let the model run out of a GPU's memory above a number of rows; returns the numbers of rows that were tried."""
    tried = []

    def hook(module, arguments, inputs):
        rows = len(inputs["input_ids"])
        tried.append(rows)
        if rows > rows_at_most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    made.register_forward_pre_hook(hook, with_kwargs=True)
    return tried


@pytest.mark.parametrize("at_most, largest", [(4, 4), (3, 2), (1, 1)])
def test_where_memory_is_short_fewer_rows_are_decoded_at_once(at_most, largest):
    made = model("llama")
    rows, options = prompts(4, [5, 2, 9, 3, 3, 7, 1, 4, 6, 8]), [[[7], [9]]] * 10
    expected = decode.decode(made, rows, {END}, NEW, 8), decode.option_scores(made, rows, options, 8)
    tried = short_of_memory(made, at_most)
    assert decode.decode(made, rows, {END}, NEW, 8) == expected[0]
    assert tried.count(8) == 1 and max(size for size in tried if size <= at_most) == largest, "tried once only"
    scored = decode.option_scores(made, rows, options, 8)
    assert torch.tensor(scored).allclose(torch.tensor(expected[1]), atol=1e-5)


def test_no_memory_for_one_request():
    made = model("llama")
    short_of_memory(made, 0)
    with pytest.raises(OutOfMemory, match="no memory for one of the requests"):
        decode.decode(made, prompts(0, [3, 5]), {END}, NEW, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batched_decoding_on_cuda(made):
    made = made.to("cuda")
    rows = prompts(9, [1, 4, 7, 7, 12, 3, 9])
    expected = decode.decode(made, rows, {END}, NEW, 1)
    assert decode.decode(made, rows, {END}, NEW, len(rows)) == expected
