{{/* The labels of a worker: called with the chart's root and the worker's name. */}}
{{- define "m365watch.labels" -}}
app.kubernetes.io/name: m365watch
app.kubernetes.io/instance: {{ index . 0 }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}
