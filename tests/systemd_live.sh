#!/usr/bin/env bash
# The unit under a real systemd, in namespaces of its own: sandbox, hand-over, watchdog, stop.
# Needs root, a kernel with cgroup v2, and the packages systemd, libcap2-bin, iproute2 and curl. Nothing of the machine is
# changed: /etc, /usr/bin and /var are overlaid.
# Usage: tests/systemd_live.sh [BINARY]. Ends with a line `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
tree=$PWD

# === The machine: becomes systemd. ===

if [ "${1-}" = --machine ]; then
  set -e
  work=$2
  mount --make-rprivate /
  ip link set lo up
  mount -t tmpfs tmpfs /run
  umount -l /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount --bind /proc/sys /proc/sys
  mount -o remount,bind,ro /proc/sys
  for folder in /etc /usr/bin /var; do
    mkdir -p "/run/layers$folder/upper" "/run/layers$folder/work"
    mount -t overlay overlay \
      -o "lowerdir=$folder,upperdir=/run/layers$folder/upper,workdir=/run/layers$folder/work" "$folder"
  done
  hostname forebay-test
  install -m 0755 "$work/forebay" /usr/bin/forebay
  units=/run/systemd/system
  mkdir -p $units/forebay.service.d
  for target in probe sysinit basic shutdown network-online nss-lookup multi-user umount final exit; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$units/$target.target"
  done
  cp "$tree/systemd/forebay.service" $units/
  printf '[Service]\nStandardError=append:/run/forebay.log\nWatchdogSec=6\n' >$units/forebay.service.d/test.conf
  systemd-sysusers "$tree/systemd/forebay.sysusers"
  cat >"$work/forebay.yaml" <<YAML
providers: [{ name: mock, kind: mock, mock: { interval: 250ms, tokens: 24 } }]
models: [{ name: mock, targets: [{ provider: mock }] }]
YAML
  install -D -m 0640 -g forebay "$work/forebay.yaml" /etc/forebay/forebay.yaml
  systemd-tmpfiles --create "$tree/systemd/forebay.tmpfiles"
  export container=forebay-test SYSTEMD_UNIT_PATH=$units
  exec capsh --drop=cap_sys_time,cap_sys_boot,cap_sys_module,cap_sys_rawio -- -c \
    'exec /lib/systemd/systemd --system --unit=probe.target --log-target=console --show-status=no'
fi

# === What is asked of it. ===

if [ "${1-}" = --inside ]; then
  file=/etc/forebay/forebay.yaml
  url=http://127.0.0.1:8080
  passed=0 failed=0
  is() { # a claim, what was found, what was expected
    if [ "$2" = "$3" ]; then echo "ok: $1"; passed=$((passed + 1)); return; fi
    echo "FAILED: $1: '$2', not '$3'"; failed=$((failed + 1))
  }
  of() { systemctl show -p "$1" --value forebay; }
  serves() { curl -sf -o /dev/null --max-time 2 "$url/health/ready"; }
  within() { # seconds, and a command that must succeed by then
    local end=$((SECONDS + $1))
    until "${@:2}"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
  }
  stream() { # begins one into a file, and waits for its first event
    curl -sN "$url/v1/chat/completions" >"$1" \
      -d '{"model":"mock","stream":true,"messages":[{"role":"user","content":"hi"}]}' &
    within 10 grep -q data: "$1"
  }
  whole() { grep -c '^data: \[DONE\]' "$1"; }
  fresh() { systemctl stop forebay; systemctl reset-failed forebay 2>/dev/null; systemctl start forebay; }

  systemctl start forebay
  is "a start returns when it serves" "$(serves && of ActiveState)" active
  is "it has no capabilities" "$(awk '/^CapEff/ { print $2 }' "/proc/$(of MainPID)/status")" 0000000000000000
  is "system calls are filtered" "$(awk '/^Seccomp:/ { print $2 }' "/proc/$(of MainPID)/status")" 2

  old=$(of MainPID)
  stream /run/one
  (while [ ! -e /run/enough ]; do serves || echo refused; done) >/run/refused &
  asking=$!
  is "a reload succeeds" "$(systemctl reload forebay && echo yes)" yes
  new=$(of MainPID)
  is "the main process is another one" "$([ "$new" != "$old" ] && [ -d "/proc/$old" ] && echo yes)" yes
  is "the old one ends with its stream" "$(within 60 test ! -d "/proc/$old" && whole /run/one)" 1
  touch /run/enough; wait $asking
  is "no request was refused" "$(wc -l </run/refused)" 0
  # The main process is not one that systemd has started.
  is "the service outlives the old process" "$(of ActiveState) $(of NRestarts)" "active 0"

  cp $file /run/good; echo 'nonsense: 1' >>$file
  is "a reload with a wrong file fails" "$(systemctl reload forebay 2>/dev/null || echo fails)" fails
  is "and the old process serves on" "$(serves && of MainPID)" "$new"
  systemctl restart forebay 2>/dev/null
  is "a start with a wrong file stays down" "$(of ActiveState) $(of ExecMainStatus)" "failed 2"
  cp /run/good $file

  fresh
  hung=$(of MainPID)
  kill -STOP "$hung"
  is "a process that hangs is replaced" "$(within 20 test ! -d "/proc/$hung" && within 20 serves && of NRestarts)" 1

  fresh
  old=$(of MainPID)
  stream /run/two
  systemctl reload forebay
  kill -KILL "$(of MainPID)"
  is "a new process that fails while the old one drains is replaced" \
    "$(within 20 serves && [ "$(of MainPID)" != "$old" ] && of ActiveState)" active

  fresh
  stream /run/three
  systemctl reload forebay
  stream /run/four
  systemctl stop forebay
  is "a stop lets both processes drain" "$(whole /run/three) $(whole /run/four) $(of Result)" "1 1 success"

  printf '[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nPrivateUsers=no\n' \
    >/run/systemd/system/forebay.service.d/port.conf
  echo 'listen: [{ address: "127.0.0.1:443" }]' >>$file
  systemctl daemon-reload
  url=http://127.0.0.1:443
  fresh
  is "with the drop-in it has port 443" "$(serves && systemctl reload forebay && serves && of ActiveState)" active

  systemctl stop forebay
  [ "$failed" -eq 0 ] || { systemctl status forebay --no-pager; cat /run/forebay.log; }
  echo "$passed passed, $failed failed, 0 skipped"
  [ "$failed" -eq 0 ]
  exit
fi

# === Outside: starts the machine. ===

[ "$(id -u)" -eq 0 ] || { echo "needs root" >&2; exit 1; }
for tool in systemd-analyze capsh ip curl unshare nsenter; do
  command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
binary=${1-}
if [ -z "$binary" ]; then
  cargo build --locked || exit
  binary=${CARGO_TARGET_DIR:-target}/debug/forebay
fi
work=$(mktemp -d)
cp "$binary" "$work/forebay"
unified=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
[ -n "$unified" ] || { echo "no cgroup v2 here" >&2; exit 1; }
group=$unified/forebay-test-$$
mkdir "$group" || exit
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec unshare --pid --fork --kill-child --mount-proc --mount --cgroup --ipc --uts --net \
    "$0" --machine "$work"
) >"$work/console" 2>&1 &
machine=$!
clean_up() {
  kill -KILL $machine; wait $machine
  find "$group" -depth -type d -exec rmdir {} \; ; rm -rf "$work"
}
trap 'clean_up 2>/dev/null' EXIT
first() { pgrep -P $machine systemd; }
inside() { nsenter -t "$(first)" -m -p -C -i -u -n "$@"; }
for _ in $(seq 100); do
  [ -n "$(first)" ] && inside systemctl is-active -q probe.target 2>/dev/null && break
  sleep 0.1
done
inside systemctl is-active -q probe.target || { cat "$work/console"; echo "no systemd came up" >&2; exit 1; }
inside "$tree/tests/systemd_live.sh" --inside
