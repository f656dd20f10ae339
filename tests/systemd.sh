#!/usr/bin/env bash
# What systemd says of the files in `systemd/`: are they understood, and how much may the service do?
# Needs no running systemd; installs the Debian package when its tools are missing.
# Ends with a line `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() { # what it is, and the command that must succeed without a word
  local said
  if said=$("${@:2}" 2>&1) && [ -z "$said" ]; then
    echo "ok: $1"; passed=$((passed + 1))
  else
    echo "FAILED: $1"; echo "$said"; failed=$((failed + 1))
  fi
}

as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
if ! command -v systemd-analyze >/dev/null; then
  { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends systemd; } >/dev/null
fi
for tool in systemd-analyze systemd-sysusers systemd-tmpfiles; do
  command -v "$tool" >/dev/null && continue
  echo "$tool is missing, and could not be installed"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
done

unit_is_understood() {
  # It wants to see the binary. Of an unknown key it only says so.
  sed "s|/usr/bin/forebay|$(type -P true)|" systemd/forebay.service >"$work/forebay.service"
  systemd-analyze verify --man=no "$work/forebay.service"
}
exposure_is_small() { # at most 2.0 of 10
  local report
  report=$(systemd-analyze security --no-pager --offline=true --threshold=20 systemd/forebay.service) ||
    { echo "$report"; return 1; }
}
stop_outlasts_drain() { # the default of `timeouts.drain` is 120 s
  local stop
  stop=$(sed -n 's/^TimeoutStopSec=//p' systemd/forebay.service)
  [ "$stop" -gt 125 ] || echo "TimeoutStopSec=$stop"
}
user_is_made() {
  mkdir -p "$work/root/etc"
  $as_root systemd-sysusers --root="$work/root" "$PWD/systemd/forebay.sysusers" >/dev/null 2>&1
  grep -q '^forebay:.*:/usr/sbin/nologin$' "$work/root/etc/passwd" || cat "$work/root/etc/passwd"
}
folder_is_readable_to_it_alone() {
  $as_root systemd-tmpfiles --root="$work/root" --create "$PWD/systemd/forebay.tmpfiles"
  local expected found
  expected="750 0 $(sed -n 's/^forebay:[^:]*:\([0-9]*\):.*/\1/p' "$work/root/etc/group")"
  found=$(stat -c '%a %u %g' "$work/root/etc/forebay")
  [ "$found" = "$expected" ] || echo "/etc/forebay: $found, not $expected"
}

check "systemd understands the unit" unit_is_understood
check "the service may do little (exposure at most 2.0)" exposure_is_small
check "a stop waits for the drain" stop_outlasts_drain
check "the user is made" user_is_made
check "the configuration's folder is its alone" folder_is_readable_to_it_alone
[ -z "$as_root" ] || $as_root rm -rf "$work/root"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
