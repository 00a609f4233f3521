{{/* What all workloads share. */}}

{{/* Full image reference; a digest goes before a tag. Takes (list $ image). */}}
{{- define "penstock.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $registry := default $root.Values.image.registry $image.registry }}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{/* Takes (list $ image). */}}
{{- define "penstock.pullPolicy" -}}
{{- default (index . 0).Values.image.pullPolicy (index . 1).pullPolicy }}
{{- end }}

{{/* Fields of a pod that say where and as whom it runs. Takes (list $ component). */}}
{{- define "penstock.placement" -}}
{{- $root := index . 0 }}
{{- $workload := index $root.Values (index . 1) }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $workload.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $workload.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $workload.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $workload.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range $workload.topologySpreadConstraints }}
  - {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "penstock.selectorLabels" (list $root (index $ 1)) | nindent 8 }}
    {{- end }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "penstock.selectorLabels" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* The level `restricted` of Pod Security, and a file system that cannot be written. */}}
{{- define "penstock.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
{{- with .Values.podSecurity.fsGroup }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "penstock.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Annotations of a pod. Takes (list $ component). */}}
{{- define "penstock.podAnnotations" -}}
kubectl.kubernetes.io/default-container: {{ index . 1 }}
{{- with (index (index . 0).Values (index . 1)).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod. Takes (list $ component). */}}
{{- define "penstock.podLabels" -}}
{{- include "penstock.labels" . }}
{{- with (index (index . 0).Values (index . 1)).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* base64 of a value that is made once: the one that the Secret has in the cluster, else a new random one.
     Takes (list $ secret key length). */}}
{{- define "penstock.madeOnce" -}}
{{- $root := index . 0 }}
{{- $old := lookup "v1" "Secret" $root.Release.Namespace (index . 1) }}
{{- $data := dig "data" (dict) ($old | default (dict)) | default (dict) }}
{{- if hasKey $data (index . 2) }}
{{- index $data (index . 2) }}
{{- else }}
{{- randAlphaNum (int (index . 3)) | b64enc }}
{{- end }}
{{- end }}

{{/* Whether there is a Redis for the usage stream; empty when not. */}}
{{- define "penstock.hasRedis" -}}
{{- if or .Values.redis.enabled .Values.redis.existingSecret }}yes{{ end }}
{{- end }}

{{/* Where a workload finds the URL of Redis, password included: a file, read again for every connection.
     Takes (list $ prefix-of-variables). */}}
{{- define "penstock.redisVariables" -}}
{{- $root := index . 0 }}
{{- if include "penstock.hasRedis" $root }}
- name: {{ index . 1 }}_REDIS_URL_FILE
  value: /etc/penstock/redis/url
- name: {{ index . 1 }}_STREAM__NAME
  value: {{ $root.Values.redis.streamName | quote }}
{{- end }}
{{- end }}

{{- define "penstock.redisMount" -}}
{{- if include "penstock.hasRedis" . }}
- {name: redis, mountPath: /etc/penstock/redis, readOnly: true}
{{- end }}
{{- end }}

{{- define "penstock.redisVolume" -}}
{{- if include "penstock.hasRedis" . }}
- name: redis
  secret:
    secretName: {{ include "penstock.redisSecret" . }}
    defaultMode: 0440
    items: [{key: {{ .Values.redis.existingSecretKeys.url }}, path: url}]
{{- end }}
{{- end }}

{{/* Namespaces that are served; empty means all. As a JSON list. */}}
{{- define "penstock.namespaces" -}}
{{- if .Values.rbac.namespaced }}
{{- default (list .Release.Namespace) .Values.rbac.namespaces | uniq | toJson }}
{{- else }}
{{- list | toJson }}
{{- end }}
{{- end }}

{{/* Volumes of the pepper and of the admin token, under file names that do not depend on the Secrets' keys. */}}
{{- define "penstock.secretVolumes" -}}
- name: pepper
  secret:
    secretName: {{ include "penstock.pepperSecret" . }}
    defaultMode: 0440
    items: [{key: {{ .Values.pepper.key }}, path: pepper}]
- name: admin-token
  secret:
    secretName: {{ include "penstock.adminTokenSecret" . }}
    defaultMode: 0440
    items: [{key: {{ .Values.adminToken.key }}, path: token}]
{{- end }}

{{/* A ServiceAccount. Takes (list $ component). */}}
{{- define "penstock.serviceAccount" -}}
{{- $account := (index (index . 0).Values (index . 1)).serviceAccount }}
{{- if $account.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "penstock.serviceAccountName" . }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    {{- include "penstock.labels" . | nindent 4 }}
  {{- with $account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget. Takes (list $ component copies). */}}
{{- define "penstock.pdb" -}}
{{- $pdb := (index (index . 0).Values (index . 1)).pdb }}
{{- if and $pdb.enabled (gt (int (index . 2)) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "penstock.componentName" . }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    {{- include "penstock.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $pdb.maxUnavailable }}
  # A pod that is not ready guards nothing, and must not stop a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "penstock.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* What a command of curl needs beside the address. */}}
{{- define "penstock.keyHeader" -}}
{{- if not .Values.gateway.anonymousTenant }}-H "Authorization: Bearer $KEY"{{ end }}
{{- end }}
