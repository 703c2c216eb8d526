{{/* Which worker this is. */}}
{{- define "trainer.workerEnv" -}}
{{- $root := .root -}}
{{- $prefix := include "trainer.podPrefix" . -}}
{{- $isJobSet := eq $root.Values.workload.kind "JobSet" -}}
- name: TRAINER_JOB_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['{{ $isJobSet | ternary "jobset.sigs.k8s.io/jobset-uid" "batch.kubernetes.io/controller-uid" }}']
- name: TRAINER_TERMINATION_LOG
  value: /dev/termination-log
- name: TRAINER_NUM_WORKERS
  value: {{ $root.Values.workers | quote }}
{{- if gt (int $root.Values.workers) 1 }}
# JOB_COMPLETION_INDEX comes after these, too late to be part of one.
- name: TRAINER_WORKER_INDEX
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: TRAINER_HOST
  value: {{ $prefix }}-$(TRAINER_WORKER_INDEX).{{ include "trainer.name" $root }}
- name: TRAINER_LEADER
  value: {{ $prefix }}-0.{{ include "trainer.name" $root }}
- name: TRAINER_GROUP_SECRET_FILE
  value: /etc/trainer-gathering/secret
{{- end }}
{{- end }}

{{- define "trainer.env" -}}
{{- if .Values.recipe.source }}
- name: PYTHONPATH
  value: /etc/trainer:/app
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
