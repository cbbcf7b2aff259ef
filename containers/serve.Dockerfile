# An image that serves models: kd without its training libraries, as a user without rights.
#
#   docker build -f containers/serve.Dockerfile -t kd-serve .
#   docker run --rm -p 127.0.0.1:5000:5000 -v "$PWD/student-int8:/models/student-int8:ro" kd-serve --model /models/student-int8
#
# For a GPU: add --build-arg BASE=… with CUDA 12's libraries, and give `--gpus all` and `--device cuda`.
ARG BASE=python:3.11-slim
FROM ${BASE}
COPY pyproject.toml README.md LICENSE /src/
COPY kd /src/kd
COPY conf /src/conf
COPY recipes /src/recipes
COPY containers /src/containers
# The versions of the lock; of these only those are installed that serving needs. Language detection is the extra `detect`.
RUN grep -E '^[A-Za-z0-9._-]+==' /src/containers/locks/cpu.txt | tr -d '\\ ' >/tmp/versions.txt \
    && pip install --no-cache-dir --constraint /tmp/versions.txt '/src[detect]' \
    && rm -r /src /tmp/versions.txt \
    && useradd --create-home --uid 10001 kd
USER kd
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
ENTRYPOINT ["kd", "serve", "--host", "0.0.0.0", "--port", "5000"]
