#!/usr/bin/env bash
# On a GPU machine: build the CUDA kernels, test them, sanitize small cases, time them.
#
#     benchmarks/gpu.sh [FOLDER]      default: benchmarks/results/gpu
#
# Needs Python with torch, numpy, safetensors, tqdm and pytest, nvcc and g++; no network, cmake or pip. Each step's log
# and results are in FOLDER as soon as it ends, so that what is there stays if it is stopped. It has not run on a GPU yet.
# cuDNN's graphs are timed, too, where nvidia-cudnn-frontend is installed, or its wheel unpacked in build/cudnn:
#     pip download --no-deps --only-binary :all: --python-version 3.12 -d build nvidia-cudnn-frontend
#     unzip -d build/cudnn build/nvidia_cudnn_frontend-*.whl
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results/gpu}")
python=${PYTHON:-python3}
mkdir -p "$out"
seconds() { echo $((540 - SECONDS > 10 ? 540 - SECONDS : 10)); }  # nine minutes in all
step() {  # NAME MOST_SECONDS COMMAND...
  local name=$1 most=$2; shift 2
  [ "$most" -gt "$(seconds)" ] && most=$(seconds)
  timeout "$most" "$@" > "$out/$name.log" 2>&1
  local status=$?
  echo "$name: $([ $status = 0 ] && echo ok || echo "failed ($status), see $out/$name.log") at ${SECONDS} s"
  return $status
}

git rev-parse HEAD > "$out/commit.txt" 2> /dev/null
nvidia-smi -q > "$out/nvidia-smi.txt" 2>&1
build() {
  local suffix includes
  suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  # torch carries pybind11's headers.
  includes=$("$python" -c 'import os, sysconfig, torch; print("-I" + sysconfig.get_path("include"), "-I" + os.path.join(os.path.dirname(torch.__file__), "include"))')
  nvcc -std=c++17 -O3 -arch=native -lineinfo -shared -cudart static -Xcompiler -fPIC,-fvisibility=hidden \
    -Icsrc $includes csrc/cuda/bindings.cpp csrc/cuda/*.cu -o "simgan_fast/_cuda$suffix"
}
export -f build
export python PYTHONPATH=$PWD:$PWD/build/cudnn
step build 240 bash -c build || exit 1
# Without pyproject.toml, which asks for plugins.
step tests 180 "$python" -m pytest -q -c /dev/null --rootdir=. -o pythonpath=tests -p no:cacheprovider tests/test_cuda_ops.py tests/test_graphs.py
for tool in memcheck racecheck; do
  step "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" benchmarks/time_cuda.py --small
done
step timings 240 "$python" benchmarks/time_cuda.py --out "$out/timings.json"
step training 240 "$python" benchmarks/time_cuda.py --training --out "$out/training.json"
tail -n 30 "$out/timings.log"
tail -n 20 "$out/training.log"
