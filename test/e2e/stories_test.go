package e2e

// together are the stories that bear company.
func together() []story {
	return []story{
		{"workload", workload},
		{"names", names},
		{"restart", restart},
		{"replace", replace},
		{"scale", scale},
		{"rollout", rollout},
		{"bad-image", badImage},
		{"back-off", backOff},
		{"liveness", liveness},
		{"readiness", readiness},
		{"init", initContainers},
		{"termination", termination},
		{"resources", resources},
		{"logs", logs},
		{"exec", execute},
		{"copy", copyFiles},
		{"port-forward", portForward},
		{"get-watch", getWatch},
		{"describe", describe},
		{"explain", explain},
		{"apply-twice", applyTwice},
		{"server-side-apply", serverSideApply},
		{"cascade-background", cascadeBackground},
		{"cascade-foreground", cascadeForeground},
		{"cascade-orphan", cascadeOrphan},
		{"namespace-deletion", namespaceDeletion},
		{"token", token},
		{"access", access},
		{"certificate", certificate},
		{"bad-input", badInput},
		{"installed-kubectl", installedKubectl},
		{"batch", batch},
		{"quota", quotas},
		{"autoscale", autoscale},
		{"stateful", stateful},
		{"volumes", volumes},
		{"why", whys},
		{"devices", claimed},
	}
}

// alone are the stories that disturb others.
func alone() []story {
	return []story{
		{"kill-during-writes", killDuringWrites},
		{"kill-under-load", killUnderLoad},
		{"kill-during-rollout", killDuringRollout},
		{"names-after-kill", namesAfterKill},
		{"volumes-after-kill", volumesAfterKill},
		{"devices-after-kill", claimedAfterKill},
		{"why-nodes", whyNodes},
	}
}
