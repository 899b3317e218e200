{{- define "viaduct.selector" -}}
app.kubernetes.io/name: viaduct
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "viaduct.labels" -}}
{{ include "viaduct.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "viaduct.keySecret" -}}
{{ .Values.tokenKey.existingSecret | default (printf "%s-token-key" .Release.Name) }}
{{- end }}

{{/* What a replica says of itself; the variables are of its own environment. */}}
{{- define "viaduct.advertise" -}}
{{- if .Values.hostNetwork.enabled -}}
$(HOST_IP)
{{- else -}}
{{ required "sip.advertise: an address for each replica, such as 10.0.0.2$(POD_INDEX)" .Values.sip.advertise }}
{{- end -}}
{{- end }}
