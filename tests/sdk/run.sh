#!/usr/bin/env bash
# The official SDKs against Forebay: `openai` over its mock, and all five over a scripted provider in the
# dialects of all five. And: Forebay and Python read the same JSON.
#
#   tests/sdk/run.sh [pytest options]
#
# FOREBAY_BIN   the binary (target/debug/forebay)
# FOREBAY_VENV  the virtual environment, made when missing (target/sdk-venv)
# DIRECT=1      leave the gateway out: is the mock itself what the SDK expects?
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${FOREBAY_BIN:-$root/target/debug/forebay}
venv=${FOREBAY_VENV:-$root/target/sdk-venv}
work=$(mktemp -d)
processes=()

cleanup() {
    status=$?
    trap - EXIT
    for pid in "${processes[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    if [ $status -ne 0 ]; then tail -n 40 "$work"/*.log 2>/dev/null || true; fi
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

[ -x "$bin" ] || { echo "no binary at $bin: cargo build, or set FOREBAY_BIN" >&2; exit 2; }

# Debian splits what makes environments off from python3.
if ! python3 -c 'import ensurepip' 2>/dev/null || ! command -v curl >/dev/null; then
    command -v apt-get >/dev/null || { echo "python3 with venv, and curl, are needed" >&2; exit 2; }
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3-venv curl ca-certificates >/dev/null
fi

# The mark is written last: a half-made environment is made again.
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

# All three are held at the same time, so that they differ.
read -r gateway mock broken < <("$venv/bin/python" - <<'PYTHON'
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(server.getsockname()[1] for server in held))
PYTHON
)

# start NAME HEALTH_URL COMMAND...: runs it in the background, and returns when it answers.
start() {
    local name=$1 url=$2
    shift 2
    "$@" >"$work/$name.log" 2>&1 &
    local pid=$! deadline=$((SECONDS + 30))
    processes+=("$pid")
    # So that the shell does not report how it ended.
    disown "$pid"
    until curl --silent --fail --max-time 2 --output /dev/null "$url"; do
        kill -0 "$pid" 2>/dev/null || { echo "$name has ended" >&2; return 1; }
        [ $SECONDS -lt $deadline ] || { echo "$name is not ready after 30 s" >&2; return 1; }
        sleep 0.1
    done
}

start mock "http://127.0.0.1:$mock/health" "$bin" mock -p "$mock"
export FOREBAY_BASE_URL="http://127.0.0.1:$mock/v1" FOREBAY_GATEWAY=0 FOREBAY_BIN="$bin"

if [ -z "${DIRECT:-}" ]; then
    start broken "http://127.0.0.1:$broken/health" "$bin" mock -p "$broken" --fail 500
    cat >"$work/forebay.yaml" <<YAML
version: 1
threads: 2
listen:
  - address: 127.0.0.1:$gateway
providers:
  - name: mock
    kind: openai_compatible
    base_url: http://127.0.0.1:$mock/v1
    api_keys: [sk-upstream]
  - name: broken
    kind: openai_compatible
    base_url: http://127.0.0.1:$broken/v1
    api_keys: [sk-upstream]
default_provider: mock
models:
  - name: mock
    targets: [{ provider: mock }]
  - name: mock-small
    targets: [{ provider: mock, model: mock }]
  - name: broken
    targets: [{ provider: broken, model: mock }]
keys:
  - name: all
    key: sk-sdk-test-everything
  - name: narrow
    key: sk-sdk-test-small-model
    allowed_models: [mock-small]
YAML
    ready="http://127.0.0.1:$gateway/health/ready"
    start gateway "$ready" "$bin" run -c "$work/forebay.yaml"
    export FOREBAY_BASE_URL="http://127.0.0.1:$gateway/v1" FOREBAY_GATEWAY=1
fi

# The environment of the one who runs this must not send the SDK elsewhere.
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
unset OPENAI_API_KEY OPENAI_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID
unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL GEMINI_API_KEY GOOGLE_API_KEY
unset GOOGLE_GENAI_USE_VERTEXAI GOOGLE_GEMINI_BASE_URL AWS_PROFILE AWS_ENDPOINT_URL AWS_CA_BUNDLE
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest -p no:cacheprovider -q "$here" "$@"
