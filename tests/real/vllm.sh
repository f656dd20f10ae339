#!/usr/bin/env bash
# One real vLLM server on 127.0.0.1, in a process group of its own.
#
#   tests/real/vllm.sh start PORT NAME [options of `vllm serve`]   in the background
#   tests/real/vllm.sh wait PORT                                   until it answers
#   tests/real/vllm.sh kill PORT                                   SIGKILL, the whole group at once
#   tests/real/vllm.sh stop PORT                                   SIGTERM, and wait
#
# VENV   where vLLM is installed (/opt/vllm)
# MODEL  the model's directory
# RUN    where the process ids and the logs are kept
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-/opt/vllm}
run=${RUN:?}
command=${1:?} port=${2:?}
shift 2

case $command in
start)
    name=$1
    shift
    # Bytecode is kept: it halves the time of every later start.
    unset PYTHONDONTWRITEBYTECODE
    export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_HOST_IP=127.0.0.1
    # Pinning threads to cores needs more of the machine than a test may take.
    export VLLM_CPU_OMP_THREADS_BIND=nobind
    setsid "$venv/bin/python" "$here/serve.py" "${MODEL:?}" --served-model-name "$name" --host 127.0.0.1 \
        --port "$port" --dtype float32 --max-model-len 2048 --max-num-seqs 32 --enforce-eager \
        --kv-cache-memory-bytes 33554432 "$@" >"$run/vllm-$port.log" 2>&1 </dev/null &
    echo $! >"$run/vllm-$port.pid"
    ;;
wait)
    deadline=$((SECONDS + 300))
    until curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/health"; do
        if ! kill -0 "$(cat "$run/vllm-$port.pid")" 2>/dev/null; then
            tail -n 20 "$run/vllm-$port.log" >&2
            exit 1
        fi
        [ $SECONDS -lt $deadline ] || { echo "vLLM on port $port is not ready after 300 s" >&2; exit 1; }
        sleep 0.5
    done
    ;;
kill)
    kill -KILL -- "-$(cat "$run/vllm-$port.pid")"
    ;;
stop)
    pid=$(cat "$run/vllm-$port.pid")
    kill -TERM -- "-$pid" 2>/dev/null || exit 0
    for _ in $(seq 100); do
        kill -0 -- "-$pid" 2>/dev/null || exit 0
        sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    ;;
*)
    echo "start, wait, kill or stop" >&2
    exit 2
    ;;
esac
