# The book in a container. From a clone:
#     docker build -t bsa-book .                            with PyTorch for CPUs
#     docker build -t bsa-book --build-arg INDEX= .         with the build that PyPI has, for CUDA (several GB)
#     docker run --name bsa bsa-book                        make book
#     docker cp bsa:/bsa-book/_build/html .                 its pages
# Any command of the project can be given: docker run --rm --gpus all bsa-book make quick
FROM python:3.11-slim-bookworm
ARG INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home reader && mkdir /bsa-book && chown reader /bsa-book
USER reader
WORKDIR /bsa-book
COPY --chown=reader . .
RUN PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL=$INDEX tools/setup.sh .venv smollm2-135m
CMD ["make", "book"]
