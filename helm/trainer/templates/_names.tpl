{{/* The name of all that a release has one of: the release's, which a namespace has once. */}}
{{- define "trainer.name" -}}
{{- .Release.Name -}}
{{- end }}

{{/* What changes here, changes the workload's name: Kubernetes lets nobody change a Job's template,
     JobSet nothing of the Job inside, and Kueue no queue of a run that it has admitted.
     Short enough for the names of the pods that follow from it: JobSet's webhook lets
     NAME-worker-0-4095-abcde have 63 characters. */}}
{{- define "trainer.workloadName" -}}
{{- $spec := include "trainer.jobSpec" (dict "root" . "workload" "") | fromYaml -}}
{{- if eq .Values.workload.kind "Job" -}}
{{- $spec = omit $spec "activeDeadlineSeconds" -}}
{{- end -}}
{{- $hash := printf "%s %s %s %s" .Release.Name .Values.workload.kind .Values.kueue.queueName (toJson $spec) | sha256sum | trunc 8 -}}
{{- printf "%s-%s" (.Release.Name | trunc 34 | trimSuffix "-") $hash -}}
{{- end }}

{{/* The pods' names without their index. workload: the name of the Job or JobSet. */}}
{{- define "trainer.podPrefix" -}}
{{- .workload }}{{ if eq .root.Values.workload.kind "JobSet" }}-worker-0{{ end -}}
{{- end }}

{{- define "trainer.leader" -}}
{{- $workload := include "trainer.workloadName" . -}}
{{- include "trainer.podPrefix" (dict "root" . "workload" $workload) }}-0.{{ include "trainer.name" . }}
{{- end }}

{{/* Its content cannot change under the feet of pods that still run with it. */}}
{{- define "trainer.configMapName" -}}
{{- printf "%s-%s" (include "trainer.name" .) (include "trainer.configData" . | sha256sum | trunc 8) -}}
{{- end }}

{{/* Not what a message would have a user call one: helm deletes its own when another is named. */}}
{{- define "trainer.ownSecretName" -}}
{{- include "trainer.name" . }}-group
{{- end }}

{{- define "trainer.secretName" -}}
{{- .Values.gathering.existingSecret | default (include "trainer.ownSecretName" .) -}}
{{- end }}

{{- define "trainer.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "trainer.name" .) "default" .Values.serviceAccount.enabled) -}}
{{- end }}

{{- define "trainer.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "trainer.selectorLabels" . }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Of all that belongs to one run. */}}
{{- define "trainer.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of the pods that train. */}}
{{- define "trainer.workerLabels" -}}
{{ include "trainer.selectorLabels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "trainer.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is empty: build and push the image (make image push IMAGE=REGISTRY/trainer), then install with --set image.repository=REGISTRY/trainer" $image.repository -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{- $suffix := ternary "-gpu" "" (gt (int .Values.gpu.count) 0) -}}
{{ $repository }}:{{ $image.tag | default (printf "%s%s" .Chart.AppVersion $suffix) }}
{{- end -}}
{{- end }}
