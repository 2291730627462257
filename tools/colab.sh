#!/bin/sh
# Set the project up in its own Python 3.11, whatever Python a machine such as Colab has, and run one chapter at its
# smoke setting:
#
#   tools/colab.sh 03_bsa       -> _build/colab/03_bsa.ipynb
#
# What is set up already stays. Every finished run prints a line.
set -eu
cd "$(dirname "$0")/.."

chapter=$1
if [ ! -e "notebooks/$chapter.ipynb" ]; then
    echo "There is no chapter $chapter; the chapters are:" notebooks/*.ipynb >&2
    exit 1
fi
if [ ! -d .venv ]; then
    command -v uv >/dev/null || python3 -m pip install --quiet uv
    uv python find --quiet 3.11 >/dev/null 2>&1 || uv python install 3.11
    PYTHON=$(uv python find 3.11)
    export PYTHON
fi
command -v nvidia-smi >/dev/null || export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
tools/setup.sh .venv
mkdir -p _build/colab
rm -f "_build/colab/$chapter.ipynb"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1 JUPYTER_PREFER_ENV_PATH=1
.venv/bin/python tools/execution.py "notebooks/$chapter.ipynb" "_build/colab/$chapter.log.ipynb" \
    "_build/colab/$chapter.ipynb" '{}'
