{{/* Spec of the Job, alone or inside of a JobSet; but for `suspend`, which may change. */}}
{{- define "trainer.jobSpec" -}}
{{- $root := .root -}}
{{- $codes := $root.Files.Get "files/exit-codes.yaml" | fromYaml -}}
completionMode: Indexed
completions: {{ $root.Values.workers }}
parallelism: {{ $root.Values.workers }}
backoffLimit: {{ mul (include "trainer.setting" (list $root "run" "max_restarts")) $root.Values.workers }}
# A pod that still ends must not meet its successor of the same index.
podReplacementPolicy: Failed
activeDeadlineSeconds: {{ $root.Values.activeDeadlineSeconds | int }}
podFailurePolicy:
  rules:
    # First of all: an evicted or preempted pod is no failure, whatever it ended with.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    {{- range $action := list "FailJob" "Ignore" }}
    - action: {{ $action }}
      onExitCodes:
        containerName: trainer
        operator: In
        values: {{ index $codes $action | toJson }}
    {{- end }}
template:
  {{- include "trainer.podTemplate" . | nindent 2 }}
{{- end }}
