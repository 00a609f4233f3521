{{/* Names and labels. Selector labels never change: a Deployment's selector is immutable. */}}

{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters, so that every name made of it is one of a Service. */}}
{{- define "penstock.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "penstock.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes (list $ component). */}}
{{- define "penstock.componentName" -}}
{{- printf "%s-%s" (include "penstock.fullname" (index . 0)) (index . 1) }}
{{- end }}

{{/* Name of a cluster-scoped object: two releases in two namespaces must not meet. Takes (list $ suffix). */}}
{{- define "penstock.clusterName" -}}
{{- $root := index . 0 }}
{{- printf "%s-%s-%s" $root.Release.Namespace (include "penstock.fullname" $root) (index . 1) }}
{{- end }}

{{- define "penstock.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Labels of every object. Takes (list $ component). */}}
{{- define "penstock.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ include "penstock.chart" $root }}
{{ include "penstock.selectorLabels" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes (list $ component). */}}
{{- define "penstock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "penstock.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Name of a component's ServiceAccount. Takes (list $ component). */}}
{{- define "penstock.serviceAccountName" -}}
{{- $account := (index (index . 0).Values (index . 1)).serviceAccount -}}
{{- if $account.create }}
{{- default (include "penstock.componentName" .) $account.name }}
{{- else }}
{{- required (printf "%s.serviceAccount.name: name the ServiceAccount to use, or let the chart create one" (index . 1)) $account.name }}
{{- end }}
{{- end }}

{{- define "penstock.pepperSecret" -}}
{{- default (include "penstock.componentName" (list . "pepper")) .Values.pepper.existingSecret }}
{{- end }}

{{- define "penstock.adminTokenSecret" -}}
{{- default (include "penstock.componentName" (list . "admin-token")) .Values.adminToken.existingSecret }}
{{- end }}

{{- define "penstock.redisSecret" -}}
{{- default (include "penstock.componentName" (list . "redis")) .Values.redis.existingSecret }}
{{- end }}

{{- define "penstock.ledgerClaim" -}}
{{- default (include "penstock.componentName" (list . "ledger")) .Values.ledger.persistence.existingClaim }}
{{- end }}

{{/* Name of the headless Service of the gateways' admin port. */}}
{{- define "penstock.gatewayAdminService" -}}
{{- include "penstock.componentName" (list . "gateway-admin") }}
{{- end }}
