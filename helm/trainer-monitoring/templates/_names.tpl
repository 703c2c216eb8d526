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

{{/* Rules in rules/ are written for Prometheus: values are put in place of ${…} alone. */}}
{{- define "monitoring.rules" -}}
{{- $text := printf "%s\n%s" (.Files.Get "rules/recorded.yaml") (.Files.Get "rules/alerts.yaml") -}}
{{- $ofRun := "* on (job, namespace, pod, instance) group_left (run) trainer_run_info" -}}
{{- $text = $text | replace "${ofRun}" $ofRun | replace "${window}" .Values.rules.window -}}
{{- range $alert, $settings := .Values.rules.alerts -}}
{{- range $key, $value := $settings -}}
{{- $text = $text | replace (printf "${%s.%s}" $alert $key) (toString $value) -}}
{{- end -}}
{{- end -}}
{{- $rules := list -}}
{{- range $text | fromYamlArray -}}
{{- if not (has .alert $.Values.rules.disabled) -}}
{{- if .alert -}}
{{- $_ := set .annotations "runbook_url" (printf "%s#%s" $.Values.rules.runbook (lower .alert)) -}}
{{- end -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
groups:
  - name: trainer
    interval: {{ .Values.rules.interval }}
    rules:
      {{- toYaml $rules | nindent 6 }}
{{- end }}
