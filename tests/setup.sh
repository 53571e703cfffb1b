#!/usr/bin/env bash
# What the tests need beside Python: real MCP servers and the TypeScript client from npm, a browser for the console,
# a container engine with gVisor, an emulator with a guest kernel, an image registry.
# Safe to run again: nothing is installed twice. What is no package of the system lies in .cache/.
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
readonly RUNSC=gvisor.dev/gvisor/runsc@v0.0.0-20260905035102-160fafc42237
readonly REGISTRY=github.com/distribution/distribution/v3/cmd/registry@v3.1.2

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
    apt_update
    echo "installing $* ..."
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

apt_update() {
    [[ -n ${updated:-} ]] || apt-get update -qq
    updated=yes
}

# go_install NAME MODULE: build a program into .cache/bin, once a version.
go_install() {
    if [[ -x .cache/bin/$1 && -f .cache/bin/$1.version && $(<".cache/bin/$1.version") == "$2" ]]; then
        return
    fi
    echo "building $2 (a minute or two) ..."
    mkdir -p .cache/bin
    GOBIN=$PWD/.cache/bin CGO_ENABLED=0 go install "$2" 2> >(grep -v '^go: downloading' >&2)
    echo "$2" >".cache/bin/$1.version"
}

# guest_kernel: a kernel with 9p and squashfs for virtual machines, unpacked and never installed on this machine.
guest_kernel() {
    if compgen -G ".cache/vm/boot/vmlinuz-*" >/dev/null; then
        return
    fi
    apt_update
    local package
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    echo "unpacking $package for the virtual machines ..."
    rm -rf .cache/vm.new
    mkdir -p .cache/vm.new
    (cd .cache/vm.new && apt-get download -qq "$package" 2>/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
    rm -rf .cache/vm
    mv .cache/vm.new .cache/vm
}

apt_install git git
apt_install npm nodejs npm
apt_install go golang-go
apt_install chromium chromium
apt_install dockerd docker.io
apt_install iptables iptables
apt_install curl curl
apt_install ip iproute2
apt_install qemu-system-x86_64 qemu-system-x86
apt_install busybox busybox-static
apt_install mksquashfs squashfs-tools
apt_install mmdebstrap mmdebstrap
go_install runsc "$RUNSC"
go_install registry "$REGISTRY"
guest_kernel

# The clients want Node 20; a distribution's own may be older.
if ! node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'; then
    PACKAGES+=(node@24)
fi

# The image of the tests: a minute and a half, once.
PYTHONPATH=tests .venv/bin/python -c "from support.images import built_image; built_image()"

stamp=$NODE_DIR/installed
if [[ ! -f $stamp || $(<"$stamp") != "${PACKAGES[*]}" ]]; then
    echo "installing ${#PACKAGES[@]} npm packages into $NODE_DIR ..."
    mkdir -p "$NODE_DIR"
    [[ -f $NODE_DIR/package.json ]] || echo '{ "private": true }' >"$NODE_DIR/package.json"
    npm install --prefix "$NODE_DIR" --no-audit --no-fund --loglevel error "${PACKAGES[@]}"
    echo "${PACKAGES[*]}" >"$stamp"
fi
