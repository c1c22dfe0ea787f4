# One image for all that runs on a cluster: pipeline steps, training workers, Beam workers, the model server.
#   docker build --tag longtail .
#   docker build --tag longtail:cuda --build-arg VARIANT=cuda .
# A build for keeps names the base by digest: --build-arg PYTHON=python:3.10.18-slim-bookworm@sha256:...
ARG PYTHON=python:3.10.18-slim-bookworm

FROM ${PYTHON} AS builder
ARG VARIANT=cpu
ARG UV_VERSION=0.13.8
WORKDIR /build
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --target /opt/uv "uv==${UV_VERSION}" \
    && /opt/uv/bin/uv venv --no-project --python "$(command -v python)" /opt/longtail
ENV VIRTUAL_ENV=/opt/longtail
# The locks come before the code: a change of code alone installs no package again.
COPY requirements.txt requirements-cuda.txt ./
RUN case "${VARIANT}" in \
        cpu) set -- requirements.txt ;; \
        cuda) set -- requirements.txt requirements-cuda.txt ;; \
        *) echo "VARIANT must be cpu or cuda. Received: ${VARIANT}" >&2; exit 1 ;; \
    esac \
    && /opt/uv/bin/uv pip sync --quiet --require-hashes "$@"
COPY pyproject.toml setup.py ./
COPY longtail longtail
COPY benchmarks benchmarks
COPY models models
COPY components components
COPY pipeline pipeline
COPY serving serving
RUN /opt/uv/bin/uv pip install --quiet --no-deps --no-build-isolation .
# Nobody can write there later, so what is not compiled now is compiled at every start. A few files of packages are for
# other Pythons and do not compile.
RUN python -m compileall -q -j 0 /opt/longtail/lib >/dev/null || true

FROM ${PYTHON}
LABEL org.opencontainers.image.title="longtail" \
      org.opencontainers.image.description="Train, validate, ship and serve embedding models from long-tailed images" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 longtail \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin longtail
COPY --from=builder /opt/longtail /opt/longtail
# The two of NVIDIA tell its container runtime what to put beside the CUDA variant; nothing reads them elsewhere.
ENV PATH=/opt/longtail/bin:${PATH} \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONNOUSERSITE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Numeric, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8500 8501
# Most of what runs here ends by itself and listens on nothing; whoever runs the server asks its /readyz.
HEALTHCHECK NONE
ENTRYPOINT ["longtail"]
CMD ["--help"]
