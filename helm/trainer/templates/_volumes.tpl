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
