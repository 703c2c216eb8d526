#!/usr/bin/env bash
# Builds what the charts are tested with into .tools/: two major versions of helm, kubeconform,
# helm-docs, kustomize, and the schemas of Kubernetes' and others' objects, which come with their Go modules.
set -euo pipefail
cd "$(dirname "$0")/.."

kubernetes=(v1.31.14 v1.32.13 v1.33.13 v1.34.4 v1.35.1)
resources=( # MODULE@VERSION:FOLDER
  sigs.k8s.io/jobset@v0.11.1:config/components/crd/bases
  sigs.k8s.io/kueue@v0.15.2:config/components/crd/bases
  github.com/prometheus-operator/prometheus-operator@v0.85.0:example/prometheus-operator-crd
)

go=$(scripts/go.sh helm)

module() { "$go" mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'; }

scripts/go_build.sh helm helm.sh/helm/v4/cmd/helm@v4.3.1
scripts/go_build.sh helm3 helm.sh/helm/v3/cmd/helm@v3.22.0
scripts/go_build.sh kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
scripts/go_build.sh helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2
scripts/go_build.sh kustomize sigs.k8s.io/kustomize/kustomize/v5@v5.6.0

wanted="$(cksum scripts/kubernetes_schemas.py) ${kubernetes[*]} ${resources[*]}"
[ "$(cat .tools/schemas/made-of 2>/dev/null)" = "$wanted" ] && exit 0
echo "Collecting schemas of Kubernetes objects …"
rm -rf .tools/schemas
for version in "${kubernetes[@]}"; do
  .venv/bin/python scripts/kubernetes_schemas.py api ".tools/schemas/${version%.*}" \
    "$(module "k8s.io/kubernetes@$version")"
done
for name in "${resources[@]}"; do
  .venv/bin/python scripts/kubernetes_schemas.py resources .tools/schemas/resources \
    "$(module "${name%:*}")/${name#*:}"
done
echo "$wanted" >.tools/schemas/made-of
