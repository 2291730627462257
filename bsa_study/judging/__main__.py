"""Judge the answers of a profile's records, those of hosted models included.

Prints what that takes and asks before anything is sent; goes on where it was interrupted.
"""

import argparse
import sys

from bsa_core import paths, profiles, reading, records, writing
from bsa_core.progress import report
from bsa_study.hosted import served
from bsa_study.hosted.budget import Budget
from bsa_study.judging import judgements

OPTIONS = {  # judge -> the options that are for it
    "endpoint": ("policy", "limit_requests", "limit_tokens", "workers"),
    "classifier": ("template", "harmful", "batch_size"),
    "causal": ("template", "harmful", "harmless", "batch_size"),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bsa_study.judging", description=__doc__)
    made.add_argument("profile", help="a profile in profiles/, or the path of a YAML file")
    made.add_argument("--judge", required=True, choices=OPTIONS, help="who judges")
    made.add_argument("--model", required=True, help="the endpoint's name of the model; a folder or hub id if local")
    made.add_argument("--name", help="the judge's name in file names and tables (default: from --model)")
    made.add_argument("--yes", action="store_true", help="do not ask before requests are sent")
    served = made.add_argument_group("endpoint (OPENAI_BASE_URL and OPENAI_API_KEY in the environment)")
    served.add_argument("--policy", type=paths.given, metavar="FILE", help="text of the usage policy to judge by")
    served.add_argument("--limit-requests", type=int, metavar="N", help="stop before more requests are sent")
    served.add_argument("--limit-tokens", type=int, metavar="N", help="stop before more tokens are used")
    served.add_argument("--workers", type=int, metavar="N", help="requests in flight at once (default: 4)")
    local = made.add_argument_group("classifier and causal (run on this machine)")
    local.add_argument("--template", type=paths.given, metavar="FILE", help="what the model reads: {request}, {answer}")
    told = "the labels (classifier) or words (causal; default: yes unsafe) that count as harmful"
    local.add_argument("--harmful", nargs="+", metavar="WORD", help=told)
    local.add_argument("--harmless", nargs="+", metavar="WORD", help="causal: the other words (default: no safe)")
    local.add_argument("--batch-size", type=int, metavar="N", help="answers judged at once (default: 16)")
    return made


def judge_of(given: argparse.Namespace) -> judgements.Judge:
    """The judge that the arguments describe; ValueError where they do not go together."""
    options = {name for names in OPTIONS.values() for name in names}
    for name in sorted(options - set(OPTIONS[given.judge])):
        if getattr(given, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is not for --judge {given.judge}")
    for name in ("workers", "batch_size"):
        if (value := getattr(given, name)) is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; expected a whole number from 1")
    if given.judge == "endpoint":
        from bsa_study.hosted.endpoint import Endpoint
        from bsa_study.judging.rubric import RubricJudge

        policy = reading.read_text(given.policy, "a usage policy") if given.policy else ""
        budget = Budget(given.limit_requests, given.limit_tokens)
        return RubricJudge(Endpoint(given.model, budget, workers=given.workers or 4), policy)
    from bsa_study.judging.local import CausalJudge, Classifier

    text = {"template": reading.read_text(given.template, "a template")} if given.template else {}
    size = given.batch_size or 16
    if given.judge == "classifier":
        return Classifier(given.model, given.harmful or [], batch_size=size, **text)
    if not text:
        raise ValueError("--judge causal needs --template: a file with the prompt, {request} and {answer} in it")
    words = {name: tuple(getattr(given, name)) for name in ("harmful", "harmless") if getattr(given, name)}
    return CausalJudge(given.model, batch_size=size, **words, **text)


def main(arguments: list[str] | None = None) -> None:
    """Exits with one clear message where something is wrong."""
    given = parser().parse_args(arguments)
    try:
        _judge(given)
    except (ValueError, writing.RecordError) as error:
        sys.exit(f"{error}")


def _judge(given: argparse.Namespace) -> None:
    profile = profiles.load(given.profile)
    name = given.name or judgements.name_of(given.model)
    judge = judge_of(given)
    found = records.load(profile.name) + served.load(profile.name)
    wanted = judgements.pending(found, judge, name)
    n = sum(len(answers) for _, answers in wanted)
    print(f"{profile.name}: {len(found)} records, {len(wanted)} with answers that {name} has not judged; {n} answers")
    if not wanted:
        return
    if given.judge == "endpoint":
        most = judgements.expected(wanted, judge)
        print(f"To {judge.description['host']}: {most.requests} requests, about {most.tokens} tokens at most.")
        print("An estimate, from the length of the texts. Cached answers are not asked again; retries come on top.")
        print(f"Limits: {given.limit_requests or 'no'} requests, {given.limit_tokens or 'no'} tokens.")
        if most.requests and not given.yes and not _agreed():
            raise ValueError("nothing was sent; add --yes to go ahead without being asked")
    for number, judgement in enumerate(judgements.judge_all(wanted, judge, name), start=1):
        report(f"{_line(judgement)} | {number} of {len(wanted)} records")
    print(f"Used: {judge.used.requests} requests, {judge.used.tokens} tokens.")


def _agreed() -> bool:
    try:
        return input("Send them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _line(judgement: dict) -> str:
    parts = []
    for condition, metrics in judgement["metrics"].items():
        mean = "–" if metrics["value"] is None else f"{metrics['value']:.2f}"
        parts.append(f"{condition} {mean}, {metrics['unparsable']} of {metrics['n']} unparsable")
    return f"{judgement['label']}: harmfulness " + "; ".join(parts)


if __name__ == "__main__":
    main()
