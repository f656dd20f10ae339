#!/usr/bin/env bash
# Forebay beside vLLM's and SGLang's own routers: the same stand-ins for servers, the same traffic, one after the other.
#
#   benches/routers/run.sh [ROUTER ...]
#
# ROUTER       prefix_affinity, consistent_hash, least_requests, round_robin (Forebay's policies), vllm, vllm_round_robin,
#              sglang, sglang_round_robin (theirs; without a policy named it is `cache_aware`). All that matter when absent.
# FOREBAY_BIN  the binary (target/release/forebay). Service times are the servers' timers: a debug build shows the same.
# VENV         where the routers are installed from PyPI, when they are not there (/tmp/forebay-routers)
# TRAFFIC      chats or hot     RATE  new chats a second (8: near saturation)     SECONDS_EACH  seconds for each (120)
# SERVERS      how many (4)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${FOREBAY_BIN:-$root/target/release/forebay}
venv=${VENV:-/tmp/forebay-routers}
traffic=${TRAFFIC:-chats} rate=${RATE:-8} seconds=${SECONDS_EACH:-120} servers=${SERVERS:-4}
[ $# -gt 0 ] || set -- prefix_affinity vllm sglang consistent_hash round_robin
run=$(mktemp -d)
router_pid="" servers_pid=""

end() {
    [ -z "$1" ] || { kill "$1" 2>/dev/null && wait "$1" 2>/dev/null; } || true
}
cleanup() {
    status=$?
    trap - EXIT
    end "$router_pid"
    end "$servers_pid"
    if [ $status -ne 0 ]; then tail -n 20 "$run"/*.log >&2 || true; fi
    rm -rf "$run"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

[ -x "$bin" ] || { echo "no binary at $bin: cargo build --release, or set FOREBAY_BIN" >&2; exit 2; }
if [ ! -x "$venv/bin/vllm-router" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
fi

read -r -a ports < <("$venv/bin/python" - "$((servers + 2))" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
)
port=${ports[0]} extra=${ports[1]} backends=("${ports[@]:2}")
urls=() endpoints=""
for backend in "${backends[@]}"; do
    urls+=("http://127.0.0.1:$backend")
    endpoints="$endpoints{ url: \"http://127.0.0.1:$backend\" }, "
done

until_up() { # until_up URL PID
    local deadline=$((SECONDS + 60))
    until curl --silent --fail --max-time 2 --output /dev/null "$1"; do
        kill -0 "$2" 2>/dev/null || { echo "it has ended" >&2; return 1; }
        [ $SECONDS -lt $deadline ] || { echo "nobody at $1" >&2; return 1; }
        sleep 0.2
    done
}

forebay() { # forebay POLICY
    cat >"$run/forebay.yaml" <<YAML
threads: 2
listen: [{ address: "127.0.0.1:$port" }]
providers:
  - { name: pool, kind: vllm, endpoints: [$endpoints], load_balancing: $1, api_keys: [sk-pool] }
models:
  - { name: m, targets: [{ provider: pool }] }
anonymous: true
limits: { connections_per_ip: 10000 }
YAML
    RUST_LOG=warn "$bin" run -c "$run/forebay.yaml" >"$run/router.log" 2>&1 &
    router_pid=$!
    until_up "http://127.0.0.1:$port/health/ready" $router_pid
}

other() { # other vllm|sglang POLICY
    local program=("$venv/bin/vllm-router")
    [ "$1" = vllm ] || program=("$venv/bin/python" -m sglang_router.launch_router)
    "${program[@]}" --host 127.0.0.1 --port "$port" --worker-urls "${urls[@]}" --policy "$2" \
        --prometheus-port "$extra" >"$run/router.log" 2>&1 &
    router_pid=$!
    until_up "http://127.0.0.1:$port/health" $router_pid
    until_up "http://127.0.0.1:$port/v1/models" $router_pid
}

echo "$servers servers, $traffic, $rate new a second, $seconds s each; $("$bin" --version)"
"$venv/bin/pip" list 2>/dev/null | grep -E '^(vllm|sglang)-router'
printf '%-22s%10s%8s%12s%12s%11s%12s%10s\n' router requests failed "mean TTFT" "p99 TTFT" "hit share" "max / mean" "CPU s"
for router in "$@"; do
    # Each finds empty caches.
    "$venv/bin/python" "$here/servers.py" "${backends[@]}" >"$run/servers.log" 2>&1 &
    servers_pid=$!
    until_up "${urls[-1]}/health" $servers_pid
    header=()
    case $router in
    vllm | sglang) other "$router" cache_aware ;;
    vllm_* | sglang_*) other "${router%%_*}" "${router#*_}" ;;
    consistent_hash) header=(--header x-session-id); forebay "$router" ;;
    *) forebay "$router" ;;
    esac
    "$venv/bin/python" "$here/load.py" --url "http://127.0.0.1:$port" --name "$router" --traffic "$traffic" --rate "$rate" \
        --seconds "$seconds" --servers "$servers" "${header[@]}" >"$run/found.json"
    cpu=$(awk '{ print ($14 + $15) / 100 }' /proc/$router_pid/stat)
    "$venv/bin/python" - "$run/found.json" "$cpu" <<'PYTHON'
import json, sys
found = json.load(open(sys.argv[1]))
print("{name:<22}{requests:>10}{failed:>8}{mean_ms:>9.0f} ms{p99_ms:>9.0f} ms{hit_share:>11.3f}{max_to_mean:>12.2f}".format(**found) + f"{sys.argv[2]:>10}")
PYTHON
    end "$router_pid"
    end "$servers_pid"
    router_pid="" servers_pid=""
done
