{{- define "injector.name" -}}
wechat-sidecar-injector
{{- end }}

{{- define "injector.selector" -}}
app.kubernetes.io/name: {{ include "injector.name" . }}
{{- end }}

{{- define "injector.labels" -}}
{{ include "injector.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "injector.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The CA as the API server wants it: PEM in base64, on one line. */}}
{{- define "injector.caBundle" -}}
{{- with .Values.certificates.caBundle -}}
{{- if contains "-----BEGIN" . -}}
{{ b64enc . }}
{{- else -}}
{{ . | replace "\n" "" | replace " " "" }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What all webhooks have in common, after their selectors. The path is that of the review. */}}
{{- define "injector.webhook" -}}
clientConfig:
  service:
    name: {{ include "injector.name" . }}
    namespace: {{ .Release.Namespace }}
    path: {{ .path }}
    port: 443
  {{- if ne .Values.certificates.source "cert-manager" }}
  {{- with include "injector.caBundle" . }}
  caBundle: {{ . }}
  {{- end }}
  {{- end }}
rules:
  - operations:
      - CREATE
    apiGroups:
      - ""
    apiVersions:
      - v1
    resources:
      - pods
    scope: Namespaced
admissionReviewVersions:
  - v1
sideEffects: None
timeoutSeconds: {{ .Values.timeoutSeconds }}
reinvocationPolicy: IfNeeded
matchPolicy: Equivalent
failurePolicy: {{ .Values.failurePolicy }}
{{- end }}

{{/* Namespaces whose pods are never looked at. */}}
{{- define "injector.excluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    {{- range concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.excludedNamespaces | uniq }}
    - {{ . }}
    {{- end }}
{{- end }}
