#!/usr/bin/env bash
# docs/report.png: the report of the demo's run as Chromium shows it. Needs `make demo` and Chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_browser.sh
[ -d runs/demo/killed ] || { echo 'runs/demo/killed is missing: run make demo first' >&2; exit 1; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
# From inside, so that the picture shows no path of this machine.
python=$PWD/.venv/bin/python
(cd runs/demo && "$python" -m smartcash_format report killed -o "$made/report.html")
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
    --window-size=1200,1560 --screenshot="$made/report.png" "file://$made/report.html" 2>/dev/null
mv "$made/report.png" docs/report.png
echo "docs/report.png: $(stat -c %s docs/report.png) bytes"
