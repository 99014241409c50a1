# facenet-jax from the pinned versions. For a CPU, and for NVIDIA GPUs (the host needs its driver and container toolkit):
#   docker build --tag facenet-jax .
#   docker build --tag facenet-jax:cuda --build-arg EXTRAS=cuda,align,onnx,parquet,index,cluster,heic .
#   docker run --rm --volume "$PWD:/data" --user "$(id -u):$(id -g)" facenet-jax train --config=quickstart --workdir=runs/first
#   docker run --rm --gpus all --volume "$PWD:/data" --user "$(id -u):$(id -g)" facenet-jax:cuda train ...
FROM python:3.11-slim
ARG EXTRAS=align,onnx,parquet,index,cluster,heic
COPY . /facenet-jax
RUN python -m pip install --no-cache-dir --constraint /facenet-jax/constraints.txt "/facenet-jax[$EXTRAS]"
# What is compiled is kept where the user can write, next to the data.
ENV HOME=/tmp XDG_CACHE_HOME=/data/.cache
WORKDIR /data
ENTRYPOINT ["facenet-jax"]
CMD ["--help"]
