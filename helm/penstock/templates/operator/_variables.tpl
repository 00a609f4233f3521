{{/* Settings of the operator that come from values: penstock_operator/settings.py. */}}
{{- define "penstock.operatorVariables" -}}
- name: PENSTOCK_OPERATOR_WATCH_NAMESPACES
  value: {{ include "penstock.namespaces" . | quote }}
- name: PENSTOCK_OPERATOR_GATEWAY_SERVICE
  value: {{ include "penstock.gatewayAdminService" . }}
- name: PENSTOCK_OPERATOR_GATEWAY_TOKEN_FILE
  value: /etc/penstock/admin-token/token
- name: PENSTOCK_OPERATOR_PEPPER_FILE
  value: /etc/penstock/pepper/pepper
- name: PENSTOCK_OPERATOR_SPOOL_LIMIT_BYTES
  value: {{ mul .Values.operator.spoolMebibytes 1048576 | quote }}
{{- if .Values.ledger.enabled }}
- name: PENSTOCK_OPERATOR_LEDGER_URL
  value: http://{{ include "penstock.componentName" (list . "ledger") }}.{{ .Release.Namespace }}.svc:8090
{{- end }}
- name: PENSTOCK_OPERATOR_LEASE__NAME
  value: {{ include "penstock.componentName" (list . "operator") }}
- name: PENSTOCK_OPERATOR_TICK_S
  value: {{ .Values.operator.tickSeconds | quote }}
- name: PENSTOCK_OPERATOR_STATUS_PERIOD_S
  value: {{ .Values.operator.statusPeriodSeconds | quote }}
{{- with .Values.engine }}
- name: PENSTOCK_OPERATOR_RAY__IMAGE
  value: {{ include "penstock.image" (list $ .image) }}
- name: PENSTOCK_OPERATOR_RAY__IMAGE_PULL_POLICY
  value: {{ include "penstock.pullPolicy" (list $ .image) }}
- name: PENSTOCK_OPERATOR_RAY__IMAGE_PULL_SECRETS
  value: {{ $.Values.image.pullSecrets | toJson | quote }}
- name: PENSTOCK_OPERATOR_RAY__VERSION
  value: {{ .rayVersion | quote }}
- name: PENSTOCK_OPERATOR_RAY__ENGINE_VERSION
  value: {{ .engineVersion | quote }}
- name: PENSTOCK_OPERATOR_RAY__HEAD_CPU
  value: {{ .head.cpu | quote }}
- name: PENSTOCK_OPERATOR_RAY__HEAD_MEMORY
  value: {{ .head.memory | quote }}
- name: PENSTOCK_OPERATOR_RAY__IDLE_TIMEOUT_S
  value: {{ .idleTimeoutSeconds | quote }}
- name: PENSTOCK_OPERATOR_RAY__PULL_AHEAD
  value: {{ .pullAhead | quote }}
- name: PENSTOCK_OPERATOR_RAY__NETWORK_POLICY
  value: {{ $.Values.networkPolicy.enabled | quote }}
{{- with .cache.claim }}
- name: PENSTOCK_OPERATOR_RAY__CACHE_CLAIM
  value: {{ . | quote }}
{{- end }}
{{- with .cache.hostPath }}
- name: PENSTOCK_OPERATOR_RAY__CACHE_HOST_PATH
  value: {{ . | quote }}
{{- end }}
{{- with .gcsRedis.address }}
- name: PENSTOCK_OPERATOR_RAY__GCS_REDIS_ADDRESS
  value: {{ . | quote }}
{{- end }}
{{- with .gcsRedis.secret }}
- name: PENSTOCK_OPERATOR_RAY__GCS_REDIS_SECRET
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.networkPolicy.enabled }}
- name: PENSTOCK_OPERATOR_NETWORK__GATEWAY_LABELS
  value: {{ include "penstock.selectorLabels" (list . "gateway") | fromYaml | toJson | quote }}
- name: PENSTOCK_OPERATOR_NETWORK__OPERATOR_LABELS
  value: {{ include "penstock.selectorLabels" (list . "operator") | fromYaml | toJson | quote }}
- name: PENSTOCK_OPERATOR_NETWORK__RAY_OPERATORS
  value: {{ .Values.networkPolicy.kuberay | default list | toJson | quote }}
- name: PENSTOCK_OPERATOR_NETWORK__MONITORING
  value: {{ .Values.networkPolicy.monitoring | default list | toJson | quote }}
{{- end }}
{{- end }}
