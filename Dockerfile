# docker build --target cpu -t animate-anyone .          what runs everywhere; the default
# docker build --target cuda -t animate-anyone:cuda .    for NVIDIA's GPUs, with the NVIDIA Container Toolkit on the host
# docker run --rm -v "$PWD:/work" animate-anyone animate character.png --driving dance.mp4 -o out.mp4

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir "build==1.6.1" && python -m build --wheel --outdir /dist

FROM python:3.11-slim-bookworm AS base
# What MediaPipe's OpenCV opens, though nothing is shown.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 animator \
    && mkdir /work /weights \
    && chown 10001 /work /weights
COPY constraints.txt /constraints.txt
ENV ANIMATE_ANYONE_HOME=/weights \
    PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["animate-anyone"]
CMD ["--help"]

FROM base AS cuda
# PyTorch as its wheels for Linux are: with CUDA's libraries.
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    for file in /dist/*.whl; do pip install --no-cache-dir -c /constraints.txt "${file}[pose]" || exit 1; done
USER 10001

FROM base AS cpu
# An index of PyTorch's wheels without CUDA's libraries makes the image smaller: --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=""
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir -c /constraints.txt torch ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    && for file in /dist/*.whl; do pip install --no-cache-dir -c /constraints.txt "${file}[pose]" || exit 1; done
USER 10001
