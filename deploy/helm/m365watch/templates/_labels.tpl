{{/* The labels of a worker: called with the chart's root and the worker's name. */}}
{{- define "m365watch.labels" -}}
app.kubernetes.io/name: m365watch
app.kubernetes.io/instance: {{ index . 0 }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The name of all that a worker has, called with the same two: one of more than the 52 characters that Kubernetes
     allows a StatefulSet ends in a hash, so that two that begin alike stay two. */}}
{{- define "m365watch.name" -}}
{{- $full := printf "%s-%s" (index . 0) (index . 1) -}}
{{- if gt (len $full) 52 -}}
{{- $full = printf "%s-%s" (trunc 43 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full -}}
{{- end }}
