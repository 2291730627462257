"""What a hub that gives no model leads to: one clear message. No network: the errors of the hub are raised by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, errors

from bsa_core import experiment, profiles
from bsa_core.experiment import chain, computing, lookup
from bsa_core.models import estimate, loading, sources
from bsa_core.profiles import Compute, ModelSource

SOURCE = ModelSource("hub", "some-owner/some-model", "v1")
COMMIT, OTHER = "a" * 40, "b" * 40


def answer(kind: type, status: int) -> Exception:
    """An error as huggingface_hub makes it of the hub's answer."""
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status} Client Error", response=response)


CASES = [
    (answer(errors.GatedRepoError, 403), r"is gated: accept its licence on https://.*/some-model, then"),
    (answer(errors.GatedRepoError, 401), r"is gated: .*`hf auth login` or set HF_TOKEN"),
    (answer(errors.RepositoryNotFoundError, 401), r"There is no https://.*/some-model, or it is private: check"),
    (answer(errors.RevisionNotFoundError, 404), r"has no revision 'v1': check model\.revision"),
    (answer(errors.HfHubHTTPError, 401), r"The hub refuses your access token: make a new one .*settings/tokens"),
    (errors.LocalEntryNotFoundError("cannot find the file"), r"network.* HF_HUB_OFFLINE .*hf download.*source: local"),
    (errors.OfflineModeIsEnabled("offline"), r"HF_HUB_OFFLINE is set, only what was downloaded before"),
    (ConnectionError("no route"), r"Check the hub id, your network and your access token"),
]


@pytest.fixture
def raised(monkeypatch):
    """Let every request to the hub end in an error, below transformers, which wraps it in errors of its own."""

    def of(error: Exception) -> None:
        def fail(*arguments, **options):
            raise error

        for name in ("hf_hub_download", "snapshot_download"):
            monkeypatch.setattr(f"transformers.utils.hub.{name}", fail)
        monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: False, raising=False)

    return of


@pytest.mark.parametrize("error, message", CASES)
def test_what_the_hub_says_becomes_one_clear_message(error, message, raised):
    raised(error)
    for ask in (
        lambda: loading._load.__wrapped__(SOURCE, Compute(device="cpu")),
        lambda: estimate.config_of(SOURCE),
    ):
        with pytest.raises(ValueError, match=rf"the model in some-owner/some-model cannot be loaded: (.|\n)*{message}"):
            ask()


def test_a_chain_of_errors_that_leads_back_to_itself():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert sources._chain(first) == [first, second]


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """A cache of the hub; the function puts one commit of the model there, as a download does."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def put(commit: str, branch: str = "main") -> None:
        folder = tmp_path / "models--some-owner--some-model"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / branch).write_text(commit)
        (folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (folder / "snapshots" / commit / "config.json").write_text("{}")

    return put


def test_a_branch_counts_as_the_commit_that_was_downloaded(downloaded):
    branch = replace(SOURCE, revision="main")
    assert sources.weights_id(branch) == "hub:some-owner/some-model@main" and not sources.of(branch).pinned
    downloaded(COMMIT)
    assert sources.weights_id(branch) == f"hub:some-owner/some-model@{COMMIT}" and sources.of(branch).pinned
    downloaded(OTHER)
    assert sources.weights_id(branch).endswith(OTHER), "other weights, other records"
    assert sources.weights_id(branch, downloaded=False) == "hub:some-owner/some-model@main"
    for given in (COMMIT, OTHER):
        exact = replace(SOURCE, revision=given)
        assert sources.weights_id(exact).endswith(given) and sources.of(exact).pinned


def test_a_name_that_is_no_hub_id_is_left_to_loading():
    assert sources.weights_id(ModelSource("hub", "no/such/id")) == "hub:no/such/id@main"


def test_runs_that_were_described_before_the_download_are_kept_under_the_commit(downloaded, monkeypatch):
    """Else the next start would not find their records."""
    profile = replace(profiles.load("tiny"), model=replace(SOURCE, revision="main"))
    run = experiment.describe(profile, n_attack=0)
    assert run.weights.endswith("@main")
    monkeypatch.setattr(estimate, "check", lambda profile, asked: None)
    monkeypatch.setattr(loading, "load", lambda *arguments: downloaded(COMMIT))
    monkeypatch.setattr(chain, "_line", lambda record: "")
    monkeypatch.setattr(chain.records, "sealed", lambda record, said: record)
    monkeypatch.setattr(chain.records, "write", lambda *arguments: None)
    monkeypatch.setattr(
        computing,
        "computed",
        lambda of, *rest: iter((run, {"weights": run.weights, "cost": {}}, []) for (run,) in of),
    )
    (record,) = experiment.execute([run], profile)
    assert record["weights"] == f"hub:some-owner/some-model@{COMMIT}"
    later = experiment.describe(profile, n_attack=0)
    assert later == lookup.pinned([run], profile)[0] != run
