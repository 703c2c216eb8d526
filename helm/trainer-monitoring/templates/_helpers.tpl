{{- define "monitoring.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "monitoring.hasOperator" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule" }}true{{ end -}}
{{- end }}

{{/* Braces of Prometheus' own templates are written as text. */}}
{{- define "monitoring.rules" -}}
groups:
  - name: trainer
    rules:
      - alert: TrainingStalled
        # Of all pods of a run, the one that stepped last.
        expr: |
          time() - max by (namespace, run) (
            trainer_last_step_timestamp_seconds
            * on (instance, pod) group_left (run) trainer_run_info
          ) > {{ .Values.rules.stalledSeconds | int }}
        for: 1m
        labels:
          severity: warning
        annotations:
          summary: Run {{ "{{ $labels.run }}" }} makes no steps
          description: >-
            Run {{ "{{ $labels.run }}" }} in namespace {{ "{{ $labels.namespace }}" }} made its last
            step {{ "{{ $value | humanizeDuration }}" }} ago.
          {{- with .Values.rules.runbook }}
          runbook_url: {{ printf "%s#trainingstalled" . | quote }}
          {{- end }}
{{- end }}
