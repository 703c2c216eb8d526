{{/* Where the pods of a run and of its test may go. */}}
{{- define "trainer.placement" -}}
{{- $selector := deepCopy .Values.nodeSelector -}}
{{- $tolerations := .Values.tolerations -}}
{{- if .Values.spot.enabled -}}
{{- $_ := set $selector .Values.spot.label "true" -}}
{{- $tolerations = append $tolerations (dict "key" .Values.spot.label "operator" "Equal" "value" "true" "effect" "NoSchedule") -}}
{{- end -}}
{{- with .Values.gpu -}}
{{- if .count -}}
{{- $tolerations = append $tolerations (dict "key" .resource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- if and .count .type -}}
{{- $_ := set $selector .typeLabel .type -}}
{{- end -}}
{{- end -}}
{{- include "trainer.present" (dict "nodeSelector" $selector "tolerations" $tolerations "affinity" .Values.affinity) -}}
{{- end }}

{{/* The same, and what only those that train have. */}}
{{- define "trainer.scheduling" -}}
{{- include "trainer.placement" . }}
{{- $spread := list -}}
{{- if .Values.topologySpread.enabled -}}
{{- $labels := include "trainer.workerLabels" . | fromYaml -}}
{{- $spread = list (dict "maxSkew" 1 "topologyKey" .Values.topologySpread.topologyKey "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" $labels)) -}}
{{- end -}}
{{- include "trainer.present" (dict "priorityClassName" .Values.priorityClassName "topologySpreadConstraints" $spread) -}}
{{- end }}

{{/* Those of these fields that are not empty. */}}
{{- define "trainer.present" -}}
{{- range $key, $value := . }}
{{- if $value }}
{{ dict $key $value | toYaml }}
{{- end }}
{{- end }}
{{- end }}
