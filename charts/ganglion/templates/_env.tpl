{{- /* What the operator's configuration reads; `python -m ganglion_operator --help` names all. */ -}}
{{- define "ganglion.operatorEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: GANGLION_OPERATOR_NAMESPACES, value: {{ join "," .Values.watchNamespaces | quote }}}
- {name: GANGLION_OPERATOR_AGENT_IMAGE, value: {{ include "ganglion.image" (dict "image" .Values.image.agent "chart" .Chart) | quote }}}
- {name: GANGLION_OPERATOR_AGENT_IMAGE_PULL_POLICY, value: {{ .Values.image.agent.pullPolicy | quote }}}
- {name: GANGLION_OPERATOR_AGENT_IMAGE_PULL_SECRETS, value: {{ join "," .Values.image.agent.pullSecrets | quote }}}
- {name: GANGLION_OPERATOR_CLUSTER_DOMAIN, value: {{ .Values.agents.clusterDomain | quote }}}
- {name: GANGLION_OPERATOR_EVICTION_SECONDS, value: {{ .Values.agents.evictionSeconds | quote }}}
- {name: GANGLION_OPERATOR_AGENT_LOG_LEVEL, value: {{ .Values.agents.logLevel | quote }}}
- {name: GANGLION_OPERATOR_RUNTIME_RESOURCES, value: {{ .Values.agents.runtimeResources | toJson | quote }}}
- {name: GANGLION_OPERATOR_NAMESERVER_RESOURCES, value: {{ .Values.agents.nameserverResources | toJson | quote }}}
- {name: GANGLION_OPERATOR_LEADER_ELECT, value: {{ ternary "true" "false" .Values.leaderElection.enabled | quote }}}
- {name: GANGLION_OPERATOR_LEASE_NAME, value: {{ include "ganglion.fullname" . | quote }}}
- {name: GANGLION_OPERATOR_WORKERS, value: {{ .Values.workers | quote }}}
- {name: GANGLION_OPERATOR_RESYNC_SECONDS, value: {{ .Values.resyncSeconds | quote }}}
- {name: GANGLION_OPERATOR_LOG_FORMAT, value: {{ .Values.log.format | quote }}}
- {name: GANGLION_OPERATOR_LOG_LEVEL, value: {{ .Values.log.level | quote }}}
- {name: GANGLION_OPERATOR_HEALTH_ADDRESS, value: {{ printf ":%v" .Values.port | quote }}}
{{- end -}}
