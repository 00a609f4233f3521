{{/* Settings of the gateway that come from values: penstock_gateway/settings.py. */}}
{{- define "penstock.gatewayVariables" -}}
- name: PENSTOCK_GATEWAY_DATA_HOST
  value: 0.0.0.0
- name: PENSTOCK_GATEWAY_ADMIN_HOST
  value: 0.0.0.0
- name: PENSTOCK_GATEWAY_ADMIN_TOKEN_FILE
  value: /etc/penstock/admin-token/token
- name: PENSTOCK_GATEWAY_PEPPER_FILE
  value: /etc/penstock/pepper/pepper
- name: PENSTOCK_GATEWAY_SPOOL_DIRECTORY
  value: /var/lib/penstock/spool
- name: PENSTOCK_GATEWAY_SPOOL_LIMIT_BYTES
  value: {{ mul .Values.gateway.spoolMebibytes 1048576 | quote }}
- name: PENSTOCK_GATEWAY_KUBERNETES__ENABLED
  value: "true"
- name: PENSTOCK_GATEWAY_KUBERNETES__NAMESPACES
  value: {{ include "penstock.namespaces" . | quote }}
- name: PENSTOCK_GATEWAY_KUBERNETES__CACHE_FILE
  value: /var/lib/penstock/known.json
{{- with .Values.gateway.anonymousTenant }}
- name: PENSTOCK_GATEWAY_KUBERNETES__ANONYMOUS_TENANT
  value: {{ . | quote }}
{{- end }}
- name: PENSTOCK_GATEWAY_ACCESS_LOG
  value: {{ .Values.gateway.accessLog | quote }}
- name: PENSTOCK_GATEWAY_DEADLINES__DRAIN_S
  value: {{ .Values.gateway.drainSeconds | quote }}
- name: PENSTOCK_GATEWAY_DEADLINES__DRAIN_DELAY_S
  value: {{ .Values.gateway.drainDelaySeconds | quote }}
{{- end }}
