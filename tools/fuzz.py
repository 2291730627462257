"""Fuzz the readers guided by coverage: `make fuzz-guided` (which installs atheris in a folder of its own).

    python tools/fuzz.py [SECONDS]

Each property test of tests/test_readers.py runs for so long (60 by default) in a process of its own. atheris makes the
bytes from which hypothesis draws, and keeps those that reach new code. A failure ends with hypothesis' report and the
bytes, in a file that is named.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from inspect import signature
from pathlib import Path

from hypothesis import given

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), *(str(ROOT / folder) for folder in ("tests", "tests/core", "tests/study"))]


def tests() -> dict[str, object]:
    """The property tests by name; not those that make their files in fixtures of their own."""
    import test_readers

    found = {name: made for name, made in vars(test_readers).items() if hasattr(made, "hypothesis")}
    return {name: test for name, test in found.items() if fixtures(test) <= {"folder"}}


def fixtures(test) -> set[str]:
    """What a property test takes that hypothesis does not draw."""
    return {*signature(test.hypothesis.inner_test).parameters} - {*test.hypothesis._given_kwargs}


def by_bytes(test, folder: Path) -> Callable[[bytes], object]:
    """The test as a function of the bytes that hypothesis draws from. folder: in place of pytest's fixture."""
    from fuzzing import fuzzed

    inner = test.hypothesis.inner_test
    fixed = {name: folder for name in fixtures(test)}

    def bound(**drawn):
        inner(**fixed, **drawn)

    return fuzzed(given(**test.hypothesis._given_kwargs)(bound)).hypothesis.fuzz_one_input


def guided(name: str, seconds: str, folder: Path) -> None:
    """Never comes back: libFuzzer ends the process, and cleans nothing up."""
    import atheris

    with atheris.instrument_imports(include=["bsa_core", "bsa_study"]):
        test = tests()[name]
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-len_control=0", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([name, *options], by_bytes(test, folder))
    atheris.Fuzz()


def main(seconds: str = "60", name: str = "", folder: str = "") -> None:
    if name:
        guided(name, seconds, Path(folder))
    failed = []
    for each in tests():
        print(f"{each}: {seconds} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="bsa-fuzz-") as folder:
            if subprocess.run([sys.executable, __file__, seconds, each, folder]).returncode:
                failed.append(each)
    sys.exit(f"failed: {', '.join(failed)}" if failed else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
