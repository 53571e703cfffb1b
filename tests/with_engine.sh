#!/usr/bin/env bash
# with_engine.sh COMMAND...: run it beside a Docker engine of the tests' own, which ends with it.
# The engine listens on a socket in .cache/docker and nowhere else; it has no bridge and touches no firewall.
# One that already runs there is used and left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly HOME_DIR=$PWD/.cache/docker
export DOCKER_HOST=unix://$HOME_DIR/docker.sock
export PRATIQUE_VM_KERNEL=$PWD/.cache/vm

is_up() { docker version >/dev/null 2>&1; }

ended() {
    kill $engine 2>/dev/null
    wait $engine 2>/dev/null || true
    umount "$HOME_DIR"/run/runtime-*/moby/null-netns 2>/dev/null || true  # gVisor's, and it leaves it
}

if ! is_up; then
    mkdir -p "$HOME_DIR"
    cat >"$HOME_DIR/daemon.json" <<JSON
{
  "hosts": ["$DOCKER_HOST"], "data-root": "$HOME_DIR/data", "exec-root": "$HOME_DIR/run", "pidfile": "$HOME_DIR/pid",
  "bridge": "none", "iptables": false, "ip-forward": false, "live-restore": false,
  "runtimes": { "runsc": { "path": "$PWD/.cache/bin/runsc", "runtimeArgs": ["--platform=systrap", "--network=none", "--oci-seccomp"] } }
}
JSON
    rm -f "$HOME_DIR/pid"
    dockerd --config-file "$HOME_DIR/daemon.json" >"$HOME_DIR/log" 2>&1 &
    engine=$!
    trap ended EXIT
    for _ in $(seq 300); do
        is_up && break
        kill -0 $engine 2>/dev/null || { tail -5 "$HOME_DIR/log" >&2; exit 1; }
        sleep 0.1
    done
    is_up || { echo "with_engine.sh: no engine after 30 s, see $HOME_DIR/log" >&2; exit 1; }
fi
"$@"
