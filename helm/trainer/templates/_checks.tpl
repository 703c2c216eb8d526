{{/* What no schema can say. */}}
{{- define "trainer.checks" -}}
{{- include "trainer.checkScript" . -}}
{{- include "trainer.checkObjects" . -}}
{{- include "trainer.checkPods" . -}}
{{- if not (include "trainer.script" .) -}}
{{- include "trainer.checkData" . -}}
{{- end -}}
{{- include "trainer.checkConfig" . -}}
{{- end }}

{{/* Names and labels, and who suspends. */}}
{{- define "trainer.checkObjects" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release's name %q is also that of a Service: use letters, digits and dashes, a letter first" .Release.Name) -}}
{{- end -}}
{{- range $where, $labels := dict "labels" .Values.labels "podLabels" .Values.podLabels "podMonitor.labels" .Values.podMonitor.labels -}}
{{- range $key, $_ := $labels -}}
{{- if regexMatch "^(app[.]kubernetes[.]io/(name|instance|version|component|managed-by)|helm[.]sh/chart|kueue[.]x-k8s[.]io/queue-name)$" $key -}}
{{- fail (printf "%s: %s is a label that the chart sets itself: leave it out" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.suspend .Values.kueue.queueName -}}
{{- fail (printf "suspend: true, but Kueue starts and suspends what waits in its queue %s: kubectl --namespace %s patch workload NAME --type=merge --patch='{\"spec\":{\"active\":false}}', whose NAME kubectl --namespace %s get workloads shows" .Values.kueue.queueName .Release.Namespace .Release.Namespace) -}}
{{- end -}}
{{- if eq .Values.gathering.existingSecret (include "trainer.ownSecretName" .) -}}
{{- fail (printf "gathering.existingSecret %s is the chart's own secret, which helm would delete: leave it empty to keep that one, or name another" .Values.gathering.existingSecret) -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (not (include "trainer.isServed" .)) -}}
{{- fail "podMonitor.enabled, but there is no page to scrape: config.metrics.enabled is false" -}}
{{- end -}}
{{- end }}

{{/* What is mounted and told. */}}
{{- define "trainer.checkPods" -}}
{{- if not (regexMatch "^(([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9._/-]+)?$" .Values.image.repository) -}}
{{- fail (printf "image.repository %s is no name of an image: give it without a scheme, and its tag or digest as image.tag or image.digest" .Values.image.repository) -}}
{{- end -}}
{{- $_ := include "trainer.runDir" . -}}
{{- $volumes := list -}}
{{- range include "trainer.volumes" . | fromYamlArray -}}
{{- if has .name $volumes -}}
{{- fail (printf "two volumes are called %s: give yours another name (volumes, volumeMounts)" .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- $paths := list "/etc/trainer-gathering" -}}
{{- range include "trainer.volumeMounts" . | fromYamlArray -}}
{{- $path := clean .mountPath -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "volumeMounts: there is no volume %s: name one of volumes" .name) -}}
{{- end -}}
{{- if has $path $paths -}}
{{- fail (printf "%s would be mounted twice: another mountPath in claims or volumeMounts" $path) -}}
{{- end -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if or (and (hasPrefix "TRAINER_" .name) (ne .name "TRAINER_DEBUG")) (and $.Values.recipe.source (eq .name "PYTHONPATH")) -}}
{{- fail (printf "extraEnv: %s is the chart's to set: leave it out" .name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether the pods can share the data alike; what a script's `trainer.fit` is given, only they see. */}}
{{- define "trainer.checkData" -}}
{{- $streams := include "trainer.setting" (list . "data" "streams") | int -}}
{{- if mod $streams (int .Values.workers) -}}
{{- fail (printf "config.data.streams %d cannot be shared by %d workers: use a multiple of %d, and one of that for config.data.batch_size" $streams (int .Values.workers) (int .Values.workers)) -}}
{{- end -}}
{{- if mod .Values.config.data.batch_size $streams -}}
{{- fail (printf "config.data.batch_size %d cannot be split over %d streams: use a multiple of %d" (int .Values.config.data.batch_size) $streams $streams) -}}
{{- end -}}
{{- end }}

{{/* The configuration, where it does not fit pods. */}}
{{- define "trainer.checkConfig" -}}
{{- $range := include "trainer.setting" (list . "cluster" "port_range") -}}
{{- $ends := splitList "-" $range -}}
{{- $first := first $ends | int -}}
{{- $last := last $ends | int -}}
{{- if not (and (regexMatch "^[0-9]{1,5}-[0-9]{1,5}$" $range) (ge $first 1024) (le $first $last) (le $last 65535)) -}}
{{- fail (printf "config.cluster.port_range %s must be FIRST-LAST, as 20000-20999, of ports from 1024 to 65535" $range) -}}
{{- end -}}
{{- $gathering := include "trainer.setting" (list . "cluster" "port") | int -}}
{{- if and (ge $gathering $first) (le $gathering $last) -}}
{{- fail (printf "config.cluster.port %d is one of config.cluster.port_range %s: use another" $gathering $range) -}}
{{- end -}}
{{- $least := include "trainer.setting" (list . "cluster" "min_workers") | int -}}
{{- if gt $least (int .Values.workers) -}}
{{- fail (printf "config.cluster.min_workers %d is more than the %d workers there are" $least (int .Values.workers)) -}}
{{- end -}}
{{- if include "trainer.isServed" . -}}
{{- include "trainer.checkPage" . -}}
{{- end -}}
{{- $lease := include "trainer.setting" (list . "run" "lease_seconds") | float64 -}}
{{- $grace := include "trainer.graceSeconds" . | int -}}
{{- if lt (mulf 2 $lease) (float64 $grace) -}}
{{- fail (printf "config.run.lease_seconds %v is too short: after an upgrade the new pods wait twice as long for the old ones, which have %d s to end: use %v or more" $lease $grace (ceil (divf $grace 2))) -}}
{{- end -}}
{{- end }}

{{/* Whether probes and Prometheus reach /metrics. */}}
{{- define "trainer.checkPage" -}}
{{- $port := include "trainer.setting" (list . "metrics" "port") | int -}}
{{- if not $port -}}
{{- fail "config.metrics.port 0 is any port, and nobody could scrape it: leave it out, or name one" -}}
{{- end -}}
{{- $range := include "trainer.setting" (list . "cluster" "port_range") -}}
{{- $ends := splitList "-" $range -}}
{{- if and (ge $port (int (first $ends))) (le $port (int (last $ends))) -}}
{{- fail (printf "config.metrics.port %d is one of config.cluster.port_range %s: use another" $port $range) -}}
{{- end -}}
{{- if eq $port (include "trainer.setting" (list . "cluster" "port") | int) -}}
{{- fail (printf "config.metrics.port %d is also config.cluster.port: use another" $port) -}}
{{- end -}}
{{- $address := dig "metrics" "address" "" .Values.config -}}
{{- if regexMatch "^(127[.].*|localhost|::1)$" $address -}}
{{- fail (printf "config.metrics.address %s is reached from inside of the pod alone, and no pod would be ready: leave it out" $address) -}}
{{- end -}}
{{- end }}
