#!/usr/bin/env bash
# What `make torture` needs of the system: xfs and ext4 to lose power on, strace to fail calls with.
# Where it cannot be installed those tests are skipped, each with its reason.
set -euo pipefail
if command -v mkfs.xfs >/dev/null && command -v mkfs.ext4 >/dev/null && command -v strace >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo 'mkfs.xfs, mkfs.ext4 or strace is missing: the tests that need it are skipped.' >&2
    exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends xfsprogs e2fsprogs strace
