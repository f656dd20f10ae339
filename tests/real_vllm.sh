#!/usr/bin/env bash
# Two real vLLM servers behind one Forebay: does everything get through, and does the death of a server cost a call?
#
#   tests/real_vllm.sh
#
# FOREBAY_BIN  the binary (target/debug/forebay)
# VENV         vLLM's virtual environment, installed when missing (/opt/vllm)
# MODEL        the model's directory, made when missing (target/real/model)
# EMBED=0      leave out the third server, which makes the embeddings
#
# Needs 5 GB of memory (7 GB with the third server), and for the first run 6 GB of disk and PyPI.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
real=$root/tests/real
bin=${FOREBAY_BIN:-$root/target/debug/forebay}
export VENV=${VENV:-/opt/vllm} MODEL=${MODEL:-$root/target/real/model}
RUN=$(mktemp -d)
export RUN
embed=${EMBED:-1}
key=sk-real-vllm-test
# A model of random weights puts white space without end into JSON, when it may.
chat_options="--enable-auto-tool-choice --tool-call-parser hermes --structured-outputs-config {\"backend\":\"xgrammar\",\"disable_any_whitespace\":true}"
passed=0 failed=0 gateway_pid=""

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

say() { printf '\n=== %s\n' "$*"; }

# Prints a command as it could be typed; none here has a single quotation mark in it.
show() {
    local word
    printf '$'
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:=-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    echo
}

# try NAME STATUS TEST CURL_ARGUMENTS...: prints the call and what came back. TEST is Python, with `text` (the body)
# and `data` (the body as JSON, or the events of a stream as a list).
try() {
    local name=$1 status=$2 test=$3 got
    shift 3
    say "$name"
    show curl "$@"
    got=$(curl --silent --show-error --max-time 120 --dump-header "$RUN/head" --output "$RUN/body" \
        --write-out '%{http_code}' "$@") || true
    grep -i -E '^(HTTP|content-type|x-forebay|x-request-id)' "$RUN/head" || true
    head -c 1500 "$RUN/body"
    echo
    if [ "$got" = "$status" ] && "$VENV/bin/python" - "$RUN/body" "$test" <<'PYTHON'
import json, sys
text = open(sys.argv[1], encoding="utf-8").read()
if text.startswith(("data: ", ":")):
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    data = [json.loads(line) for line in lines if line != "[DONE]"]
else:
    data = json.loads(text)
sys.exit(0 if eval(sys.argv[2]) else f"not so: {sys.argv[2]}")
PYTHON
    then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name (status $got, wanted $status)"
    fi
}

[ -x "$bin" ] || { echo "no binary at $bin: cargo build, or set FOREBAY_BIN" >&2; exit 2; }
say "install vLLM in $VENV, if it is missing"
"$real/install.sh" "$VENV"
if [ ! -e "$MODEL/config.json" ]; then
    mkdir -p "$MODEL"
    "$VENV/bin/python" "$real/model.py" "$MODEL"
fi
"$VENV/bin/python" -c 'import importlib.metadata as m; print("vLLM", m.version("vllm"))'

read -r gateway one two three < <("$VENV/bin/python" - <<'PYTHON'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(server.getsockname()[1] for server in held))
PYTHON
)

say "start the servers: chat on ports $one and $two, embeddings on $three"
# shellcheck disable=SC2086  # the options are words
{
    "$real/vllm.sh" start "$one" tiny $chat_options
    "$real/vllm.sh" start "$two" tiny $chat_options
}
if [ "$embed" = 1 ]; then "$real/vllm.sh" start "$three" tiny-embed --runner pooling; fi
"$real/vllm.sh" wait "$one"
"$real/vllm.sh" wait "$two"
if [ "$embed" = 1 ]; then "$real/vllm.sh" wait "$three"; fi

cat >"$RUN/forebay.yaml" <<YAML
version: 1
threads: 2
listen:
  - address: 127.0.0.1:$gateway
providers:
  - name: pool
    kind: vllm
    endpoints:
      - { url: "http://127.0.0.1:$one" }
      - { url: "http://127.0.0.1:$two" }
    health_check: { type: http, path: /health, interval: 1s, timeout: 2s, healthy_after: 1, unhealthy_after: 2 }
  - name: embedder
    kind: vllm
    endpoints:
      - { url: "http://127.0.0.1:$three" }
models:
  - name: tiny
    targets: [{ provider: pool }]
  - name: tiny-embed
    targets: [{ provider: embedder }]
keys:
  - name: test
    key: $key
YAML
say "start Forebay on port $gateway"
cat "$RUN/forebay.yaml"
"$bin" run -c "$RUN/forebay.yaml" >"$RUN/forebay.log" 2>&1 &
gateway_pid=$!
disown "$gateway_pid"
url=http://127.0.0.1:$gateway
deadline=$((SECONDS + 30))
until curl --silent --fail --max-time 2 --output /dev/null "$url/health/ready"; do
    kill -0 "$gateway_pid" 2>/dev/null || { echo "Forebay has ended" >&2; exit 1; }
    [ $SECONDS -lt $deadline ] || { echo "Forebay is not ready after 30 s" >&2; exit 1; }
    sleep 0.1
done

post=(-H "authorization: Bearer $key" -H "content-type: application/json")
hello='"messages":[{"role":"user","content":"What is a forebay?"}]'
tools='"tool_choice":{"type":"function","function":{"name":"get_weather"}},"tools":[{"type":"function","function":{"name":"get_weather","strict":true,"parameters":{"type":"object","properties":{"city":{"type":"string","enum":["Paris","Rome"]}},"required":["city"],"additionalProperties":false}}}]'

try "a chat" 200 'data["choices"][0]["finish_reason"] and data["usage"]["completion_tokens"] > 0' \
    "${post[@]}" -d "{\"model\":\"tiny\",\"max_tokens\":16,$hello}" "$url/v1/chat/completions"

try "a stream with usage" 200 \
    'text.rstrip().endswith("data: [DONE]") and data[-1]["choices"] == [] and data[-1]["usage"]["completion_tokens"] == 8' \
    "${post[@]}" -N "$url/v1/chat/completions" \
    -d "{\"model\":\"tiny\",\"max_tokens\":8,\"ignore_eos\":true,\"stream\":true,\"stream_options\":{\"include_usage\":true},$hello}"

try "a stream without usage, since nobody asked for it" 200 \
    'text.rstrip().endswith("data: [DONE]") and all(event["choices"] and not event.get("usage") for event in data)' \
    "${post[@]}" -N -d "{\"model\":\"tiny\",\"max_tokens\":8,\"stream\":true,$hello}" "$url/v1/chat/completions"

try "a tool call" 200 \
    'json.loads(data["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])["city"] in ("Paris", "Rome")' \
    "${post[@]}" -d "{\"model\":\"tiny\",\"max_tokens\":100,$tools,$hello}" "$url/v1/chat/completions"

try "a streamed tool call" 200 \
    'json.loads("".join(call["function"].get("arguments") or "" for event in data for choice in event["choices"] for call in choice["delta"].get("tool_calls") or []))["city"] in ("Paris", "Rome")' \
    "${post[@]}" -N -d "{\"model\":\"tiny\",\"max_tokens\":100,\"stream\":true,$tools,$hello}" "$url/v1/chat/completions"

if [ "$embed" = 1 ]; then
    try "embeddings" 200 \
        '[item["index"] for item in data["data"]] == [0, 1] and len(data["data"][0]["embedding"]) == 64' \
        "${post[@]}" -d '{"model":"tiny-embed","input":["a dam","a lake"]}' "$url/v1/embeddings"
fi

try "the models" 200 '{"tiny", "tiny-embed"} <= {model["id"] for model in data["data"]}' \
    -H "authorization: Bearer $key" "$url/v1/models"

try "an unknown model" 404 'data["error"]["code"] == "model_not_found"' \
    "${post[@]}" -d "{\"model\":\"no-such-model\",$hello}" "$url/v1/chat/completions"

try "vLLM's own refusal, as it is" 400 'data["error"]["message"]' \
    "${post[@]}" -d "{\"model\":\"tiny\",\"max_tokens\":999999,$hello}" "$url/v1/chat/completions"

say "200 calls and more, while port $one is killed and started again"
load=("$real/load.py" --url "$url" --key "$key" --model tiny --victim "$one" --control "$real/vllm.sh" --options "$chat_options")
show python "${load[@]}"
if "$VENV/bin/python" "${load[@]}"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
fi

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
