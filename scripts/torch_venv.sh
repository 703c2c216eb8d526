#!/usr/bin/env bash
# Makes .venv-torch: all that .venv has, and PyTorch beside it, which development does without.
set -euo pipefail
cd "$(dirname "$0")/.."
new=.venv-torch

[ "$new/.ready" -nt requirements/torch.txt ] && exit
packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
.venv/bin/python -m venv --clear "$new"
# A line that imports: other .pth files count there, too, such as that of the trainer itself.
echo "import site; site.addsitedir('$(packages .venv)')" >"$(packages "$new")/beside.pth"
echo "Installing PyTorch into $new"
"$new/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
  --progress-bar off --require-hashes --requirement requirements/torch.txt
touch "$new/.ready"
