# The pipeline, which trains, compiles and measures; amd64. Run it with the checkout as /work:
#   docker build -f deploy/pipeline.Dockerfile --build-arg PIP_EXTRA_INDEX_URL=ADDRESS -t edge-vision-pipeline .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" edge-vision-pipeline
# ADDRESS is PyTorch's index of CPU wheels; --target cuda takes the usual wheels, which bring CUDA (run it with --gpus all).
FROM debian:bookworm-slim AS packages
ARG PIP_EXTRA_INDEX_URL
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make openssh-client python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/pipeline \
    && /opt/pipeline/bin/pip install --no-cache-dir --requirement /tmp/requirements.txt
ENV PATH=/opt/pipeline/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp
WORKDIR /work
CMD ["dvc", "repro"]

FROM packages AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001

FROM packages AS cpu
RUN python -c "import sys, torch; sys.exit(torch.version.cuda and 'torch brought CUDA: give PIP_EXTRA_INDEX_URL')"
USER 10001
