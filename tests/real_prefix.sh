#!/usr/bin/env bash
# What of multi-turn chats do two real vLLM servers find in their prefix caches, by their own count, beside one alone?
#
#   tests/real_prefix.sh
#
# One server alone, then two with `round_robin`, with `prefix_affinity`, and with `prefix_affinity` that listens to their KV
# events. Passes when `prefix_affinity` finds at least 90 % of the share one server finds alone, with and without events.
#
# FOREBAY_BIN  the binary (target/debug/forebay)
# VENV         vLLM's virtual environment, installed when missing (/opt/vllm)
# MODEL        the model's directory, made when missing (target/real/model)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
real=$root/tests/real
bin=${FOREBAY_BIN:-$root/target/debug/forebay}
export VENV=${VENV:-/opt/vllm} MODEL=${MODEL:-$root/target/real/model}
RUN=$(mktemp -d)
export RUN
key=sk-real-prefix-test
gateway_pid=""

cleanup() {
    status=$?
    trap - EXIT
    [ -z "$gateway_pid" ] || kill -KILL "$gateway_pid" 2>/dev/null || true
    for file in "$RUN"/vllm-*.pid; do
        [ -e "$file" ] || continue
        port=${file##*/vllm-}
        "$real/vllm.sh" stop "${port%.pid}" || true
    done
    if [ $status -ne 0 ]; then tail -n 40 "$RUN/forebay.log" 2>/dev/null || true; fi
    rm -rf "$RUN"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

[ -x "$bin" ] || { echo "no binary at $bin: cargo build, or set FOREBAY_BIN" >&2; exit 2; }
"$real/install.sh" "$VENV"
if [ ! -e "$MODEL/config.json" ]; then
    mkdir -p "$MODEL"
    "$VENV/bin/python" "$real/model.py" "$MODEL"
fi
"$VENV/bin/python" -c 'import importlib.metadata as m; print("vLLM", m.version("vllm"))'

# Each server publishes at its own port plus 1.
read -r gateway one two < <("$VENV/bin/python" - <<'PYTHON'
import socket
def taken(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
held, found = [], []
while len(found) < 3:
    held.append(socket.create_server(("127.0.0.1", 0)))
    port = held[-1].getsockname()[1]
    if port + 1 not in found and port - 1 not in found and not taken(port + 1):
        found.append(port)
print(*found)
PYTHON
)
# An endpoint with a host would be connected to instead.
for port in "$one" "$two"; do
    events="{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:$((port + 1))\"}"
    "$real/vllm.sh" start "$port" tiny --enable-prefix-caching --block-size 32 --kv-events-config "$events"
done
"$real/vllm.sh" wait "$one"
"$real/vllm.sh" wait "$two"

# phase TAG "ENDPOINT ..." POLICY [MORE]: prints what the servers found, and keeps the share in $share.
phase() {
    local tag=$1 endpoints="" servers=() port
    for port in $2; do
        endpoints="$endpoints{ url: \"http://127.0.0.1:$port\" }, "
        servers+=("http://127.0.0.1:$port")
    done
    cat >"$RUN/forebay.yaml" <<YAML
listen: [{ address: "127.0.0.1:$gateway" }]
providers:
  - { name: pool, kind: vllm, endpoints: [$endpoints], load_balancing: $3${4:+, $4} }
models:
  - { name: tiny, targets: [{ provider: pool }] }
keys:
  - { name: test, key: $key }
YAML
    "$bin" run -c "$RUN/forebay.yaml" >"$RUN/forebay.log" 2>&1 &
    gateway_pid=$!
    local deadline=$((SECONDS + 30))
    until curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$gateway/health/ready"; do
        [ $SECONDS -lt $deadline ] || { echo "Forebay is not ready after 30 s" >&2; exit 1; }
        sleep 0.1
    done
    "$VENV/bin/python" "$real/prefix.py" --url "http://127.0.0.1:$gateway" --key "$key" --model tiny --tag "$tag" \
        --servers "${servers[@]}" | tee "$RUN/found"
    share=$(awk 'END { print $1 }' "$RUN/found")
    if [ -n "${4:-}" ]; then
        curl --silent -H "authorization: Bearer $key" "http://127.0.0.1:$gateway/health/detailed" | "$VENV/bin/python" -c '
import json, sys
provider = json.load(sys.stdin)["providers"][0]
told = [replica["told_blocks"] for replica in provider["replicas"]]
matched = [replica["matched_blocks"] for replica in provider["replicas"]]
learned = provider["learned_blocks"]
print(f"the servers told of {told} blocks; {learned} blocks of prompts were learned, and {matched} of these are there")
sys.exit(0 if all(told) and all(matched) else "the servers were not heard, or not understood")'
    fi
    kill "$gateway_pid"
    wait "$gateway_pid" || true
    gateway_pid=""
}

phase one-alone "$one" round_robin
alone=$share
phase two-round-robin "$one $two" round_robin
phase two-prefix-affinity "$one $two" prefix_affinity
affinity=$share
phase two-kv-events "$one $two" prefix_affinity "kv_events: { port_offset: 1 }"
exact=$share
awk -v alone="$alone" -v affinity="$affinity" -v exact="$exact" 'BEGIN {
    printf "of the share of one alone: prefix_affinity %.3f, with KV events %.3f (0.9 is asked for)\n", affinity / alone, exact / alone
    exit !(affinity >= 0.9 * alone && exact >= 0.9 * alone)
}'
