{{- define "trainer.podTemplate" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "trainer.workerLabels" $root | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  subdomain: {{ include "trainer.name" $root | quote }}
  {{- include "trainer.podSpec" $root | nindent 2 }}
  {{- with include "trainer.scheduling" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "trainer.graceSeconds" $root }}
  containers:
    - name: trainer
      {{- include "trainer.container" $root | nindent 6 }}
      args:
        - {{ include "trainer.script" $root | empty | ternary "train" "run" }}
        {{- include "trainer.configArguments" $root | nindent 8 }}
        {{- range $values.allowChange }}
        - {{ printf "--allow-change=%s" . | quote }}
        {{- end }}
        {{- with include "trainer.script" $root }}
        {{- toYaml (concat (list "--" .) ($values.script.args | default list)) | nindent 8 }}
        {{- end }}
      env:
        {{- include "trainer.workerEnv" . | nindent 8 }}
        {{- with include "trainer.env" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if include "trainer.isServed" $root }}
      ports:
        - name: metrics
          containerPort: {{ include "trainer.setting" (list $root "metrics" "port") }}
      # Ready is who trains. The agent itself ends a worker that hangs: no liveness probe.
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        periodSeconds: 5
      {{- end }}
      resources:
        {{- include "trainer.resources" $root | nindent 8 }}
      volumeMounts:
        {{- include "trainer.volumeMounts" $root | nindent 8 }}
        {{- if gt (int $values.workers) 1 }}
        - name: gathering
          mountPath: /etc/trainer-gathering
          readOnly: true
        {{- end }}
  volumes:
    {{- include "trainer.volumes" $root | nindent 4 }}
    {{- if gt (int $values.workers) 1 }}
    - name: gathering
      secret:
        secretName: {{ include "trainer.secretName" $root | quote }}
        defaultMode: 0440
        items:
          - key: {{ $values.gathering.key | quote }}
            path: secret
    {{- end }}
{{- end }}

{{/* What the pods of a run and of its test have in common. */}}
{{- define "trainer.podSpec" -}}
serviceAccountName: {{ include "trainer.serviceAccountName" . | quote }}
automountServiceAccountToken: false
# A Service called trainer-x would set TRAINER_X_PORT.
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "trainer.container" -}}
image: {{ include "trainer.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# Of a container that the kernel killed for memory, the end of the log is all there is.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{- define "trainer.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.count -}}
{{- $limits := merge (dict .Values.gpu.resource .Values.gpu.count) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}
