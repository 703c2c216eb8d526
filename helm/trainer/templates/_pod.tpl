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

{{- define "trainer.volumeMounts" -}}
- name: config
  mountPath: /etc/trainer
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.sharedMemory.enabled }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
{{- range $number, $claim := .Values.claims }}
- name: claim-{{ $number }}
  mountPath: {{ $claim.mountPath | quote }}
  readOnly: {{ $claim.readOnly | default false }}
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "trainer.volumes" -}}
- name: config
  configMap:
    name: {{ include "trainer.configMapName" . }}
- name: tmp
  emptyDir:
    {{- if .Values.tmp.sizeLimit }}
    sizeLimit: {{ .Values.tmp.sizeLimit }}
    {{- else }} {}
    {{- end }}
{{- if .Values.sharedMemory.enabled }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.sharedMemory.sizeLimit }}
{{- end }}
{{- range $number, $claim := .Values.claims }}
- name: claim-{{ $number }}
  persistentVolumeClaim:
    claimName: {{ $claim.claimName | quote }}
    readOnly: {{ $claim.readOnly | default false }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

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
