{{/* What each process may do, written from the calls that it makes. */}}

{{/* The operator, in each namespace that it serves. */}}
{{- define "penstock.operatorRules" -}}
# People's wishes; only the finalizer and, through the scale subresource, the count are written.
- apiGroups: [penstock.dev]
  resources: [models]
  verbs: [get, list, watch, patch]
- apiGroups: [penstock.dev]
  resources: [routes, tenants]
  verbs: [get, list, watch]
- apiGroups: [penstock.dev]
  resources: [models/status, routes/status, tenants/status]
  verbs: [get, patch]
- apiGroups: [penstock.dev]
  resources: [models/scale]
  verbs: [get, patch]
# Owner references that block deletion need this where the admission plugin OwnerReferencesPermissionEnforcement runs.
- apiGroups: [penstock.dev]
  resources: [models/finalizers]
  verbs: [update]
# One Ray cluster a namespace, and a second one while Ray is upgraded.
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [ray.io]
  resources: [rayclusters/finalizers]
  verbs: [update]
# Why a replica does not start: what the kubelet and the scheduler say of its pod.
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [get, list, watch]
# Replicas, as gateways find them.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch, delete]
# What people changed, as gateways find it: this one ConfigMap in each namespace.
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [penstock-routing]
  verbs: [get, list, watch, create, patch, delete]
# Who may reach the pool's pods: this one NetworkPolicy in each namespace.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  resourceNames: [penstock-engines]
  verbs: [get, list, watch, create, patch, delete]
# Tenants' keys: Secrets with the label penstock.dev/api-keys are watched, others are read by the names that Tenants
# refer to. RBAC knows no labels, so that this is the right to read every Secret of the namespaces that are served:
# serve only some (rbac.namespaced) where that is too much.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.engine.cache.claim }}
# Downloads of weights into the cache, ahead of the replicas that need them.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
{{- end }}
{{- end }}

{{/* The operator, over the cluster, when it serves all namespaces. */}}
{{- define "penstock.operatorClusterRules" -}}
- apiGroups: [penstock.dev]
  resources: [acceleratorclasses]
  verbs: [get, list, watch, create, patch]
- apiGroups: [penstock.dev]
  resources: [acceleratorclasses/status]
  verbs: [get, patch]
# Which nodes have which accelerators, and how many are free.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
{{- end }}

{{/* A gateway, in each namespace that is served: it reads, and it reads this only. */}}
{{- define "penstock.gatewayRules" -}}
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [penstock-routing]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- end }}

{{/* Role or ClusterRole with its binding. Takes a dict: root, component, namespace (empty: cluster), suffix, rules. */}}
{{- define "penstock.roleAndBinding" -}}
{{- $kind := ternary "Role" "ClusterRole" (ne .namespace "") }}
{{- $name := ternary (printf "%s-%s%s" (include "penstock.fullname" .root) .component .suffix) (include "penstock.clusterName" (list .root (printf "%s%s" .component .suffix))) (ne .namespace "") }}
{{- if and .namespace (ne .namespace .root.Release.Namespace) }}
{{- $name = include "penstock.clusterName" (list .root (printf "%s%s" .component .suffix)) }}
{{- end -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "penstock.labels" (list .root .component) | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "penstock.labels" (list .root .component) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "penstock.serviceAccountName" (list .root .component) }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
