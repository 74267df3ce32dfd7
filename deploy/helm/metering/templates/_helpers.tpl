{{/*
What every name begins with. Without dots: a Service's name is a DNS label, and a worker's is a METERING_INSTANCE.
40 characters leave room for "-worker-NNN", and for the hash that Kubernetes appends to a StatefulSet's name in a label.
*/}}
{{- define "metering.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The labels that pods are found by; they never change over upgrades. Takes root and role. */}}
{{- define "metering.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{/* All labels of an object. Takes root and role. */}}
{{- define "metering.labels" -}}
{{ include "metering.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image of a role: a tag, or a digest in its place. Takes root and role. */}}
{{- define "metering.image" -}}
{{- $own := default dict (index .root.Values .role).image -}}
{{- $repository := default .root.Values.image.repository $own.repository -}}
{{- $tag := default .root.Values.image.tag $own.tag | default .root.Chart.AppVersion -}}
{{- if not $repository }}{{ fail "image.repository: name where you pushed the image that deploy/Dockerfile makes" }}{{ end -}}
{{- printf "%s%s%s" $repository (hasPrefix "sha256:" $tag | ternary "@" ":") $tag -}}
{{- end }}

{{/*
A role's environment: each setting that the role reads (files/settings.yaml) and that is set, and no other role's. What
stands under the role wins over what stands for all. Fails where one of `needed` is not set, before anything is
installed. Takes root, role, needed and, in a StatefulSet, isNamed: its pods keep their names, so each is an instance.
*/}}
{{- define "metering.environment" -}}
{{- $known := .root.Files.Get "files/settings.yaml" | fromYaml -}}
{{- $all := .root.Values -}}
{{- $own := index $all .role -}}
{{- range $variable := index $known.roles .role }}
{{- if eq $variable "METERING_INSTANCE" }}
{{- if $.isNamed }}
- name: {{ $variable }}
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- else if hasKey $known.given $variable }}
- name: {{ $variable }}
  value: {{ index $known.given $variable | quote }}
{{- else if has $variable $known.secrets }}
{{- with get (default dict $own.secrets) $variable | default (get $all.secrets $variable) }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- else }}
{{- if has $variable $.needed }}
{{- fail (printf "%s needs %s: name its Secret under secrets" $.role $variable) }}
{{- end }}
{{- end }}
{{- else }}
{{- $settings := hasKey (default dict $own.settings) $variable | ternary $own.settings $all.settings }}
{{- if hasKey $settings $variable }}
{{- $value := get $settings $variable }}
- name: {{ $variable }}
  {{- /* As JSON a large number has no exponent. */}}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- else if has $variable $.needed }}
{{- fail (printf "%s needs %s: put it under settings" $.role $variable) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether there is a notary, as text or as none: its key is named. */}}
{{- define "metering.signs" -}}
{{- with get (default dict .Values.notary.secrets) "METERING_NOTARY_KEY" | default (get .Values.secrets "METERING_NOTARY_KEY") }}yes{{ end -}}
{{- end }}

{{/* The Secrets that a role has as files, by folder, as YAML. Takes root and role. */}}
{{- define "metering.files" -}}
{{- merge dict (default dict (index .root.Values .role).files) .root.Values.files | toYaml -}}
{{- end }}

{{/*
A pod of a role, under Kubernetes' "restricted" pod security standard: it may write /tmp and nothing else. Takes what
metering.environment takes, and isJob: a job has no port and nothing to be asked.
*/}}
{{- define "metering.pod" -}}
{{- $own := index .root.Values .role -}}
{{- $files := include "metering.files" . | fromYaml -}}
metadata:
  labels:
    {{- include "metering.labels" . | nindent 4 }}
    {{- with merge dict (default dict $own.podLabels) .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge dict (default dict $own.podAnnotations) .root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  # No role asks Kubernetes anything.
  automountServiceAccountToken: false
  # Else a Service named metering-worker would set METERING_WORKER_PORT to "tcp://...", which is a setting of ours.
  enableServiceLinks: false
  {{- with .root.Values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .isJob }}
  restartPolicy: Never
  {{- else }}
  terminationGracePeriodSeconds: {{ .graceSeconds }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "metering.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with get $own $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .role }}
      image: {{ include "metering.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ default (list .role) .args | toJson }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        {{- include "metering.environment" . | nindent 8 }}
      {{- if not .isJob }}
      ports:
        {{- if eq .role "server" }}
        - {name: http, containerPort: 8000}
        {{- end }}
        - {name: status, containerPort: 8001}
      # Alive: its event loop moves. Ready: it does its work, and was not told to stop. Only the first may restart it:
      # it is not ready while Kafka or ClickHouse is away, which a restart does not mend. Three answers in a row have to
      # fail: where a node is short of CPU, one that comes late would take every server out of the Service at once. One
      # that ends is out of it anyway.
      startupProbe:
        httpGet: {path: /livez, port: status}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: status}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: status}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 3
      {{- end }}
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- range $folder, $secret := $files }}
        - {name: {{ $folder }}, mountPath: /etc/metering/{{ $folder }}, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- range $folder, $secret := $files }}
    - name: {{ $folder }}
      secret: {secretName: {{ $secret }}, defaultMode: 0440}
    {{- end }}
{{- end }}

{{/* How many pods of a role may be evicted at once. One that is not ready holds up no drain. Takes root and role. */}}
{{- define "metering.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "metering.name" .root }}-{{ .role }}
  labels:
    {{- include "metering.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "metering.selector" . | nindent 6 }}
{{- end }}

{{/* A role whose pods keep their names: the headless Service that they need, which Prometheus finds them by too. Takes what metering.pod takes. */}}
{{- define "metering.statefulset" -}}
{{- $own := index .root.Values .role -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "metering.name" .root }}-{{ .role }}
  labels:
    {{- include "metering.labels" . | nindent 4 }}
spec:
  clusterIP: None
  # One that is not ready is the one whose metrics are needed.
  publishNotReadyAddresses: true
  selector:
    {{- include "metering.selector" . | nindent 4 }}
  ports:
    - {name: status, port: 8001, targetPort: status}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "metering.name" .root }}-{{ .role }}
  labels:
    {{- include "metering.labels" . | nindent 4 }}
spec:
  serviceName: {{ include "metering.name" .root }}-{{ .role }}
  {{- if not (dig "autoscaling" "enabled" false $own) }}
  replicas: {{ $own.replicas }}
  {{- end }}
  # Pods depend on the group and not on each other; a rollout still replaces one after the other.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "metering.selector" . | nindent 6 }}
  template:
    {{- include "metering.pod" . | nindent 4 }}
---
{{ include "metering.disruption" . }}
{{- end }}
