{{/* The script's file as a pod sees it; empty where a recipe says what is trained. */}}
{{- define "trainer.script" -}}
{{- with .Values.script -}}
{{- if .source }}/etc/trainer/train.py{{ else }}{{ .path }}{{ end -}}
{{- end -}}
{{- end }}

{{/* A recipe or a script says what is trained, one alone. */}}
{{- define "trainer.checkScript" -}}
{{- $script := .Values.script -}}
{{- if and $script.path $script.source -}}
{{- fail (printf "script.path %s and script.source are two scripts: leave one of them empty" $script.path) -}}
{{- end -}}
{{- if include "trainer.script" . -}}
{{- include "trainer.checkScriptConfig" . -}}
{{- else if $script.args -}}
{{- fail "script.args are given, but no script: --set script.path=/app/train.py, a file in the image, or --set-file script.source=train.py" -}}
{{- else if not .Values.config.recipe -}}
{{- fail "nothing says what is trained: config.recipe names a recipe, script.path a script in the image, and --set-file script.source=train.py brings one along" -}}
{{- end -}}
{{- end }}

{{/* Of the configuration what `trainer run` would refuse, for its reasons. */}}
{{- define "trainer.checkScriptConfig" -}}
{{- $config := .Values.config -}}
{{- range $key, $instead := .Files.Get "files/script-keys.json" | fromJson -}}
{{- $words := splitList "." $key -}}
{{- $section := ternary $config (get $config (first $words) | default dict) (eq (len $words) 1) -}}
{{- if hasKey $section (last $words) -}}
{{- fail (printf "config.%s is no key of a script's run: %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- if .Values.recipe.source -}}
{{- fail "recipe.source is given, but a script says what is trained: leave one of them out" -}}
{{- end -}}
{{- end }}
