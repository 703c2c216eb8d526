{{/* One key of the trainer's configuration, or its default there: (list . SECTION KEY). */}}
{{- define "trainer.setting" -}}
{{- $root := index . 0 -}}
{{- $section := index . 1 -}}
{{- $key := index . 2 -}}
{{- $defaults := $root.Files.Get "files/config-defaults.json" | fromJson -}}
{{- dig $section $key (dig $section $key "" $defaults) $root.Values.config -}}
{{- end }}

{{/* Arguments of `trainer train` and `trainer run`: the file, and what a pod has to add to it. */}}
{{- define "trainer.configArguments" -}}
- --config=/etc/trainer/run.yaml
{{- if not (dig "run" "dir" "" .Values.config) }}
- {{ include "trainer.runDir" . | printf "--set=run.dir=%s" | quote }}
{{- else if not (dig "run" "name" "" .Values.config) }}
{{- /* Folders of two runs may end alike, and alerts know a run by its name. Quoted, as one may be `on`. */}}
- {{ printf "--set=run.name='%s'" .Release.Name | quote }}
{{- end }}
{{- if not (dig "metrics" "address" "" .Values.config) }}
- --set=metrics.address=0.0.0.0
{{- end }}
{{- if and .Values.gpu.count (not (dig "cluster" "device" "" .Values.config)) }}
- --set=cluster.device=gpu
{{- end }}
{{- if and .Values.gpu.count (not (dig "cluster" "replicas" "" .Values.config)) }}
- --set=cluster.replicas={{ .Values.gpu.count }}
{{- end }}
{{- end }}

{{- define "trainer.runDir" -}}
{{- $base := required "neither config.run.dir nor run.base says where the run lives: --set run.base=gs://BUCKET/runs, or a folder of a claim (claims)" (dig "run" "dir" .Values.run.base .Values.config) -}}
{{- if not (or (regexMatch "^gs://[^/]" $base) (include "trainer.isKept" (list . $base))) -}}
{{- fail (printf "the run would live in %s, which a pod loses with itself or cannot write to: use gs://BUCKET/PREFIX, or a folder of a claim that is not readOnly (claims)" $base) -}}
{{- end -}}
{{- if dig "run" "dir" "" .Values.config -}}
{{ $base }}
{{- else -}}
{{ trimSuffix "/" $base }}/{{ .Release.Namespace }}/{{ .Release.Name }}
{{- end -}}
{{- end }}

{{/* Whether a folder is on a volume that outlives the pod and can be written to: (list . FOLDER).
     Of mounts one in another, the innermost holds it. */}}
{{- define "trainer.isKept" -}}
{{- $root := index . 0 -}}
{{- $folder := index . 1 | clean -}}
{{- $mount := dict "mountPath" "" "readOnly" true -}}
{{- range include "trainer.volumeMounts" $root | fromYamlArray -}}
{{- $path := clean .mountPath -}}
{{- if and (hasPrefix (printf "%s/" $path) (printf "%s/" $folder)) (gt (len $path) (len $mount.mountPath)) -}}
{{- $mount = merge (dict "mountPath" $path) . -}}
{{- end -}}
{{- end -}}
{{- $isKept := not $mount.readOnly -}}
{{- range include "trainer.volumes" $root | fromYamlArray -}}
{{- if eq .name (get $mount "name") -}}
{{- $short := pick . "emptyDir" "configMap" "secret" "downwardAPI" "projected" "ephemeral" -}}
{{- $isKept = and $isKept (not $short) (not (dig "persistentVolumeClaim" "readOnly" false .)) -}}
{{- end -}}
{{- end -}}
{{- if $isKept }}true{{ end -}}
{{- end }}

{{/* Files below /etc/trainer, by key of the ConfigMap. */}}
{{- define "trainer.configData" -}}
{{- $files := dict "run.yaml" (toYaml .Values.config) -}}
{{- if .Values.script.source -}}
{{- $_ := set $files (include "trainer.script" . | base) .Values.script.source -}}
{{- else if and .Values.recipe.source (not .Values.script.path) -}}
{{- $_ := set $files (printf "%s.py" (include "trainer.recipeModule" .)) .Values.recipe.source -}}
{{- end -}}
{{- $size := values $files | join "" | len -}}
{{- if gt $size 1048576 -}}
{{- fail (printf "the configuration and your source have %d bytes, of which a ConfigMap holds 1048576: bring the source in an image (script.path, or config.recipe without recipe.source)" $size) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end }}

{{- define "trainer.recipeModule" -}}
{{- $recipe := .Values.config.recipe | default "" -}}
{{- if not (regexMatch "^[A-Za-z_][A-Za-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$" $recipe) -}}
{{- fail (printf "recipe.source is given, but config.recipe is %q: name its module and object, as in my_recipe:recipe" $recipe) -}}
{{- end -}}
{{- $module := $recipe | splitList ":" | first -}}
{{- if has $module (list "trainer" "keras" "tensorflow" "numpy" "yaml" "click" "pydantic" "google") -}}
{{- fail (printf "recipe.source as a module %s would hide the %s that the trainer needs: another name in config.recipe, as in my_recipe:recipe" $module $module) -}}
{{- end -}}
{{- $module -}}
{{- end }}

{{- define "trainer.isServed" -}}
{{- if eq (include "trainer.setting" (list . "metrics" "enabled")) "true" }}true{{ end -}}
{{- end }}

{{/* Parameters of the recipe that are texts and look like fractions, as --set makes them:
     (list PATH PARAMETERS). Only the recipe knows whether a text is meant. */}}
{{- define "trainer.fractionsAsText" -}}
{{- $path := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- include "trainer.fractionsAsText" (list (printf "%s.%s" $path $key) $value) -}}
{{- else if and (kindIs "string" $value) (regexMatch "^[-+]?[0-9]*([.][0-9]+|[0-9][eE][-+]?[0-9]+)([eE][-+]?[0-9]+)?$" $value) }}
{{ $path }}.{{ $key }} is the text "{{ $value }}". For a number: --set-json '{{ $path }}.{{ $key }}={{ $value }}'
{{- end -}}
{{- end -}}
{{- end }}

{{/* The last save within train.grace_seconds, and then the agent's own end. */}}
{{- define "trainer.graceSeconds" -}}
{{- include "trainer.setting" (list . "train" "grace_seconds") | float64 | ceil | int | add 20 -}}
{{- end }}
