#!/usr/bin/env bash
# What the tests need beside Python: real MCP servers and the TypeScript client from npm, a browser for the console.
# Safe to run again: nothing is installed twice.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NODE_DIR=.cache/node
PACKAGES=(
    @modelcontextprotocol/server-everything@2026.8.31
    @modelcontextprotocol/server-filesystem@2026.8.31
    @modelcontextprotocol/server-memory@2026.8.31
    @modelcontextprotocol/sdk@1.32.2
    @modelcontextprotocol/client@2.4.0
)

# apt_install COMMAND PACKAGE...: the packages, unless the command is there.
apt_install() {
    local command=$1
    shift
    if command -v "$command" >/dev/null; then
        return
    fi
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "tests/setup.sh: $command is missing and cannot be installed here; install it (Debian: $*)" >&2
        exit 1
    fi
    echo "installing $* ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

apt_install git git
apt_install npm nodejs npm
apt_install chromium chromium

# The clients want Node 20; a distribution's own may be older.
if ! node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'; then
    PACKAGES+=(node@24)
fi

stamp=$NODE_DIR/installed
if [[ ! -f $stamp || $(<"$stamp") != "${PACKAGES[*]}" ]]; then
    echo "installing ${#PACKAGES[@]} npm packages into $NODE_DIR ..."
    mkdir -p "$NODE_DIR"
    [[ -f $NODE_DIR/package.json ]] || echo '{ "private": true }' >"$NODE_DIR/package.json"
    npm install --prefix "$NODE_DIR" --no-audit --no-fund --loglevel error "${PACKAGES[@]}"
    echo "${PACKAGES[*]}" >"$stamp"
fi
